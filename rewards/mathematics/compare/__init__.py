"""Decides if an answer of any shape says the same as the reference."""

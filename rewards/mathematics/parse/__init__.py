"""Reads the text of an answer into a shape of expressions."""

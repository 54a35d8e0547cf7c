"""Finds the final answer in a text."""

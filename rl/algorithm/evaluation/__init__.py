"""Accuracy on held-out problems, with its interval."""

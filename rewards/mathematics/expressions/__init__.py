"""Expressions, the shapes of answers that hold them, and what they are worth without sympy."""

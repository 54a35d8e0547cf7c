"""Expressions, the shapes of answers that hold them, and what they are worth without sympy.

A `tree` is bounded when it is made. `shapes` are what an answer can be; `evaluate` gives exact rationals and
digits.
"""

"""Decides if two expressions have the same value. sympy is imported here alone."""

"""Reward functions, the user's own too.

A function is found by its name (`find`), recognised by its parameters (`convention`), loaded as a `term` with a
weight that travels to the graders by value, and there called (`call`) with its `arguments`. `scores` checks what it
returned and adds up.
"""

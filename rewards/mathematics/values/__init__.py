"""Decides if two expressions have the same value.

`equality` is the door. It looks at exact numbers, then at digits, which only ever turn answers away, at decimals
that were `rounding` a number, and last asks for a proof: by sympy, whose one door is `symbolic`, and within the
bounds of `size`.
"""

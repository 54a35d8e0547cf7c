"""Decides if the final answer of a text is the reference. `rewards.math_answer` puts the rooms here together."""

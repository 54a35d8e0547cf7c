"""Comparisons of speed, each a module that `bench/speed.py` runs: `run(repeats) -> list[Row]`."""

COMPARISONS = {"rollout": 7, "learner": 7, "neighbour": 5, "step": 7, "full": 3, "trl": 3, "lag": 3}
"""And how often each is repeated."""

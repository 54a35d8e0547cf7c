"""Comparisons of speed, each a module that `bench/speed.py` runs: `run(repeats) -> list[Row]`."""

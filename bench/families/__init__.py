"""The table of families in docs/models.md: ``python -m bench.families`` (see `__main__`)."""

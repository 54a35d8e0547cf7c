"""Base models that learners hold: the one that policies share, made ready for their rows, and frozen ones beside it."""

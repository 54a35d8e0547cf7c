"""Runs programs that a policy wrote, in a sandbox, against tests that they cannot reach."""

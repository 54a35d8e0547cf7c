"""Turns of the policy and answers of an environment, as one chain of tokens."""

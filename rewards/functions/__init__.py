"""Reward functions, the user's own too: found by name, recognised by their parameters, called, and added up."""

"""Passes and steps of several clients on one learner, and the policies that it holds for them."""

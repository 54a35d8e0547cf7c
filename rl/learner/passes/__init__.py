"""Passes of rows through the model, forward and backward: microbatches, logprobs, losses."""

"""The mathematics of RL on language models: advantages, objectives, batches, evaluation, guards against failure."""

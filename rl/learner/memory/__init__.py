"""A learner's memory: what an update takes besides the weights, and the plan that follows."""

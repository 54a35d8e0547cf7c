"""Tools: how the policy is told of them, how its calls are found, and the environment that runs them."""

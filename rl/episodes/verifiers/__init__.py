"""Episodes of `verifiers`, which asks for turns from a process of its own."""

"""A run as a directory: configuration, metrics, checkpoints, its lock and its export."""

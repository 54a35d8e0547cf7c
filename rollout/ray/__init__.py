"""Rollout workers as Ray actors: the handle that is an engine, the actor behind it, its place, and Ray's errors."""

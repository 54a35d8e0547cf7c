"""Parts in the place of vLLM's own, put there when an engine starts; those with `cpu_` in that of its CPU build."""

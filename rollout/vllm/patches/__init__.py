"""What is put in the place of vLLM's own parts: all of it, or its CPU build's (`cpu_`), when an engine starts."""

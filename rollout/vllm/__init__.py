"""The vLLM engine: its start, requests to it and answers from it, and the adapters that it has loaded."""

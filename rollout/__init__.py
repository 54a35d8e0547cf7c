"""Prompts become completions. Knows no answers."""

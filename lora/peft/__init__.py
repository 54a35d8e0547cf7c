"""Adapters apart from any model: their facts, their bytes, and PEFT's directories."""

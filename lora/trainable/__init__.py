"""Trained weights on a base model: adapters put on its layers, TinyLoRA's vectors, or all of the model's own."""

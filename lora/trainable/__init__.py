"""What is trained on a base model: adapters put on its layers, TinyLoRA's vectors, or all of its weights."""

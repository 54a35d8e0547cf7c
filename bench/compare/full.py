"""LoRA against full fine-tuning in the same learner, where it has that mode."""

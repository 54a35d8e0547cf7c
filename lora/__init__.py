"""A base model becomes a trainable low-rank adapter and back. Knows no reinforcement learning."""

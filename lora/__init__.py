"""A base model becomes a trainable low-rank adapter and back. Knows no reinforcement learning.

`types` has the adapter, `config` its settings, and `load` puts a fresh one on a base model. `base` finds and loads base
models, `layers` computes, `trainable` goes on a base and learns, `peft` writes and reads it, and `files` keeps files
whole.
"""

"""Gradients and the optimizer: policies on one base model, on one device or many."""

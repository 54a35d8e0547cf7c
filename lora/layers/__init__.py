"""Modules that a model computes with: linear layers, adapted or in codes, experts, and a batch's way through them."""

"""Losses of completion tokens, elementwise: policy-gradient objectives, their weights, and terms added to them."""

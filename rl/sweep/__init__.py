"""Many policies trained at once on one base model, and the conclusions from them."""

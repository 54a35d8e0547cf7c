"""A problem and a completion become a reward. Knows no tensors."""

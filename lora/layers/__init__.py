"""What a model computes with: linear layers, adapted or in codes, experts, and which adapter a batch goes through."""

"""The torch engine: the plain, slow sampler that every other one is compared with."""

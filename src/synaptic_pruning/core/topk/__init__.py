"""The exact k smallest scores over many tensors."""

"""Networks that prune themselves while they train, in place of dropout."""

__version__ = "0.1.0"

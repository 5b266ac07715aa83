"""Callbacks and pictures, one file a framework; each imports its framework, so import the one you need."""

__all__ = ["plot"]

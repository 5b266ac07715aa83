"""Inference modules that compute with the surviving weights only."""

"""Tests and intervals over blocks of runs."""

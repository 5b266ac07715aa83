"""Compiled kernels, the only place that imports Numba."""

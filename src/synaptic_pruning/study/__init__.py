"""Compare pruning algorithms fairly: arms, cells, runner, results, statistics, plots, report."""

from synaptic_pruning.study.algorithms import ALGORITHMS, DEFAULT, Algorithm, Ramp

__all__ = ["ALGORITHMS", "DEFAULT", "Algorithm", "Ramp"]

"""Tests and intervals over blocks, the independent observations of a study."""

from synaptic_pruning.study.statistics.blocks import block_means, paired
from synaptic_pruning.study.statistics.critical_difference import cliques, critical_difference, nemenyi
from synaptic_pruning.study.statistics.diebold_mariano import DieboldMariano, diebold_mariano, over_series
from synaptic_pruning.study.statistics.non_inferiority import MARGIN, NonInferiority, non_inferior
from synaptic_pruning.study.statistics.paper_statistic import PAPER_NOTE, OverLengths, vos2025_statistic
from synaptic_pruning.study.statistics.rank_tests import (
    ALPHA,
    Friedman,
    Pair,
    against,
    all_pairs,
    average_ranks,
    friedman,
    smallest_p,
    smallest_sample,
    wilcoxon,
)

__all__ = [
    "ALPHA",
    "MARGIN",
    "PAPER_NOTE",
    "DieboldMariano",
    "Friedman",
    "NonInferiority",
    "OverLengths",
    "Pair",
    "against",
    "all_pairs",
    "average_ranks",
    "block_means",
    "cliques",
    "critical_difference",
    "diebold_mariano",
    "friedman",
    "nemenyi",
    "non_inferior",
    "over_series",
    "paired",
    "smallest_p",
    "smallest_sample",
    "vos2025_statistic",
    "wilcoxon",
]

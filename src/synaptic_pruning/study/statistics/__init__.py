"""Tests and intervals over blocks, the independent observations of a study."""

from synaptic_pruning.study.statistics.blocks import CASE, block_means, log_ratios, paired
from synaptic_pruning.study.statistics.comparison_matrix import ComparisonMatrix, Entry, comparison_matrix
from synaptic_pruning.study.statistics.critical_difference import cliques, critical_difference, nemenyi
from synaptic_pruning.study.statistics.diebold_mariano import DieboldMariano, diebold_mariano, over_series
from synaptic_pruning.study.statistics.effect_sizes import (
    ROPE,
    TOP,
    Effect,
    bayesian_signed_rank,
    effect,
    hodges_lehmann,
)
from synaptic_pruning.study.statistics.hypotheses import (
    Hypothesis,
    Judgement,
    RegimeErrors,
    best_by_validation,
    judge,
    power,
    without_each_group,
)
from synaptic_pruning.study.statistics.non_inferiority import MARGIN, NonInferiority, non_inferior
from synaptic_pruning.study.statistics.paper_statistic import PAPER_NOTE, OverLengths, vos2025_statistic
from synaptic_pruning.study.statistics.rank_tests import (
    ALPHA,
    FalseAlarms,
    Friedman,
    Pair,
    against,
    all_pairs,
    average_ranks,
    false_alarms,
    friedman,
    smallest_p,
    smallest_sample,
    wilcoxon,
)

__all__ = [
    "ALPHA",
    "CASE",
    "MARGIN",
    "PAPER_NOTE",
    "ROPE",
    "TOP",
    "ComparisonMatrix",
    "DieboldMariano",
    "Effect",
    "Entry",
    "FalseAlarms",
    "Friedman",
    "Hypothesis",
    "Judgement",
    "NonInferiority",
    "OverLengths",
    "Pair",
    "RegimeErrors",
    "against",
    "all_pairs",
    "average_ranks",
    "bayesian_signed_rank",
    "best_by_validation",
    "block_means",
    "cliques",
    "comparison_matrix",
    "critical_difference",
    "diebold_mariano",
    "effect",
    "false_alarms",
    "friedman",
    "hodges_lehmann",
    "judge",
    "log_ratios",
    "nemenyi",
    "non_inferior",
    "over_series",
    "paired",
    "power",
    "smallest_p",
    "smallest_sample",
    "vos2025_statistic",
    "wilcoxon",
    "without_each_group",
]

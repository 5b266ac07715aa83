"""Test whether an arm is worse by no more than a margin.

A test for a difference does not answer that: with few data sets no difference is significant.
Source: Wellek, Testing Statistical Hypotheses of Equivalence and Noninferiority (2010), signed-rank test of a shift.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synaptic_pruning.study.statistics.blocks import log_ratios
from synaptic_pruning.study.statistics.rank_tests import ALPHA, wilcoxon

MARGIN = 0.005
"""Relative margin of the reports: an error may be 0.5 % larger."""


@dataclass(frozen=True)
class NonInferiority:
    """The outcome of the one-sided test of one arm against another.

    Attributes:
        arm: The arm to judge.
        other: The arm that it may be a little worse than.
        blocks: Number of blocks.
        margin: Largest relative excess of the error of `arm`; 0 asks for superiority.
        difference: Median over blocks of `arm / other - 1`.
        p_value: One-sided Wilcoxon signed-rank test of "the error of `arm` is larger by the margin or more".
        smallest_p: The smallest `p_value` that this number of blocks could have given.
    """

    arm: str
    other: str
    blocks: int
    margin: float
    difference: float
    p_value: float
    smallest_p: float

    @property
    def can_be_established(self) -> bool:
        """Return whether any outcome on so few blocks could have reached `ALPHA`."""
        return self.smallest_p < ALPHA

    @property
    def established(self) -> bool:
        """Return whether this outcome reached `ALPHA`."""
        return self.can_be_established and self.p_value < ALPHA


def non_inferior(table: pd.DataFrame, arm: str, other: str, margin: float = MARGIN) -> NonInferiority:
    """Test whether the error of `arm` exceeds that of `other` by less than `margin`, relatively.

    The test is Wilcoxon's on `log(arm / other) - log(1 + margin)` with the alternative "less than zero". It is one
    test: the p-values of several need a correction.

    Args:
        table: Positive errors, one row per block, one column per arm (`block_means`), at least one row.
        arm: The column to judge.
        other: The column that it may be a little worse than.
        margin: Relative margin, at least 0; with 0 the test is whether `arm` is better.

    Raises:
        ValueError: An arm is no column of the table, the table has no rows, an error is no positive number, or the
            margin is negative.

    Example:
        >>> table = pd.DataFrame({"none": [1.0, 2.0, 4.0, 8.0, 16.0], "synaptic": [1.001, 2.001, 4.0, 8.002, 15.9]})
        >>> found = non_inferior(table, "synaptic", "none")
        >>> found.p_value, found.established, non_inferior(table, "synaptic", "none", margin=0.0).established
        (0.03125, True, False)
    """
    logs = log_ratios(table, arm, other)
    if not margin >= 0 or math.isinf(margin):
        raise ValueError(f"margin: must be a number of at least 0, got {margin}; 0.005 allows errors 0.5 % larger")
    return NonInferiority(
        arm,
        other,
        len(logs),
        margin,
        difference=float(np.median(np.expm1(logs))),
        p_value=wilcoxon(logs - math.log1p(margin), "less"),
        smallest_p=2.0 ** -len(logs),
    )

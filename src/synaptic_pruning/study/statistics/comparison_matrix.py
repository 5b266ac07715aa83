"""Compare every two arms in one matrix whose entries do not depend on which other arms take part.

Average ranks change when an arm joins or leaves; what two arms have against each other does not. Source: Ismail-Fawaz
et al. (2023), arXiv 2305.11921. There differences are those of accuracies; here errors have units, so that differences
are relative and means geometric.
"""

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pandas as pd

from synaptic_pruning.study.statistics.blocks import log_ratios
from synaptic_pruning.study.statistics.rank_tests import wilcoxon


@dataclass(frozen=True)
class Entry:
    """What one arm has against another.

    Attributes:
        difference: Geometric mean over blocks of `arm / other`, minus 1; negative: `arm` has the smaller errors.
        wins: Number of blocks where `arm` has the smaller error.
        ties: Number of blocks where the errors are equal.
        losses: Number of blocks where `arm` has the larger error.
        p_value: Two-sided Wilcoxon signed-rank test on the logarithm of `arm / other`, without a correction, which
            would depend on the other arms.
    """

    difference: float
    wins: int
    ties: int
    losses: int
    p_value: float


@dataclass(frozen=True)
class ComparisonMatrix:
    """Every two arms of a table compared.

    Attributes:
        arms: Arms in the order of their mean logarithmic error, the best first.
        blocks: Number of blocks.
        entries: What an arm has against another, for every ordered pair of two arms.
    """

    arms: tuple[str, ...]
    blocks: int
    entries: dict[tuple[str, str], Entry]


def comparison_matrix(table: pd.DataFrame) -> ComparisonMatrix:
    """Compare every two arms.

    Args:
        table: Positive errors, one row per block, one column per arm (`block_means`), at least one row and two arms.

    Raises:
        ValueError: There are fewer than two arms, no rows, or an error is no positive number.

    Example:
        >>> table = pd.DataFrame({"none": [2.0, 50.0, 3.0], "dropout": [2.0, 25.0, 6.0], "synaptic": [1.0, 25.0, 3.0]})
        >>> matrix = comparison_matrix(table)
        >>> matrix.arms, matrix.entries["synaptic", "none"]
        (('synaptic', 'none', 'dropout'), Entry(difference=-0.37..., wins=2, ties=1, losses=0, p_value=0.5))
    """
    if table.shape[1] < 2:
        raise ValueError(f"table: needs at least two arms to compare, has {[str(arm) for arm in table]}")
    arms = [str(arm) for arm in table]
    entries = {}
    for arm, other in permutations(arms, 2):
        logs = log_ratios(table, arm, other)
        entries[arm, other] = Entry(
            difference=math.expm1(float(logs.mean())),
            wins=int((logs < 0).sum()),
            ties=int((logs == 0).sum()),
            losses=int((logs > 0).sum()),
            p_value=wilcoxon(logs),
        )
    sizes = {arm: float(np.log(table[arm]).mean()) for arm in arms}
    return ComparisonMatrix(tuple(sorted(arms, key=lambda arm: sizes[arm])), len(table), entries)

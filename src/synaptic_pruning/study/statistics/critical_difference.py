"""Compute Nemenyi's test: the critical difference of average ranks, and the groups of arms within it.

The test is kept for its well-known diagram. The reports answer with Wilcoxon's test and Holm's correction
(`rank_tests`), because here the distance of two arms depends on which others take part.
Source: Demšar (JMLR 7, 2006), section 3.2.2.
"""

import math
from collections.abc import Mapping

import pandas as pd
from scipy.stats import studentized_range

from synaptic_pruning.study.statistics.rank_tests import ALPHA


def critical_difference(k: int, n: int, alpha: float = ALPHA) -> float:
    """Return the smallest significant difference of two average ranks.

    The formula is `q · sqrt(k (k + 1) / (6 n))`, q the studentized range's quantile over the square root of two.

    Args:
        k: Number of arms, at least 2.
        n: Number of blocks, at least 2.
        alpha: Family-wise error rate, in (0, 1).

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> round(critical_difference(4, 14), 2)
        1.25
    """
    if k < 2 or n < 2:
        raise ValueError(f"k and n: need at least two arms and two blocks, got k={k} and n={n}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha: must lie between 0 and 1, got {alpha}")
    return float(studentized_range.ppf(1 - alpha, k, math.inf)) * math.sqrt(k * (k + 1) / (12 * n))


def nemenyi(table: pd.DataFrame) -> pd.DataFrame:
    """Return the post-hoc p-values of all pairs of arms.

    Args:
        table: Errors, one row per block, one column per arm.

    Returns:
        A symmetric table arms × arms with ones on its diagonal.

    Example:
        >>> table = pd.DataFrame({"none": [2.0, 3.0, 4.0, 5.0], "synaptic": [1.0, 2.0, 3.0, 4.0]})
        >>> round(float(nemenyi(table).loc["none", "synaptic"]), 4)  # for two arms the sign test's normal approximation
        0.0455
    """
    from scikit_posthocs import posthoc_nemenyi_friedman  # loads seaborn, which takes seconds

    arms = [str(arm) for arm in table]
    values = posthoc_nemenyi_friedman(table.to_numpy(dtype=float)).to_numpy()
    return pd.DataFrame(values, index=arms, columns=arms)


def cliques(ranks: Mapping[str, float], difference: float) -> list[list[str]]:
    """Return the largest groups of two or more arms whose ranks differ by no more than a difference.

    Args:
        ranks: Average rank of every arm.
        difference: Largest difference of two ranks in a group.

    Returns:
        Every group from its best to its worst arm, the group with the best arm first.

    Example:
        >>> cliques({"a": 1.2, "b": 3.5, "c": 2.0, "d": 3.3}, 1.4)
        [['a', 'c'], ['c', 'd'], ['d', 'b']]
        >>> cliques({"a": 1.0, "b": 3.0}, 1.4)
        []
    """
    ordered = sorted(ranks, key=lambda arm: ranks[arm])
    groups: list[list[str]] = []
    reached = 0
    for start, first in enumerate(ordered):
        group = [arm for arm in ordered[start:] if ranks[arm] - ranks[first] <= difference]
        if len(group) > 1 and start + len(group) > reached:  # otherwise the previous group contains it
            reached = start + len(group)
            groups.append(group)
    return groups

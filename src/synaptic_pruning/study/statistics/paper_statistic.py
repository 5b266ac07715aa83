"""Compute the paper's own statistic, for comparison with the paper only: its blocks are window lengths.

Windows of different lengths are cut from one series and share their test targets. The test therefore counts the same
observations several times (pseudo-replication): its p-values are too small and hold for no other data.
"""

from dataclasses import dataclass

import pandas as pd

from synaptic_pruning.study.statistics.rank_tests import Friedman, friedman

PAPER_NOTE = (
    "As in the paper, the blocks of this test are window lengths of one series; they are not independent, so its "
    "p-values are too small (pseudo-replication) and hold for no other data."
)


@dataclass(frozen=True)
class OverLengths:
    """Friedman's test on one data set and model.

    Attributes:
        dataset: Name of the data set.
        model: Name of the model.
        test: The test over window lengths; None with fewer than two lengths or three arms.
    """

    dataset: str
    model: str
    test: Friedman | None


def vos2025_statistic(results: pd.DataFrame, metric: str = "mae") -> list[OverLengths]:
    """Compute Friedman's test for every data set and model; blocks are window lengths, values means over seeds.

    Args:
        results: Paired runs (`paired`).
        metric: Column to rank by; smaller is better.

    Example:
        >>> rows = [(length, arm, i) for length in (1, 3, 7) for i, arm in enumerate(("none", "dropout", "synaptic"))]
        >>> runs = pd.DataFrame(rows, columns=["length", "arm", "mae"]).assign(dataset="a", model="rnn")
        >>> found, = vos2025_statistic(runs)
        >>> round(found.test.p_value, 4), found.test.ranks
        (0.0498, {'none': 1.0, 'dropout': 2.0, 'synaptic': 3.0})
    """
    arms = list(dict.fromkeys(results["arm"]))
    return [
        OverLengths(
            str(dataset),
            str(model),
            friedman(part.groupby(["length", "arm"], sort=False)[metric].mean().unstack("arm")[arms].astype(float)),
        )
        for (dataset, model), part in results.groupby(["dataset", "model"], sort=False)
    ]

"""Series by series: are the forecasts of synaptic pruning better or worse than another arm's, beyond chance?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from synaptic_pruning.study.forecasting.plan import Plan
from synaptic_pruning.study.forecasting.run import read_forecasts
from synaptic_pruning.study.statistics.diebold_mariano import DieboldMariano, over_series
from synaptic_pruning.study.statistics.rank_tests import ALPHA

_FEWEST = 10
"""Forecasts of a series below which nothing is tested."""


@dataclass(frozen=True)
class OverSeries:
    """One arm against another on every series, for one model; `tests` by data set, Holm-corrected over them."""

    other: str
    model: str
    tests: Mapping[str, DieboldMariano]

    @property
    def better(self) -> int:
        """Series whose loss is smaller, significantly."""
        return sum(test.difference < 0 and test.p_holm < ALPHA for test in self.tests.values())

    @property
    def worse(self) -> int:
        """Series whose loss is larger, significantly."""
        return sum(test.difference > 0 and test.p_holm < ALPHA for test in self.tests.values())


def by_series(runs: pd.DataFrame, plan: Plan, folder: Path, arm: str, others: Sequence[str]) -> list[OverSeries]:
    """Diebold and Mariano's test on absolute errors of the mean forecast over seeds, averaged over window lengths.

    Args:
        runs: paired runs (`blocks.paired`).
        folder: where the forecasts of the cells lie.
        others: arms to compare with; those that took no part are passed over.
    """
    present = set(runs["arm"])
    losses = {
        name: {
            (str(dataset), str(model)): _losses(part, plan.passes(name), folder)
            for (dataset, model), part in runs[runs["arm"] == name].groupby(["dataset", "model"], sort=False)
        }
        for name in (arm, *others)
        if name in present
    }
    return [
        OverSeries(
            other,
            model,
            over_series(
                {
                    dataset: (own, losses[other][dataset, of])
                    for (dataset, of), own in losses[arm].items()
                    if of == model and len(own) >= max(_FEWEST, plan.horizon + 1)
                },
                plan.horizon,
            ),
        )
        for other in others
        if other in losses and arm in losses
        for model in plan.models
    ]


def _losses(runs: pd.DataFrame, passes: int, folder: Path) -> np.ndarray:
    """Absolute error of every forecast origin with a known truth, in the order of time."""
    by_length = []
    for _, part in runs.groupby("length"):
        stored = [read_forecasts(folder, name) for name in part["config_hash"]]
        error = np.abs(np.mean([one[f"test {passes}"] for one in stored], axis=0) - stored[0]["test"])
        by_length.append(np.nanmean(error[~np.isnan(error).all(axis=1)], axis=1))
    loss: np.ndarray = np.mean(by_length, axis=0)
    return loss

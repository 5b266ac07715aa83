"""Compare the forecasts of two arms on every single series."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from synaptic_pruning.study.forecasting.plan import Plan
from synaptic_pruning.study.forecasting.run import read_forecasts
from synaptic_pruning.study.statistics import ALPHA, DieboldMariano, over_series

_FEWEST = 10
"""Smallest number of forecasts of a series that is tested."""


@dataclass(frozen=True)
class OverSeries:
    """The comparison of one arm with another on every series, for one model.

    Attributes:
        other: The arm to compare with.
        model: Name of the model.
        tests: Tests by data set, Holm-corrected over data sets.
    """

    other: str
    model: str
    tests: Mapping[str, DieboldMariano]

    @property
    def better(self) -> int:
        """Return the number of series with a significantly smaller loss."""
        return sum(test.difference < 0 and test.p_holm < ALPHA for test in self.tests.values())

    @property
    def worse(self) -> int:
        """Return the number of series with a significantly larger loss."""
        return sum(test.difference > 0 and test.p_holm < ALPHA for test in self.tests.values())


def by_series(runs: pd.DataFrame, plan: Plan, folder: Path, arm: str, others: Sequence[str]) -> list[OverSeries]:
    """Compute Diebold and Mariano's test on every series.

    The losses are absolute errors of the mean forecast over seeds, averaged over window lengths. Only the first regime
    and horizon of a study are tested, so that a series counts once.

    Args:
        runs: Paired runs (`paired`).
        plan: Plan of the study.
        folder: Folder with the forecasts of the cells.
        arm: The arm to judge.
        others: Arms to compare with; those without runs are left out.
    """
    runs = runs[(runs["regime"] == runs["regime"].iloc[0]) & (runs["horizon"] == runs["horizon"].iloc[0])]
    horizon, present = int(runs["horizon"].iloc[0]), set(runs["arm"])
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
                    if of == model and len(own) >= max(_FEWEST, horizon + 1)
                },
                horizon,
            ),
        )
        for other in others
        if other in losses and arm in losses
        for model in plan.models
    ]


def _losses(runs: pd.DataFrame, passes: int, folder: Path) -> np.ndarray:
    """Return the absolute error of every forecast origin with a known truth, in the order of time."""
    by_length = []
    for _, part in runs.groupby("length"):
        stored = [read_forecasts(folder, name) for name in part["config_hash"]]
        error = np.abs(np.mean([one[f"test {passes}"] for one in stored], axis=0) - stored[0]["test"])
        by_length.append(np.nanmean(error[~np.isnan(error).all(axis=1)], axis=1))
    loss: np.ndarray = np.mean(by_length, axis=0)
    return loss

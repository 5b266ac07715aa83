"""Read forecasts: compare those of two arms on every single series, and tell the error at every step ahead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from synaptic_pruning.study.forecasting.arms import ARMS
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


def errors_by_step(runs: pd.DataFrame, plan: Plan, folder: Path, datasets: Sequence[str]) -> pd.DataFrame:
    """Return the test error of single networks at every step ahead, where there are several steps.

    Args:
        runs: Paired runs (`paired`).
        plan: Plan of the study.
        folder: Folder with the forecasts of the cells.
        datasets: Data sets to tell of.

    Returns:
        One row per data set, regime, horizon, arm and step: those, and mae, the mean over models, window lengths and
        seeds in the units of the data.
    """
    single = [name for name in dict.fromkeys(runs["arm"]) if not ARMS[name].ensemble]
    runs = runs[runs["dataset"].isin(datasets) & runs["arm"].isin(single) & (runs["horizon"] > 1)]
    rows = []
    keys = ["dataset", "regime", "horizon", "arm"]
    for found, part in runs.groupby(keys, sort=False):
        by_run = [_by_step(read_forecasts(folder, name), plan.passes(str(found[-1]))) for name in part["config_hash"]]
        mean = np.mean(by_run, axis=0)
        rows += [(*found, step, float(mae)) for step, mae in enumerate(mean, 1)]
    return pd.DataFrame(rows, columns=[*keys, "step", "mae"])


def _by_step(stored: Mapping[str, np.ndarray], passes: int) -> np.ndarray:
    """Return the mean absolute error at every step, shape (horizon,), over the origins with a known truth there."""
    error: np.ndarray = np.abs(stored[f"test {passes}"] - stored["test"])
    return np.array([step[~np.isnan(step)].mean() if not np.isnan(step).all() else np.nan for step in error.T])


def _losses(runs: pd.DataFrame, passes: int, folder: Path) -> np.ndarray:
    """Return the absolute error of every forecast origin with a known truth, in the order of time."""
    by_length = []
    for _, part in runs.groupby("length"):
        stored = [read_forecasts(folder, name) for name in part["config_hash"]]
        error = np.abs(np.mean([one[f"test {passes}"] for one in stored], axis=0) - stored[0]["test"])
        by_length.append(np.nanmean(error[~np.isnan(error).all(axis=1)], axis=1))
    loss: np.ndarray = np.mean(by_length, axis=0)
    return loss

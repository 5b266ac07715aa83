"""Forecast with what people use where no network is trained: the forecasts that a network has to beat.

All see what a network sees: they are fitted on the training part, settings are chosen by the validation error, and the
test part is forecast once.
"""

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from synaptic_pruning.tasks.errors import DataError
from synaptic_pruning.tasks.forecasting.data import Array
from synaptic_pruning.tasks.forecasting.metrics import mean_absolute_error, persistence, seasonal_naive
from synaptic_pruning.tasks.forecasting.windows import ForecastingTask, Windows

PENALTIES = tuple(10.0 ** (power / 2) for power in range(-4, 13))
"""Penalties that `ridge` chooses from: of a sum of squared errors, over standardised inputs."""
LEAVES = (7, 31)
"""Largest numbers of leaves that `lightgbm` chooses from."""
LONGEST_HORIZON = 24
"""Largest horizon of `lightgbm`, which fits one model a step ahead."""
LONGEST_SEASON = 60
"""Largest season of `auto_ets`: each of its rows is a parameter, and some forms with hundreds are never fitted."""
_TREES = 500  # at most; early stopping ends nearly all fits long before
_PATIENCE = 30
_BINS = 63  # of an input's values: plenty for some thousand windows
_INPUTS_A_TREE = 500  # a random part of the inputs where there are more, so that thousands take seconds, not minutes


class Forecasts(TypedDict):
    """Forecasts of both parts in original units.

    Attributes:
        validation: Forecasts of ``task.validation``, shape (n, horizon).
        test: Forecasts of ``task.test``, shape (n, horizon).
    """

    validation: Array
    test: Array


def ridge(task: ForecastingTask) -> Forecasts:
    """Forecast by ridge regression of all steps ahead on the flattened window of all channels.

    It is fitted on a network's own targets (``task.predict``). Of `PENALTIES` the one with the smallest validation MAE
    is taken. A step ahead is fitted on the windows where its truth is known.

    Args:
        task: Task to forecast.

    Raises:
        DataError: A step ahead has no known target in training.

    Example:
        >>> from synaptic_pruning.tasks.forecasting import Series, make_task
        >>> wave = np.sin(np.arange(80) / 3)
        >>> task = make_task(Series("wave", "y", ("y",), np.arange(80), wave[:, None], season=1), length=4)
        >>> bool(np.abs(ridge(task)["test"] - task.truth(task.test)).max() < 0.01)
        True
    """
    known = _known(task, "train")
    train, validation, test = _rotated(*(_flattened(part) for part in (task.train, task.validation, task.test)))
    targets = task.train.targets.double().numpy()
    candidates = [
        Forecasts(
            validation=np.empty((len(validation), task.horizon)),
            test=np.empty((len(test), task.horizon)),
        )
        for _ in PENALTIES
    ]
    masks, group = np.unique(known, axis=1, return_inverse=True)
    for number, rows in enumerate(masks.T):  # steps with the same windows share one decomposition
        steps = np.flatnonzero(group.reshape(-1) == number)
        mean, level = train[rows].mean(0), targets[rows][:, steps].mean(0)
        inputs = train[rows] - mean
        values, vectors = np.linalg.eigh(inputs.T @ inputs)
        products = vectors.T @ (inputs.T @ (targets[rows][:, steps] - level))
        parts = {"validation": (validation - mean) @ vectors, "test": (test - mean) @ vectors}
        for penalty, candidate in zip(PENALTIES, candidates, strict=True):
            weights = products / (np.maximum(values, 0) + penalty)[:, None]
            candidate["validation"][:, steps] = parts["validation"] @ weights + level
            candidate["test"][:, steps] = parts["test"] @ weights + level
    return _best(task, candidates)


def lightgbm(task: ForecastingTask) -> Forecasts:
    """Forecast by gradient-boosted trees on the flattened window of all channels, one model a step ahead.

    They are fitted on a network's own targets. The number of trees is chosen by early stopping on the validation part;
    of `LEAVES` the value with the smallest validation MAE is taken. One thread, the same forecasts every time.

    Args:
        task: Task to forecast, with a horizon of at most `LONGEST_HORIZON`.

    Raises:
        DataError: A step ahead has no known target in training or validation.
        ImportError: LightGBM is missing; the extra ``baselines`` brings it.
        ValueError: The horizon is too long.
    """
    library = _library("lightgbm")
    _check_horizon(task)
    parts = {"train": task.train, "validation": task.validation}
    known = {name: _known(task, name) for name in parts}
    inputs = {name: _flattened(part) for name, part in {**parts, "test": task.test}.items()}
    candidates = [
        Forecasts(
            validation=np.empty((len(task.validation), task.horizon)),
            test=np.empty((len(task.test), task.horizon)),
        )
        for _ in LEAVES
    ]
    for step in range(task.horizon):
        rows = {name: known[name][:, step] for name in parts}
        sets = {
            name: (inputs[name][rows[name]], part.targets.double().numpy()[rows[name], step])
            for name, part in parts.items()
        }
        data = library.Dataset(*sets["train"], params={"max_bin": _BINS, "verbosity": -1})
        held_out = data.create_valid(*sets["validation"])
        for leaves, candidate in zip(LEAVES, candidates, strict=True):
            model = library.train(
                {
                    "objective": "regression",
                    "metric": "l1",
                    "max_bin": _BINS,
                    "num_leaves": leaves,
                    "learning_rate": 0.05,
                    "deterministic": True,
                    "feature_fraction": min(1.0, _INPUTS_A_TREE / inputs["train"].shape[1]),
                    "force_col_wise": True,
                    "num_threads": 1,
                    "seed": 0,
                    "verbosity": -1,
                },
                data,
                num_boost_round=_TREES,
                valid_sets=[held_out],
                callbacks=[library.early_stopping(_PATIENCE, verbose=False)],
            )
            candidate["validation"][:, step] = model.predict(inputs["validation"], num_threads=1)
            candidate["test"][:, step] = model.predict(inputs["test"], num_threads=1)
    return _best(task, candidates)


def auto_ets(task: ForecastingTask) -> Forecasts:
    """Forecast by the exponential smoothing that AutoETS chooses for the target's training part.

    Form and parameters are fitted once. Every later value then updates the states, so that a forecast knows all values
    up to its origin. A season is used up to `LONGEST_SEASON` and where the training part holds it twice.

    Args:
        task: Task to forecast.

    Raises:
        DataError: No exponential smoothing can be fitted to the training part.
        ImportError: statsforecast is missing; the extra ``baselines`` brings it.
    """
    library = _library("statsforecast.models")
    first = int(np.argmax(~np.isnan(task.series.values[:, 0])))  # before it values are no observations
    target, end, season = task.filled[first:, 0], task.cuts[0] - first, task.series.season
    seasonal = season <= min(end // 2, LONGEST_SEASON)
    model = library.AutoETS(season_length=season if seasonal else 1)
    try:
        with np.errstate(all="ignore"):  # a variance that no forecast needs
            model.fit(target[:end])
    except Exception as error:  # the library raises nothing narrower
        raise DataError(
            f"series {task.series.name!r}: AutoETS cannot be fitted to the {end} rows of its training part "
            f"({error}); leave out the baseline 'auto-ets'."
        ) from error

    def forecasts(windows: Windows) -> Array:
        known = windows.origins - first + 1
        return np.stack([model.forward(target[:rows], task.horizon)["mean"] for rows in known])

    with np.errstate(all="ignore"):
        return Forecasts(validation=forecasts(task.validation), test=forecasts(task.test))


def _naive(forecast: Callable[[ForecastingTask, Windows], Array]) -> Callable[[ForecastingTask], Forecasts]:
    return lambda task: Forecasts(validation=forecast(task, task.validation), test=forecast(task, task.test))


BASELINES = {
    "persistence": "the last observed value",
    "seasonal naive": "the value one season earlier",
    "ridge": "ridge regression on the same inputs",
    "lightgbm": "gradient-boosted trees on the same inputs, one model a step ahead",
    "auto-ets": "exponential smoothing of the target, its form chosen by AICc",
}
"""Meaning of every baseline."""
_METHODS = dict(zip(BASELINES, (_naive(persistence), _naive(seasonal_naive), ridge, lightgbm, auto_ets), strict=True))
_LIBRARIES = {"lightgbm": "lightgbm", "auto-ets": "statsforecast.models"}


def baseline_forecasts(task: ForecastingTask, names: Sequence[str] = tuple(BASELINES)) -> dict[str, Forecasts]:
    """Forecast the validation and the test part by several baselines.

    Args:
        task: Task to forecast.
        names: Keys of `BASELINES`.

    Returns:
        The forecasts of every baseline, in original units.

    Raises:
        DataError: A baseline cannot be fitted to the series.
        ImportError: A library is missing; the extra ``baselines`` brings it.
        ValueError: A name is unknown, or a baseline cannot forecast so far ahead.

    Example:
        >>> from synaptic_pruning.tasks.forecasting import Series, make_task
        >>> line = Series("line", "y", ("y",), np.arange(30), np.arange(30.0)[:, None], season=1)
        >>> found = baseline_forecasts(make_task(line, length=4), ["persistence", "ridge"])
        >>> found["persistence"]["test"][:2].ravel(), found["ridge"]["test"][:2].ravel().round(3)
        (array([23., 24.]), array([24., 25.]))
    """
    for name in names:
        if name not in BASELINES:
            raise ValueError(f"names: {name!r} is no baseline; choose from {list(BASELINES)}.")
        if name in _LIBRARIES:
            _library(_LIBRARIES[name])
        if name == "lightgbm":
            _check_horizon(task)
    return {name: _METHODS[name](task) for name in names}


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{error.name} is needed for this baseline; install the extra: synaptic-pruning[baselines]"
        ) from error


def _check_horizon(task: ForecastingTask) -> None:
    if task.horizon > LONGEST_HORIZON:
        raise ValueError(
            f"horizon={task.horizon}: 'lightgbm' fits one model a step ahead, for at most {LONGEST_HORIZON} steps; "
            "leave out this baseline."
        )


def _known(task: ForecastingTask, part: str) -> NDArray[np.bool_]:
    """Mark the known targets of a part, shape (n, horizon)."""
    known: NDArray[np.bool_] = ~np.isnan(getattr(task, part).targets.numpy())
    if not known.any(0).all():
        raise DataError(
            f"series {task.series.name!r}: the {part} part has no observed {task.series.target!r} that is "
            f"{int(np.argmin(known.any(0))) + 1} steps ahead of a window; give more rows or a shorter horizon."
        )
    return known


def _flattened(windows: Windows) -> Array:
    return windows.inputs.double().reshape(len(windows), -1).numpy()


def _rotated(train: Array, *others: Array) -> list[Array]:
    """Describe rows by coordinates in the span of the training rows where that is fewer; no ridge forecast changes."""
    if train.shape[0] >= train.shape[1]:
        return [train, *others]
    values, vectors = np.linalg.eigh(train @ train.T)
    kept = values > 1e-12 * values[-1]
    axes = train.T @ (vectors[:, kept] / np.sqrt(values[kept]))
    return [rows @ axes for rows in (train, *others)]


def _best(task: ForecastingTask, candidates: Iterable[Forecasts]) -> Forecasts:
    """Put candidates in original units and return the one with the smallest validation MAE."""
    in_units = [
        Forecasts(
            validation=task.to_units(candidate["validation"], task.validation),
            test=task.to_units(candidate["test"], task.test),
        )
        for candidate in candidates
    ]
    truth = task.truth(task.validation)
    return min(in_units, key=lambda candidate: mean_absolute_error(truth, candidate["validation"]))

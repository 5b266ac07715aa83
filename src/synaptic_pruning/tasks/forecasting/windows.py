"""Cut a series into training, validation and test windows, without any look ahead.

The cut is made on raw time, before any window. A window belongs to a part when all its targets lie there, so
targets of an earlier part never reach into a later one. The look-back of a later part may reach into an
earlier one, which is the past. Scaler and target unit are fitted on training rows only. A missing input takes
the last observed value of its channel; before the first observation it takes the channel's training mean. A
missing target stays NaN: it is neither trained on nor scored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synaptic_pruning.tasks.errors import DataError
from synaptic_pruning.tasks.forecasting.data import Array, Series

Target = Literal["delta", "level"]


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows of one part, one row per forecast origin.

    Attributes:
        inputs: Scaled inputs, shape (n, length, channels); a strided view of one tensor.
        targets: Outputs wanted of a network, shape (n, horizon); NaN where the truth is missing.
        last: Last observed value of the target, scaled, shape (n,).
        origins: Row of the last input, shape (n,).
    """

    inputs: Tensor
    targets: Tensor
    last: Tensor
    origins: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.origins)


@dataclass(frozen=True, eq=False)
class Scaler:
    """Mean and scale of every channel.

    A channel that does not vary in training has an infinite scale, so that it reads 0.

    Attributes:
        mean: Means, shape (channels,).
        scale: Standard deviations, shape (channels,).
    """

    mean: Array
    scale: Array

    @classmethod
    def fit(cls, rows: Array) -> "Scaler":
        """Fit on rows of shape (n, channels); missing values are left out."""
        mean, scale = np.zeros(rows.shape[1]), np.full(rows.shape[1], np.inf)
        for channel, column in enumerate(rows.T):
            seen = column[~np.isnan(column)]
            if len(seen):
                mean[channel] = seen.mean()
            if len(seen) and seen.min() < seen.max():
                scale[channel] = seen.std()
        return cls(mean, scale)


@dataclass(frozen=True, eq=False)
class ForecastingTask:
    """A series with its three parts, and the way back from network outputs to original units.

    Attributes:
        series: The series as read.
        length: Rows in a window.
        horizon: Rows to forecast.
        predict: ``"delta"``: a network outputs the change from the last observed value, divided by ``unit``, so that
            the zero output is persistence. ``"level"``: it outputs the scaled value itself.
        train: Windows of the training part.
        validation: Windows of the validation part.
        test: Windows of the test part.
        scaler: Mean and scale of every channel.
        unit: For ``"delta"`` the root mean square change over the training windows, in scaled units; else 1.
        cuts: First rows of the validation and of the test part.
        filled: The series with missing values carried forward, in original units, shape (rows, channels).
    """

    series: Series
    length: int
    horizon: int
    predict: Target
    train: Windows
    validation: Windows
    test: Windows
    scaler: Scaler
    unit: float
    cuts: tuple[int, int]
    filled: Array

    def to_units(self, forecasts: Tensor | NDArray[Any], windows: Windows) -> Array:
        """Return network outputs for ``windows`` as values of the series.

        Args:
            forecasts: Network outputs, shape (n, horizon).
            windows: Windows that they were made for, n of them.

        Returns:
            Forecasts in original units, float64, shape (n, horizon).

        Raises:
            ValueError: The outputs have another shape.
        """
        outputs = np.asarray(torch.as_tensor(forecasts).detach().cpu(), dtype=np.float64)
        if outputs.shape != (len(windows), self.horizon):
            raise ValueError(f"forecasts have shape {outputs.shape}; give {(len(windows), self.horizon)}.")
        mean, scale = self.scaler.mean[0], self.scaler.scale[0]
        if self.predict == "level":
            return np.asarray(outputs * scale + mean)
        return np.asarray(self.filled[windows.origins, 0][:, None] + outputs * self.unit * scale)

    def truth(self, windows: Windows) -> Array:
        """Return observed values in original units, shape (n, horizon); NaN where the source has none."""
        return np.asarray(self.series.values[_target_rows(windows.origins, self.horizon), 0])


def make_task(
    series: Series,
    *,
    length: int,
    horizon: int = 1,
    longest: int | None = None,
    predict: Target = "delta",
    train: float = 0.7,
    validation: float = 0.1,
) -> ForecastingTask:
    """Cut a series into windows of ``length`` rows that forecast the next ``horizon`` rows.

    Args:
        series: Series to cut.
        length: Rows in a window, at least 1.
        horizon: Rows to forecast, at least 1.
        longest: Longest window of a comparison; by default ``length``. Origins start where that window is
            complete, so every length trains, stops and is tested on exactly the same targets.
        predict: Forecast the change from the last observed value (``"delta"``), or the value (``"level"``).
        train: Fraction of the rows to train on, in (0, 1).
        validation: Fraction of the rows to validate on, in (0, 1); the rest is for the test.

    Raises:
        DataError: The series is too short, does not vary in training, or a part has no observed target.
        ValueError: An argument is out of range.

    Example:
        >>> line = Series("line", "y", ("y",), np.arange(20), np.arange(20.0)[:, None], season=1)
        >>> task = make_task(line, length=4)
        >>> [len(part) for part in (task.train, task.validation, task.test)], task.test.inputs.shape
        ([10, 2, 4], torch.Size([4, 4, 1]))
        >>> task.to_units(np.zeros((4, 1)), task.test).ravel()      # the zero output is persistence
        array([15., 16., 17., 18.])
    """
    longest = length if longest is None else longest
    _check_arguments(length, horizon, longest, predict, train, validation)
    rows = len(series.values)
    cuts = (round(rows * train), round(rows * (train + validation)))
    spans = {  # first and one past the last origin of each part
        "training": (longest - 1, cuts[0] - horizon),
        "validation": (max(cuts[0], longest) - 1, cuts[1] - horizon),
        "test": (max(cuts[1], longest) - 1, rows - horizon),
    }
    for part, (first, end) in spans.items():
        if end <= first:
            raise DataError(
                f"series {series.name!r} with {rows} rows is too short: no window of {longest} rows and "
                f"horizon {horizon} fits its {part} part; give more rows or a shorter window or horizon."
            )

    scaler = Scaler.fit(series.values[: cuts[0]])
    return assemble(series, scaler, spans, cuts, length=length, horizon=horizon, predict=predict)


def assemble(
    series: Series,
    scaler: Scaler,
    spans: Mapping[str, tuple[int, int]],
    cuts: tuple[int, int],
    *,
    length: int,
    horizon: int,
    predict: Target,
) -> ForecastingTask:
    """Make the windows of every part.

    Args:
        series: Series to cut.
        scaler: Scaler of all channels.
        spans: First and one past the last origin of "training", "validation" and "test".
        cuts: First rows of the validation and of the test part.
        length: Rows in a window.
        horizon: Rows to forecast.
        predict: Forecast the change or the value; see `make_task`.

    Raises:
        DataError: The target does not vary where the scaler was fitted, or a part has no observed target.
    """
    if not np.isfinite(scaler.scale[0]):
        raise DataError(
            f"series {series.name!r}: target {series.target!r} does not vary in its training part "
            f"(the first {cuts[0]} rows); leave out the flat start or choose another target."
        )
    filled = carry_forward(series.values, scaler.mean)
    scaled = (filled - scaler.mean) / scaler.scale
    observed = (series.values[:, 0] - scaler.mean[0]) / scaler.scale[0]
    view = torch.from_numpy(scaled.astype(np.float32)).unfold(0, length, 1).transpose(1, 2)

    unit = 1.0
    if predict == "delta":
        origins = np.arange(*spans["training"])
        unit = _root_mean_square(observed[_target_rows(origins, horizon)] - scaled[origins, 0][:, None])

    def windows(part: str) -> Windows:
        first, end = spans[part]
        origins = np.arange(first, end)
        targets = observed[_target_rows(origins, horizon)]
        if np.isnan(targets).all():
            raise DataError(
                f"series {series.name!r}: the {part} part has no observed value of {series.target!r}; "
                "leave out the rows without it or choose another target."
            )
        last = scaled[origins, 0]
        if predict == "delta":
            targets = (targets - last[:, None]) / unit
        return Windows(
            inputs=view[first - length + 1 : end - length + 1],
            targets=torch.from_numpy(targets.astype(np.float32)),
            last=torch.from_numpy(last.astype(np.float32)),
            origins=origins,
        )

    return ForecastingTask(
        series=series,
        length=length,
        horizon=horizon,
        predict=predict,
        train=windows("training"),
        validation=windows("validation"),
        test=windows("test"),
        scaler=scaler,
        unit=unit,
        cuts=cuts,
        filled=filled,
    )


def _check_arguments(length: int, horizon: int, longest: int, predict: str, train: float, validation: float) -> None:
    if length < 1 or horizon < 1:
        raise ValueError(f"length={length} and horizon={horizon} must both be at least 1.")
    if longest < length:
        raise ValueError(f"longest={longest} is shorter than length={length}; give the longest window compared.")
    if predict not in get_args(Target):
        raise ValueError(f"predict={predict!r} is unknown; use 'delta' or 'level'.")
    if not (train > 0 and validation > 0 and train + validation < 1):
        raise ValueError(f"train={train} and validation={validation} must be positive and leave a share for the test.")


def _target_rows(origins: NDArray[np.int64], horizon: int) -> NDArray[np.int64]:
    return np.asarray(origins[:, None] + np.arange(1, horizon + 1))


def carry_forward(values: Array, before_first: Array) -> Array:
    """Replace every missing value by the last observed one of its channel, else by ``before_first``.

    Args:
        values: Rows in time order, shape (rows, channels).
        before_first: Values of the channels before their first observation, shape (channels,).
    """
    seen_at = np.where(np.isnan(values), -1, np.arange(len(values))[:, None])
    latest = np.maximum.accumulate(seen_at, axis=0)
    carried = np.take_along_axis(values, np.maximum(latest, 0), axis=0)
    return np.where(latest < 0, before_first, carried)


def _root_mean_square(changes: Array) -> float:
    known = changes[~np.isnan(changes)]
    size = float(np.sqrt(np.mean(known**2))) if len(known) else 0.0
    return size if size > 0 else 1.0  # a target that never changes in training needs no unit

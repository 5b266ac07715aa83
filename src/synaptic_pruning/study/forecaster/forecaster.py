"""Fit, forecast, save and load: one network with its scaler, its columns, its step in time and its intervals."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import nn

from synaptic_pruning.export import FileError, read, save
from synaptic_pruning.study.engine import Executor, Processes, cores, versions, write_atomically
from synaptic_pruning.study.forecaster.choice import Choice, check_plan, choose_run
from synaptic_pruning.study.forecaster.description import (
    FILE,
    Chosen,
    Data,
    Description,
    Intervals,
    Network,
    Reading,
    Scaling,
)
from synaptic_pruning.study.forecaster.inputs import extend, with_inputs
from synaptic_pruning.study.forecaster.intervals import coverage, half_widths
from synaptic_pruning.study.forecasting import (
    Plan,
    build_network,
    count_alive,
    pruner_factory,
    read_forecasts,
    run_job,
    training_settings,
)
from synaptic_pruning.tasks.forecasting import (
    Array,
    DataError,
    ForecastingTask,
    Scaler,
    Series,
    Times,
    Windows,
    assemble,
    build_model,
    carry_forward,
    continued,
    cycles,
    frequency,
    predict,
    read_csv,
    train,
)

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, eq=False)
class Forecaster:
    """A network to forecast with, and everything that it needs beside: no file of its folder is executed.

    Attributes:
        network: The trained network, in eval mode.
        description: Columns, scaler, step in time, intervals, metrics.
    """

    network: nn.Module
    description: Description

    @classmethod
    def fit(
        cls,
        series: Series,
        plan: Plan,
        folder: Path | None = None,
        *,
        executor: Executor | None = None,
        known: Sequence[str] = (),
        calendar: bool = False,
        level: float = 0.9,
        reading: Mapping[str, Any] | None = None,
    ) -> Self:
        """Compare the arms of a plan, take that with the smallest validation error, and train it on all rows.

        Args:
            series: The series, in time order.
            plan: What is compared, with one horizon; its arms are single networks, asked once.
            folder: Existing folder for the trainings of the comparison, so that a second call goes on from them; None
                forgets them.
            executor: Where they run; None takes a process for every core.
            known: Columns whose values will be known for the rows to forecast.
            calendar: Whether the network sees the place in the day, week and year.
            level: Share of truths that intervals are to hold, in (0, 1).
            reading: Arguments of `read_csv` that further files are read with.

        Raises:
            DataError: The series is too short, the plan, a column or the level is wrong, or no training ended well.
        """
        from synaptic_pruning.study.forecasting import runs_of, train_plan

        _check(level, reading)
        check_plan(plan)
        horizon = _rows_ahead(series, plan.horizons[0])
        extended = with_inputs(series, horizon=horizon, known=known, calendar=calendar)
        place = executor or Processes(cores(), run_job)
        with nullcontext(folder) if folder else TemporaryDirectory() as search:
            train_plan([extended], plan, Path(search), executor=place)
            runs = runs_of([extended], plan, Path(search))
            return cls._chosen(series, runs, Path(search), known, calendar, level, reading)

    @classmethod
    def from_comparison(
        cls,
        series: Series,
        folder: Path,
        *,
        known: Sequence[str] = (),
        calendar: bool = False,
        level: float = 0.9,
        reading: Mapping[str, Any] | None = None,
    ) -> Self:
        """Take what a finished comparison found best by validation error, and train it on all rows.

        The arguments are those of `fit`; the folder is that of the comparison, which saw the same rows and inputs.

        Raises:
            DataError: The folder holds no comparison of these data.
        """
        _check(level, reading)
        try:
            runs = pd.read_parquet(folder / "results.parquet")
        except (OSError, ValueError):
            raise DataError(f"{folder} holds no results.parquet; give the folder of a finished comparison.") from None
        if runs.empty or not {"horizon", "data_hash"} <= set(runs.columns):
            raise DataError(f"{folder} holds no comparison of forecasts; give the folder of a finished comparison.")
        return cls._chosen(series, runs, folder, known, calendar, level, reading)

    @classmethod
    def _chosen(
        cls,
        series: Series,
        runs: pd.DataFrame,
        folder: Path,
        known: Sequence[str],
        calendar: bool,
        level: float,
        reading: Mapping[str, Any] | None,
    ) -> Self:
        extended = with_inputs(series, horizon=int(runs["horizon"].iloc[0]), known=known, calendar=calendar)
        choice = choose_run(runs, folder / "cells", extended.digest)
        network, task = _train(extended, choice)
        cell, scale = choice.cell, task.scaler.scale
        description = Description(
            versions=versions(),
            data=Data.model_validate(
                {
                    "name": series.name,
                    "target": series.target,
                    "columns": series.columns,
                    "known": tuple(known),
                    "calendar": cycles(series.times) if calendar else (),
                    "dates": series.times.dtype.kind == "M",
                    "frequency": frequency(series.times),
                    "season": series.season,
                    "rows": len(series.times),
                    "first": _text(series.times[0]),
                    "last": _text(series.times[-1]),
                    "reading": dict(reading or {}) | {"date_format": series.date_format},
                }
            ),
            network=Network.model_validate(
                {
                    "model": cell.model,
                    "length": cell.length,
                    "horizon": cell.horizon,
                    "dropout": cell.option.dropout,
                    "locked": cell.option.locked,
                    "keep": cell.option.keep,
                    "predict": cell.predict,
                    "unit": task.unit,
                }
            ),
            scaling=Scaling(
                mean=tuple(task.scaler.mean.tolist()),
                scale=tuple(value if np.isfinite(value) else None for value in scale.tolist()),
            ),
            chosen=Chosen(
                arm=choice.arm,
                option=cell.option.text,
                learning_rate=cell.learning_rate,
                epochs=choice.epochs,
                candidates=choice.candidates,
                sparsity=_sparsity(network),
            ),
            intervals=_intervals(read_forecasts(folder / "cells", choice.record["hash"]), level),
            metrics=_metrics(choice),
        )
        return cls(network, description)

    def read(self, path: str | Path) -> Series:
        """Read rows to forecast from a file, as the file of `fit` was read.

        Raises:
            DataError: The file cannot be used, or lacks a column.
        """
        data = self.description.data
        found = read_csv(path, data.target, columns=data.columns[1:], recent=True, **data.reading.model_dump())
        if len(found) > 1:
            names = ", ".join(series.name for series in found)
            raise DataError(f"{Path(path).name} holds {len(found)} series ({names}); give one to forecast.")
        return found[0]

    def forecast(self, rows: Series | str | Path) -> pd.DataFrame:
        """Forecast the rows after the last one.

        The window is scaled with the stored scaler. Missing inputs take the last value of their column. Where columns
        are known ahead, the rows to forecast stand in the data, without the target.

        Args:
            rows: The latest rows, at least as many as the window is long; a path is read by `read`.

        Returns:
            One row a step: time, forecast, low, high; the last two are NaN where there is no interval.

        Raises:
            DataError: A column or rows are missing, or times have another step than those of `fit`.
        """
        series = rows if isinstance(rows, Series) else self.read(rows)
        data, sizes = self.description.data, self.description.network
        _check_rows(series, data)
        places = [series.columns.index(name) for name in data.columns]
        series = replace(
            series, target=data.target, columns=data.columns, values=np.ascontiguousarray(series.values[:, places])
        )
        origin = _origin(series, data, sizes.horizon)
        if origin + 1 < sizes.length:
            raise DataError(
                f"series {series.name!r} has {origin + 1} rows to forecast from and the window takes {sizes.length}; "
                "give more rows."
            )
        if _text(series.times[origin]) < data.last and data.dates:
            warnings.warn(
                f"The rows end at {_text(series.times[origin])}, before those of training did at {data.last}, so the "
                "forecast is of rows that it has seen.",
                stacklevel=2,
            )
        ahead = extend(series, horizon=sizes.horizon, known=data.known, calendar=data.calendar)
        task = self._task(ahead, origin)
        outputs = predict(self.network, task.test)
        forecasts = task.to_units(outputs, task.test)[0]
        widths = np.array(self.description.intervals.half_widths, np.float64)
        times = continued(series.times[origin], data.frequency, sizes.horizon)
        return pd.DataFrame(
            {"time": times, "forecast": forecasts, "low": forecasts - widths, "high": forecasts + widths}
        )

    def _task(self, series: Series, origin: int) -> ForecastingTask:
        """Return the one window that ends at the origin, scaled."""
        sizes, scaling = self.description.network, self.description.scaling
        scaler = Scaler(
            np.array(scaling.mean), np.array([np.inf if scale is None else scale for scale in scaling.scale])
        )
        seen = series.values[: origin + 1]
        unseen = np.isnan(seen[: origin + 2 - sizes.length]).all(axis=0)  # up to the first row of the window
        if unseen.any():
            names = ", ".join(np.array(series.columns)[unseen])
            warnings.warn(
                f"The window begins without a value of {names}; the mean of training is taken, so give earlier rows.",
                stacklevel=3,
            )
        filled = carry_forward(seen, scaler.mean)
        scaled = torch.from_numpy(((filled - scaler.mean) / scaler.scale).astype(np.float32)[-sizes.length :])
        window = Windows(
            inputs=scaled[None],
            targets=torch.full((1, sizes.horizon), torch.nan),
            last=scaled[None, -1, 0],
            origins=np.array([origin]),
        )
        return ForecastingTask(
            series=series,
            length=sizes.length,
            horizon=sizes.horizon,
            predict=sizes.predict,
            train=window,
            validation=window,
            test=window,
            scaler=scaler,
            unit=sizes.unit,
            cuts=(0, 0),
            filled=filled,
        )

    def save(self, folder: str | Path) -> None:
        """Write the packed weights and `forecaster.json` to a folder, which is made where it is missing.

        Raises:
            OSError: The folder cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save(self.network, folder / WEIGHTS)
        digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
        described = self.description.model_copy(update={"weights": digest})
        write_atomically(folder / FILE, described.to_json())

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Load what `save` wrote. Nothing in the folder is executed.

        Raises:
            DataError: A file is missing or damaged, or the two do not belong together.
        """
        folder = Path(folder)
        description = Description.read(folder)
        path = folder / WEIGHTS
        try:
            if hashlib.sha256(path.read_bytes()).hexdigest() != description.weights:
                raise DataError(f"{path} is damaged, or of another {FILE}; fit again.")
            state = read(path)
        except OSError as error:
            raise DataError(f"{path} cannot be opened ({error.strerror or error}); fit again.") from None
        except FileError as error:
            raise DataError(f"{path} is damaged: {error}; fit again.") from None
        sizes = description.network.model_dump()
        with torch.device("meta"):
            network = build_model(sizes.pop("model"), channels=description.channels, **sizes)
        try:
            network.load_state_dict(state, assign=True)
        except RuntimeError:
            raise DataError(f"{path} holds another network than {FILE} describes; fit again.") from None
        if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
            raise DataError(f"{path} holds weights that are not finite; fit again.")
        return cls(network.eval(), description)


def _check(level: float, reading: Mapping[str, Any] | None) -> None:
    if not 0 < level < 1:
        raise DataError(f"level={level!r} must be above 0 and below 1; 0.9 is usual.")
    unknown = sorted(set(reading or ()) - set(Reading.model_fields))
    if unknown:
        raise DataError(f"reading names {unknown[0]!r}, which is no argument; use {', '.join(Reading.model_fields)}.")


def _rows_ahead(series: Series, horizon: int | str) -> int:
    return series.season if horizon == "season" else int(horizon)


def _train(series: Series, choice: Choice) -> tuple[nn.Module, ForecastingTask]:
    """Train on every window of the series, for the chosen number of epochs."""
    cell = replace(choice.cell, epochs=choice.epochs, steps=0, patience=0)
    rows = len(series.values)
    span = (cell.length - 1, rows - cell.horizon)
    task = assemble(
        series,
        Scaler.fit(series.values),
        dict.fromkeys(("training", "validation", "test"), span),
        (rows, rows),
        length=cell.length,
        horizon=cell.horizon,
        predict=cell.predict,
    )
    network = build_network(cell, task)
    settings = replace(training_settings(cell, task), keep="last")
    training = train(network, task, seed=cell.stream, attach=pruner_factory(cell), **vars(settings))
    if training.status != "ok":
        raise DataError(f"training on all rows failed: {training.reason}")
    return network, task


def _intervals(stored: Mapping[str, Array], level: float) -> Intervals:
    """Take the widths from the test part, which no choice has seen; its first half tells how they hold in the second.

    Between the halves as many windows are left out as share targets with both.
    """
    errors = stored["test 0"] - stored["test"]
    widths = half_widths(errors, level)
    half = len(errors) // 2
    early, late = half_widths(errors[:half], level), errors[half + errors.shape[1] - 1 :]
    return Intervals(
        level=level,
        half_widths=tuple(None if np.isnan(width) else width for width in widths.tolist()),
        windows=len(errors),
        coverage=coverage(late, early),
        coverage_by_step=tuple(coverage(late[:, [step]], early[[step]]) for step in range(len(early))),
        counted=len(late),
    )


def _metrics(choice: Choice) -> dict[str, float | None]:
    answer = choice.record["answers"]["0"]
    names = ("mae", "rmse", "mase", "skill", "validation_mae", "validation_rmse")
    found: dict[str, float | None] = {name: answer[name] for name in names}  # type: ignore[literal-required]
    return found | {"persistence_mae": choice.record["divided_by"]["persistence"]}


def _sparsity(network: nn.Module) -> float:
    alive, prunable = count_alive(network)
    return 1 - alive / prunable


def _text(time: np.generic) -> str:
    return str(pd.Timestamp(time)) if isinstance(time, np.datetime64) else str(time)


def _check_rows(series: Series, data: Data) -> None:
    """Refuse rows that lack a column, or whose times are no continuation of themselves."""
    lacking = [name for name in data.columns if name not in series.columns]
    if lacking:
        raise DataError(f"series {series.name!r} lacks the column {lacking[0]!r}, which the forecaster reads.")
    times: Times = series.times
    if (times.dtype.kind == "M") != data.dates:
        wanted, found = ("dates", "numbers") if data.dates else ("numbers", "dates")
        raise DataError(f"series {series.name!r} has {found} for times, and the forecaster knows {wanted}.")
    if data.reading.gaps != "ignore":
        wrong = np.flatnonzero(continued(times[0], data.frequency, len(times) - 1) != times[1:])
        if len(wrong):
            raise DataError(
                f"series {series.name!r}: {_text(times[wrong[0] + 1])} does not follow {_text(times[wrong[0]])} at the "
                f"step of the forecaster, {data.frequency}; give every row in between."
            )


def _origin(series: Series, data: Data, horizon: int) -> int:
    """Return the last row to forecast from; rows after it, where columns are known ahead, are those to forecast."""
    observed = np.flatnonzero(~np.isnan(series.values[:, 0]))
    if not len(observed):
        raise DataError(f"series {series.name!r} has no value of {data.target!r}; give rows with it.")
    if not data.known:
        return len(series.times) - 1
    origin = int(observed[-1])
    for name in data.known:
        column = series.values[origin + 1 : origin + 1 + horizon, series.columns.index(name)]
        if np.isnan(column).any() or len(column) < horizon:
            raise DataError(
                f"series {series.name!r} must give {name!r}, which is known ahead, in the {horizon} row(s) after the "
                f"last {data.target!r}; add them and leave {data.target!r} empty there."
            )
    return origin

"""Describe a kept forecaster as JSON: everything that a forecast needs beside the weights, and how good it was."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from synaptic_pruning.tasks.forecasting import DataError, continued

FILE = "forecaster.json"
Count = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Reading(_Strict):
    """How files are read: arguments of `tasks.forecasting.read_csv`, with its defaults."""

    time: str | None = None
    date_format: str | None = None
    separator: str = ","
    encoding: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    missing: tuple[str | Finite, ...] = ()
    gaps: Literal["error", "fill", "ignore"] = "error"
    season: Count | None = None


class Data(_Strict):
    """What it was trained on, and what it reads.

    Attributes:
        name: Name of the series.
        target: Column that is forecast.
        columns: Columns that it reads, the target first.
        known: Columns among them whose values are known for the rows to forecast.
        calendar: Cycles of the calendar that it sees beside.
        dates: Whether times are dates; else they are whole numbers.
        frequency: Step of the times; see `tasks.forecasting.frequency`.
        season: Rows in a season.
        rows: Rows that it was trained on.
        first: Time of the first of them.
        last: Time of the last.
        reading: How further files are read.
    """

    name: str
    target: str
    columns: tuple[str, ...] = Field(min_length=1)
    known: tuple[str, ...]
    calendar: tuple[Literal["hour", "weekday", "year"], ...]
    dates: bool
    frequency: str
    season: Count
    rows: Count
    first: str
    last: str
    reading: Reading

    @field_validator("frequency")
    @classmethod
    def _check_frequency(cls, text: str, info: ValidationInfo) -> str:
        start = np.datetime64("2024-01-01", "ns") if info.data.get("dates") else np.int64(0)
        try:
            goes_on = bool(continued(start, text, 1)[0] > start)
        except (ValueError, OverflowError, IndexError):
            goes_on = False
        if not goes_on:
            raise ValueError(f"{text!r} is no step of times")
        return text


class Network(_Strict):
    """How its network is built, as `tasks.forecasting.build_model` takes it."""

    model: Literal["rnn", "lstm", "patchtst", "mlp"]
    length: Count
    horizon: Count
    dropout: Annotated[float, Field(ge=0, lt=1)]
    locked: bool
    keep: Positive
    predict: Literal["delta", "level"]
    unit: Positive


class Scaling(_Strict):
    """Mean and standard deviation of every channel; None for one that did not vary, which reads 0."""

    mean: tuple[Finite, ...]
    scale: tuple[Positive | None, ...]


class Chosen(_Strict):
    """How it came about.

    Attributes:
        arm: Arm with the smallest validation error.
        option: Settings of that arm.
        learning_rate: AdamW's.
        epochs: Passes over all rows.
        candidates: Combinations of model, window and arm that were compared.
        sparsity: Share of its prunable weights that are zero, in [0, 1].
    """

    arm: str
    option: str
    learning_rate: Positive
    epochs: Count
    candidates: Count
    sparsity: Annotated[float, Field(ge=0, le=1)]


class Intervals(_Strict):
    """Split-conformal intervals of every step ahead, from errors on the test part of the chosen network.

    Attributes:
        level: Share of truths that they are to hold, in (0, 1).
        half_widths: In the units of the target; None where there were too few errors.
        windows: Number of test windows that they come from.
        coverage: Share of truths that they held in the second half of those, where the first half made them; None
            where none was counted.
        coverage_by_step: The same for every step ahead.
        counted: Number of windows that were counted.
    """

    level: Annotated[float, Field(gt=0, lt=1)]
    half_widths: tuple[Finite | None, ...]
    windows: int
    coverage: Finite | None
    coverage_by_step: tuple[Finite | None, ...]
    counted: int


class Description(_Strict):
    """The content of `forecaster.json`.

    Attributes:
        format: Version of the form.
        versions: Versions of Python, this library and PyTorch that made it.
        weights: SHA-256 of the file of weights, in hexadecimal.
        data: What it reads.
        network: How its network is built.
        scaling: Scaler of the channels, fitted on all rows.
        chosen: How it came about.
        intervals: Intervals around its forecasts.
        metrics: Errors of the same network trained on the training part alone, in the units of the target.
    """

    format: Literal[1] = 1
    versions: dict[str, str]
    weights: str = ""
    data: Data
    network: Network
    scaling: Scaling
    chosen: Chosen
    intervals: Intervals
    metrics: dict[str, Finite | None]

    @property
    def channels(self) -> int:
        """Number of channels that the network sees."""
        return len(self.data.columns) + 2 * len(self.data.calendar)

    @model_validator(mode="after")
    def _check(self) -> Self:
        sizes = {"scaling.mean": len(self.scaling.mean), "scaling.scale": len(self.scaling.scale)}
        for name, size in sizes.items():
            if size != self.channels:
                raise ValueError(f"{name} has {size} entries for {self.channels} channels")
        if len(self.intervals.half_widths) != self.network.horizon:
            raise ValueError(f"intervals.half_widths has {len(self.intervals.half_widths)} entries for the horizon")
        if self.scaling.scale[0] is None or self.data.columns[0] != self.data.target:
            raise ValueError("the first channel must be the target, and vary")
        return self

    def to_json(self) -> str:
        """Return the text of the file."""
        return json.dumps(self.model_dump(), indent=1, allow_nan=False)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the description of a folder.

        Raises:
            DataError: There is none, or something in it is wrong.
        """
        path = folder / FILE
        try:
            content: Any = json.loads(path.read_text("utf-8"))
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"{path} cannot be opened ({reason}); give a folder that `fit` wrote.") from None
        except (ValueError, RecursionError):
            raise DataError(f"{path} is damaged: it is not JSON; fit again.") from None
        if isinstance(content, dict) and content.get("format", 1) != 1:
            raise DataError(f"{path} has format {content['format']!r}; this program reads 1: use a newer one.")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "the whole"
            raise DataError(f"{path} is damaged: {place}: {first['msg']}; fit again.") from None

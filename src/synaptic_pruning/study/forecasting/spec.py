"""Read the spec of a study, a TOML file: what is compared on which data, for how long; refuse before any training."""

import difflib
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from synaptic_pruning.study.forecasting.arms import ARMS, Grid
from synaptic_pruning.study.forecasting.plan import Plan, no_ensemble
from synaptic_pruning.tasks.forecasting import DataError, Series, embedded, find_entry

Model = Literal["rnn", "lstm", "patchtst"]
Count = Annotated[int, Field(ge=1, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_EMBEDDED = ("co2", "sunspots", "elnino")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return values of which none stands twice."""
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value!r} stands there {values.count(value)} times; name it once")
    return values


class GridSpec(_Strict):
    """What arms choose from on validation data; see `arms.Grid`. All grids must be equally long: equal tuning budgets.

    Attributes:
        dropout: Rates in (0, 1).
        sparsity: Final sparsities in (0, 1).
        weight_decay: Factors above 0.
    """

    dropout: tuple[float, ...] = Grid.dropout
    sparsity: tuple[float, ...] = Grid.sparsity
    weight_decay: tuple[float, ...] = Grid.weight_decay

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.dropout) == len(self.sparsity) == len(self.weight_decay) >= 1:
            raise ValueError(
                f"the grids have {len(self.dropout)} dropout rates, {len(self.sparsity)} sparsities and "
                f"{len(self.weight_decay)} weight decays; give each equally many, so that tuning budgets are equal"
            )
        for values in (self.dropout, self.sparsity, self.weight_decay):
            _once(values)
        outside = [value for value in (*self.dropout, *self.sparsity) if not 0 < value < 1]
        outside += [value for value in self.weight_decay if value <= 0]
        if outside:
            raise ValueError(
                f"{outside[0]:g} is out of range; dropout rates and sparsities lie in (0, 1), weight decays above 0"
            )
        return self


class Spec(_Strict):
    """A study.

    Attributes:
        title: Heading of the report.
        datasets: Names of the registry (`synaptic-pruning datasets list`), or co2, sunspots, elnino from statsmodels.
        development: Data sets that recipes were chosen on; the report judges the others apart.
        rows: Number of rows of every data set that are used, the first ones; None uses all.
        skip_rows: Number of rows left out before those, such as the ones on which recipes were chosen.
        models: Forecasters.
        arms: What is compared.
        lengths: Window lengths in rows.
        horizon: Rows that are forecast together.
        seeds: Networks of every kind, with seeds 0, 1, ...; an ensemble trains more where it has more members.
        steps: Optimizer steps of every training, rounded to whole epochs; or give `epochs`.
        epochs: Passes over the training windows; or give `steps`.
        learning_rate: Adam's for dense networks, one for all models or one a model; see `Regime.rate`.
        batch_size: Windows a step.
        predict: "delta", the change from the last observed value, or "level".
        schedule: How the learning rate goes.
        protocol: "rigorous", or "paper" with all leaks of the released code.
        grid: What the arms choose from.
        together: Whether the seeds of a setting are trained side by side in one process where that is faster (RNNs);
            time and memory are then no training's own.
    """

    title: str
    datasets: tuple[str, ...] = Field(min_length=1)
    development: tuple[str, ...] = ()
    rows: int | None = Field(default=None, ge=50, strict=True)
    skip_rows: int = Field(default=0, ge=0, strict=True)
    models: tuple[Model, ...] = Field(default=("rnn", "lstm", "patchtst"), min_length=1)
    arms: tuple[str, ...] = Field(default=("none", "dropout", "mc-dropout", "synaptic"), min_length=1)
    lengths: tuple[Count, ...] = Field(default=(24,), min_length=1)
    horizon: Count = 1
    seeds: Count = 3
    steps: int = Field(default=0, ge=0, strict=True)
    epochs: int = Field(default=0, ge=0, strict=True)
    learning_rate: Positive | dict[Model, Positive] = 1e-3
    batch_size: Count = 64
    predict: Literal["delta", "level"] = "delta"
    schedule: Literal["constant", "cosine"] = "constant"
    protocol: Literal["rigorous", "paper"] = "rigorous"
    grid: GridSpec = GridSpec()
    together: bool = Field(default=False, strict=True)

    @field_validator("datasets", "development", "models", "arms", "lengths")
    @classmethod
    def _distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return _once(values)

    @field_validator("datasets")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in _EMBEDDED:
                find_entry(name)
        return names

    @field_validator("arms")
    @classmethod
    def _arms(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in ARMS]
        if unknown:
            raise ValueError(f"arm {unknown[0]!r} is unknown; choose from {', '.join(ARMS)}")
        return names

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.steps == 0) == (self.epochs == 0):
            raise ValueError(f"steps is {self.steps} and epochs is {self.epochs}; give one of them, at least 1")
        if reason := no_ensemble(self.arms, Grid(**self.grid.model_dump())):
            raise ValueError(reason)
        absent = [name for name in self.development if name not in self.datasets]
        if absent:
            raise ValueError(f"development names {absent[0]!r}, which is not in datasets; add it there too")
        rates = self.learning_rate
        without = [model for model in self.models if isinstance(rates, dict) and model not in rates]
        if without:
            raise ValueError(f"learning_rate has no entry for {without[0]!r}; give one number, or one for every model")
        return self

    def plan(self) -> Plan:
        """Return what to run."""
        rates = self.learning_rate
        return Plan(
            models=self.models,
            arms=self.arms,
            lengths=self.lengths,
            horizon=self.horizon,
            seeds=tuple(range(self.seeds)),
            epochs=self.epochs,
            predict=self.predict,
            learning_rates={m: rates[m] if isinstance(rates, dict) else rates for m in self.models},
            batch_size=self.batch_size,
            steps=self.steps,
            schedule=self.schedule,
            protocol=self.protocol,
            grid=Grid(**self.grid.model_dump()),
            together=self.together,
        )

    def series(self, data_dir: Path | None = None) -> list[Series]:
        """Return the data, fetched where it is not at hand.

        Raises:
            DataError: A data set cannot be had or read, or has too few rows.
        """
        from synaptic_pruning.tasks.forecasting import load

        own = {one.name: one for one in embedded()}
        last = None if self.rows is None else self.skip_rows + self.rows
        wholes = (own[name] if name in own else load(name, data_dir=data_dir, rows=last) for name in self.datasets)
        return [_rows(whole, self.skip_rows, last) for whole in wholes]

    def blocks(self) -> dict[str, str]:
        """Return the block of every data set; those of one source count once."""
        return {name: name if name in _EMBEDDED else find_entry(name).block for name in self.datasets}


def _rows(series: Series, first: int, last: int | None) -> Series:
    """Return a series cut to these rows."""
    times, values = series.times[first:last], series.values[first:last]
    if len(times) < 2:
        raise DataError(f"skip_rows={first} leaves {len(times)} rows of {series.name!r}; skip fewer, or leave it out.")
    return Series(series.name, series.target, series.columns, times, values, series.season)


def presets() -> dict[str, Path]:
    """Return the specs that ship with the package, by name."""
    folder = Path(str(files("synaptic_pruning.study").joinpath("presets")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_spec(where: str | Path) -> Spec:
    """Read a spec from a file, or one that ships with the package by its name.

    Raises:
        DataError: There is no such file, it is not TOML, or something in it is wrong; the entry and the fix are named.

    Example:
        >>> read_spec("smoke").seeds
        2
    """
    path = Path(where)
    if not path.is_file():
        path = presets().get(str(where), path)
    try:
        return Spec.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError:
        raise DataError(f"there is no spec {str(where)!r}; give a file, or one of {', '.join(presets())}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not TOML: {error}.") from None
    except ValidationError as error:
        raise DataError(f"{path}: {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    """Say the first thing that is wrong: the entry, the value and the fix."""
    found = error.errors(include_url=False)
    first = max(found, key=lambda one: len(one["loc"]))  # of an entry of two types, the one that came closer
    parts = [str(part) for part in first["loc"]]
    place = ".".join(part for part in parts if "float" not in part and part != "[key]" and not part.startswith("dict["))
    if first["type"] == "extra_forbidden":
        known = GridSpec.model_fields if parts[0] == "grid" and len(parts) > 1 else Spec.model_fields
        close = difflib.get_close_matches(parts[-1], known, n=1)
        return f"{place} is no entry; " + (f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}.")
    if first["type"] == "missing":
        return f"{place} is missing; add it."
    text = first["msg"].removeprefix("Value error, ").replace("Input should", "should").rstrip(".")
    if first["type"] != "value_error":  # those of ours name the value themselves
        text += f" (given: {first['input']!r})"
    return (f"{place}: " if place else "") + text + ("" if text.endswith("?") else ".")

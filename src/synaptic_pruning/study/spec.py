"""A study as a file: what is compared, on which data, for how long; checked before anything is trained."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from synaptic_pruning.study.arms import ARMS, Grid
from synaptic_pruning.study.plan import Plan
from synaptic_pruning.tasks.forecasting.datasets import embedded
from synaptic_pruning.tasks.forecasting.registry import find
from synaptic_pruning.tasks.forecasting.series import DataError, Series

Model = Literal["rnn", "lstm", "patchtst"]
_EMBEDDED = ("co2", "sunspots", "elnino")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GridSpec(_Strict):
    """What arms choose from on validation data; see `arms.Grid`. All grids must be equally long: equal tuning budgets.

    Attributes:
        dropout: rates in (0, 1).
        sparsity: final sparsities in (0, 1).
        weight_decay: factors above 0.
        members: networks of a sparse ensemble, at least 2.
    """

    dropout: tuple[float, ...] = Grid.dropout
    sparsity: tuple[float, ...] = Grid.sparsity
    weight_decay: tuple[float, ...] = Grid.weight_decay
    members: int = Field(default=Grid.members, ge=2)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.dropout) == len(self.sparsity) == len(self.weight_decay) >= 1:
            raise ValueError(
                f"the grids have {len(self.dropout)} dropout rates, {len(self.sparsity)} sparsities and "
                f"{len(self.weight_decay)} weight decays; give each equally many, so that tuning budgets are equal"
            )
        if not all(0 < share < 1 for share in (*self.dropout, *self.sparsity)) or min(self.weight_decay) <= 0:
            raise ValueError("dropout rates and sparsities must lie in (0, 1), weight decays above 0")
        return self


class Spec(_Strict):
    """A study.

    Attributes:
        title: heading of the report.
        datasets: names of the registry (`synaptic-pruning datasets list`), or co2, sunspots, elnino from statsmodels.
        development: those of them that recipes were chosen on; the report judges the others apart.
        rows: first rows of every data set that are used; None uses all.
        models: forecasters.
        arms: what is compared.
        lengths: window lengths in rows; horizon: rows forecast together.
        seeds: networks of every kind, with seeds 0, 1, ...
        steps: optimizer steps of every training, rounded to whole epochs; or give `epochs`.
        learning_rate: of Adam, one for all models or one a model.
        schedule: of the learning rate.
        protocol: "rigorous", or "paper" with all leaks of the released code.
        grid: what the arms choose from.
    """

    title: str
    datasets: tuple[str, ...] = Field(min_length=1)
    development: tuple[str, ...] = ()
    rows: int | None = Field(default=None, ge=50)
    models: tuple[Model, ...] = Field(default=("rnn", "lstm", "patchtst"), min_length=1)
    arms: tuple[str, ...] = Field(default=("none", "dropout", "mc-dropout", "synaptic"), min_length=1)
    lengths: tuple[int, ...] = Field(default=(24,), min_length=1)
    horizon: int = Field(default=1, ge=1)
    seeds: int = Field(default=3, ge=1)
    steps: int = Field(default=0, ge=0)
    epochs: int = Field(default=0, ge=0)
    learning_rate: float | dict[Model, float] = 1e-3
    batch_size: int = Field(default=64, ge=1)
    predict: Literal["delta", "level"] = "delta"
    schedule: Literal["constant", "cosine"] = "constant"
    protocol: Literal["rigorous", "paper"] = "rigorous"
    grid: GridSpec = GridSpec()

    @field_validator("datasets", "development", "models", "arms", "lengths")
    @classmethod
    def _distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError("names each entry once")
        return values

    @field_validator("datasets")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in _EMBEDDED:
                find(name)
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
            raise ValueError("give either steps or epochs, at least 1")
        if any(ARMS[name].ensemble for name in self.arms) and self.seeds < self.grid.members:
            raise ValueError(f"an ensemble of {self.grid.members} members needs as many seeds; there are {self.seeds}")
        if not set(self.development) <= set(self.datasets):
            raise ValueError("development names a data set that is not in datasets")
        rates = self.learning_rate
        if isinstance(rates, dict) and not set(self.models) <= set(rates):
            raise ValueError("learning_rate lacks a model; give one number, or one for every model")
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
        )

    def series(self, data_dir: Path | None = None) -> list[Series]:
        """Return the data, fetched where it is not at hand.

        Raises:
            DataError: A data set cannot be had or read.
        """
        from synaptic_pruning.tasks.forecasting.loading import load

        own = {one.name: one for one in embedded()}
        return [
            _first_rows(own[name], self.rows)
            if name in own
            else load(name, data_dir=data_dir, rows=self.rows and min(self.rows, find(name).rows))
            for name in self.datasets
        ]

    def blocks(self) -> dict[str, str]:
        """Return the block of every data set; those of one source count once."""
        return {name: name if name in _EMBEDDED else find(name).block for name in self.datasets}


def _first_rows(series: Series, rows: int | None) -> Series:
    """Return a series cut to its first rows."""
    return Series(series.name, series.target, series.columns, series.times[:rows], series.values[:rows], series.season)


def presets() -> dict[str, Path]:
    """Return the specs that ship with the package, by name."""
    folder = Path(str(files(__package__).joinpath("presets")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_spec(where: str | Path) -> Spec:
    """Read a spec from a file, or one that ships with the package by its name.

    Raises:
        DataError: There is no such file, it is not TOML, or something in it is wrong; the entry and the fix are named.

    Example:
        >>> read_spec("smoke").seeds
        3
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
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the spec"
    given = "" if isinstance(first["input"], dict) else f" (given: {first['input']!r})"
    return f"{place}: {first['msg'].removeprefix('Value error, ')}{given}."

"""Read the spec of a study, a TOML file: what is compared on which data, for how long; refuse before any training."""

import difflib
import tomllib
from collections.abc import Collection
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from synaptic_pruning.study.forecasting.arms import ARMS
from synaptic_pruning.study.forecasting.cells import Regime
from synaptic_pruning.study.forecasting.options import Grid
from synaptic_pruning.study.forecasting.plan import Plan, unequal
from synaptic_pruning.tasks.forecasting import BASELINES, DataError, Series, embedded, find_entry

if TYPE_CHECKING:
    from synaptic_pruning.study.statistics import Hypothesis
    from synaptic_pruning.tasks.forecasting.data import Inputs

Model = Literal["rnn", "lstm", "patchtst", "mlp"]
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
    """The space that options are drawn from, and how many every arm gets; see `options.Grid`.

    Attributes:
        rate: Factors on the learning rate, above 0.
        dropout: Rates in [0, 1).
        sparsity: Final sparsities in (0, 1).
        weight_decay: At least 0.
        options: Number of options of every arm.
    """

    rate: tuple[Positive, ...] = Field(default=Grid.rate, min_length=1)
    dropout: tuple[float, ...] = Field(default=Grid.dropout, min_length=1)
    sparsity: tuple[float, ...] = Field(default=Grid.sparsity, min_length=1)
    weight_decay: tuple[float, ...] = Field(default=Grid.weight_decay, min_length=1)
    options: Count = Grid.options

    @model_validator(mode="after")
    def _check(self) -> Self:
        for values in (self.rate, self.dropout, self.sparsity, self.weight_decay):
            _once(values)
        outside = [value for value in self.dropout if not 0 <= value < 1]
        outside += [value for value in self.sparsity if not 0 < value < 1]
        outside += [value for value in self.weight_decay if value < 0]
        if outside:
            raise ValueError(
                f"{outside[0]:g} is out of range; dropout rates lie in [0, 1), sparsities in (0, 1), weight decays are "
                "at least 0"
            )
        return self


class FileSpec(_Strict):
    """A CSV file of one's own among the data sets; see `read_csv` for how it is read.

    Attributes:
        path: The file, from the data folder, else from the working directory.
        target: The column to forecast.
        name: What the results call it; by default the name of the file without its endings.
        source: Files of one source count once in a statistic; by default the name.
        domain: Its field, such as "energy", for results without each domain.
        inputs: Columns beside the target that networks may see; by default all.
    """

    path: str
    target: str
    name: str = ""
    source: str = ""
    domain: str = ""
    inputs: tuple[str, ...] | None = None
    time: str | None = None
    date_format: str | None = None
    separator: str = ","
    decimal: str | None = None
    thousands: str | None = None
    missing: tuple[str | float, ...] = ()
    gaps: Literal["error", "fill", "ignore"] = "error"
    season: Count | None = None

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.name or Path(self.path).name.partition(".")[0]

    def read(self, data_dir: Path | None) -> Series:
        """Return the series.

        Raises:
            DataError: The file cannot be read, or is a long one with several series.
        """
        from synaptic_pruning.tasks.forecasting import read_csv

        path = Path(self.path) if data_dir is None or not (data_dir / self.path).exists() else data_dir / self.path
        found = read_csv(
            path,
            self.target,
            time=self.time,
            date_format=self.date_format,
            separator=self.separator,
            decimal=self.decimal,
            thousands=self.thousands,
            missing=self.missing,
            gaps=self.gaps,
            season=self.season,
            columns=None if self.inputs is None else [self.target, *self.inputs],
        )
        if len(found) > 1:
            raise DataError(f"{path} holds {len(found)} series; give each a file of its own.")
        return replace(found[0], name=self.dataset)


class HypothesisSpec(_Strict):
    """What a study is to decide; see `study.statistics.Hypothesis`.

    Attributes:
        name: What it says, in a few words.
        regime: The regime whose errors decide it.
        arm: The arm to judge.
        against: The arms that it is compared with; of several, the one that validation chooses in each case.
        margin: 0 for smaller errors; above 0 for errors larger by less than this relative margin.
    """

    name: str
    regime: Regime
    arm: str
    against: tuple[str, ...] = Field(min_length=1)
    margin: float = Field(default=0.0, ge=0, lt=1)


class Spec(_Strict):
    """A study.

    Attributes:
        title: Heading of the report.
        datasets: Names of the registry (`synaptic-pruning datasets list`), or co2, sunspots, elnino from statsmodels.
        files: CSV files of one's own.
        development: Data sets that recipes were chosen on; the report judges the others apart.
        domains: Data sets by their domain.
        rows: Number of rows of every data set that are used, the first ones; None uses all.
        skip_rows: Number of rows left out before those, such as the ones on which recipes were chosen.
        regimes: What networks see: "univariate" the target alone, "features" what is engineered from all columns,
            "multivariate" the columns themselves.
        models: Forecasters.
        arms: What is compared.
        baselines: Forecasters without training that are scored beside.
        lengths: Window lengths in rows.
        horizons: Rows that are forecast together, or "season".
        seeds: Networks of every chosen option, with fresh seeds.
        steps: Most optimizer steps of every training, rounded to whole epochs; or give `epochs`.
        epochs: Most passes over the training windows; or give `steps`.
        patience: Epochs without a smaller validation error after which training ends; 0 goes on to the end.
        learning_rate: AdamW's, one for all models or one a model; options multiply it.
        batch_size: Windows a step.
        predict: "delta", the change from the last observed value, or "level".
        schedule: How the learning rate goes.
        protocol: "rigorous", or "paper" with all leaks of the released code.
        grid: The space of options.
        hypotheses: What it is to decide, the primary one first.
        together: Whether the seeds of an option are trained side by side in one process where that is faster (RNNs);
            time and memory are then no training's own.
    """

    title: str
    datasets: tuple[str, ...] = ()
    files: tuple[FileSpec, ...] = ()
    development: tuple[str, ...] = ()
    domains: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    rows: int | None = Field(default=None, ge=50, strict=True)
    skip_rows: int = Field(default=0, ge=0, strict=True)
    regimes: tuple[Regime, ...] = Field(default=("univariate",), min_length=1)
    models: tuple[Model, ...] = Field(default=("rnn", "lstm", "patchtst"), min_length=1)
    arms: tuple[str, ...] = Field(default=("none", "dropout", "mc-dropout", "synaptic"), min_length=1)
    baselines: tuple[str, ...] = ("persistence", "seasonal naive", "ridge")
    lengths: tuple[Count, ...] = Field(default=(24,), min_length=1)
    horizons: tuple[Count | Literal["season"], ...] = Field(default=(1,), min_length=1)
    seeds: Count = 3
    steps: int = Field(default=0, ge=0, strict=True)
    epochs: int = Field(default=0, ge=0, strict=True)
    patience: int = Field(default=0, ge=0, strict=True)
    learning_rate: Positive | dict[Model, Positive] = 1e-3
    batch_size: Count = 64
    predict: Literal["delta", "level"] = "delta"
    schedule: Literal["constant", "cosine"] = "constant"
    protocol: Literal["rigorous", "paper"] = "rigorous"
    grid: GridSpec = GridSpec()
    hypotheses: tuple[HypothesisSpec, ...] = ()
    together: bool = Field(default=False, strict=True)

    @field_validator("datasets", "development", "regimes", "models", "arms", "baselines", "lengths", "horizons")
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
        return _among("arm", names, ARMS)

    @field_validator("baselines")
    @classmethod
    def _baselines(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _among("baseline", names, BASELINES)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.names:
            raise ValueError("there are no datasets and no files; name at least one")
        _once(self.names)
        if (self.steps == 0) == (self.epochs == 0):
            raise ValueError(f"steps is {self.steps} and epochs is {self.epochs}; give one of them, at least 1")
        if reason := unequal(self.arms, self.models, Grid(**self.grid.model_dump())):
            raise ValueError(reason)
        for entry, names in {"development": self.development, **self.domains}.items():
            absent = [name for name in names if name not in self.names]
            if absent:
                raise ValueError(f"{entry} names {absent[0]!r}, which is not in datasets; add it there too")
        for hypothesis in self.hypotheses:
            unknown = [arm for arm in (hypothesis.arm, *hypothesis.against) if arm not in self.arms]
            if unknown:
                raise ValueError(f"hypotheses: {unknown[0]!r} of {hypothesis.name!r} is not in arms; add it there too")
            if hypothesis.regime not in self.regimes:
                raise ValueError(f"hypotheses: {hypothesis.regime!r} of {hypothesis.name!r} is not in regimes; add it")
            if hypothesis.arm in hypothesis.against:
                raise ValueError(
                    f"hypotheses: {hypothesis.name!r} compares {hypothesis.arm!r} with itself; name others"
                )
        _once(tuple(hypothesis.name for hypothesis in self.hypotheses))
        rates = self.learning_rate
        without = [model for model in self.models if isinstance(rates, dict) and model not in rates]
        if without:
            raise ValueError(f"learning_rate has no entry for {without[0]!r}; give one number, or one for every model")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all data sets."""
        return (*self.datasets, *(file.dataset for file in self.files))

    def plan(self) -> Plan:
        """Return what to run."""
        rates = self.learning_rate
        return Plan(
            models=self.models,
            arms=self.arms,
            lengths=self.lengths,
            horizons=self.horizons,
            seeds=self.seeds,
            epochs=self.epochs,
            regimes=self.regimes,
            predict=self.predict,
            learning_rates={m: rates[m] if isinstance(rates, dict) else rates for m in self.models},
            batch_size=self.batch_size,
            steps=self.steps,
            patience=self.patience,
            schedule=self.schedule,
            protocol=self.protocol,
            grid=Grid(**self.grid.model_dump()),
            together=self.together,
            baselines=self.baselines,
            hypotheses=self._hypotheses(),
        )

    def _hypotheses(self) -> "tuple[Hypothesis, ...]":
        if not self.hypotheses:
            return ()
        from synaptic_pruning.study.statistics import Hypothesis

        return tuple(Hypothesis(**one.model_dump()) for one in self.hypotheses)

    def series(self, data_dir: Path | None = None) -> list[Series]:
        """Return the data, fetched where it is not at hand.

        Raises:
            DataError: A data set cannot be had or read, or has too few rows.
        """
        from synaptic_pruning.tasks.forecasting import load

        own = {one.name: one for one in embedded()}
        last = None if self.rows is None else self.skip_rows + self.rows
        inputs: Inputs = "target" if self.regimes == ("univariate",) else "all"
        wholes = [
            own[name] if name in own else load(name, data_dir=data_dir, rows=last, inputs=inputs)
            for name in self.datasets
        ]
        wholes += [file.read(data_dir) for file in self.files]
        return [_rows(whole, self.skip_rows, last) for whole in wholes]

    def blocks(self) -> dict[str, str]:
        """Return the source of every data set; those of one source count once."""
        registered = {name: name if name in _EMBEDDED else find_entry(name).block for name in self.datasets}
        return registered | {file.dataset: file.source or file.dataset for file in self.files}

    def domain_of(self) -> dict[str, str]:
        """Return the domain of every data set that has one."""
        named = {name: domain for domain, names in self.domains.items() for name in names}
        return named | {file.dataset: file.domain for file in self.files if file.domain}


def _among(what: str, names: tuple[str, ...], known: Collection[str]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"{what} {unknown[0]!r} is unknown; choose from {', '.join(known)}")
    return names


def _rows(series: Series, first: int, last: int | None) -> Series:
    """Return a series cut to these rows."""
    times, values = series.times[first:last], series.values[first:last]
    if len(times) < 2:
        raise DataError(f"skip_rows={first} leaves {len(times)} rows of {series.name!r}; skip fewer, or leave it out.")
    return replace(series, times=times, values=values)


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
        inner: dict[str, type[BaseModel]] = {"grid": GridSpec, "files": FileSpec, "hypotheses": HypothesisSpec}
        known = (inner.get(parts[0], Spec) if len(parts) > 1 else Spec).model_fields
        close = difflib.get_close_matches(parts[-1], known, n=1)
        return f"{place} is no entry; " + (f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}.")
    if first["type"] == "missing":
        return f"{place} is missing; add it."
    text = first["msg"].removeprefix("Value error, ").replace("Input should", "should").rstrip(".")
    if first["type"] != "value_error":  # those of ours name the value themselves
        text += f" (given: {first['input']!r})"
    return (f"{place}: " if place else "") + text + ("" if text.endswith("?") else ".")

"""Define a cell of a study on series: one training, known by the hash of everything that its result depends on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict, cast

from synaptic_pruning.study.engine import PRUNING_CODE, Record, code_digest, content_hash, hashed_versions, stable_repr
from synaptic_pruning.study.forecasting.options import Option, OptionSettings

if TYPE_CHECKING:
    from synaptic_pruning.tasks.forecasting import LearningRate, Target

Protocol = Literal["rigorous", "paper"]
"""How a series is cut: without leaks, or as released by Vos et al. with all of them."""

Regime = Literal["univariate", "features", "multivariate"]
"""What networks see: the target alone, features engineered from the columns, or the columns themselves."""

_TRAINING = ("batched_training", "batches", "metrics", "paper_protocol", "training", "windows")
TRAINING_CODE = (
    *PRUNING_CODE,
    "tasks/forecasting/data/features.py",
    "tasks/forecasting/models",
    *(f"tasks/forecasting/{name}.py" for name in _TRAINING),
    "study/algorithms.py",
    "study/forecasting/options.py",
    "study/forecasting/run.py",
)
"""What a training and its scores come from: results of other code are not taken for those of this one."""

BASELINE_CODE = tuple(f"tasks/forecasting/{name}.py" for name in ("baselines", "metrics", "paper_protocol", "windows"))
"""What the forecasts of baselines and their scores come from."""

FASTER = ("rnn",)
"""Models that several seeds of train faster together than one by one: see `python benchmarks/study.py`."""


class CellSettings(TypedDict):
    """A `Cell` as records and hashes hold it.

    Attributes:
        option: The `Option`.
        rule: `repr` of the rule.
        versions: Versions of this library and of PyTorch.
        code: Digest of the code that trains it.
        together: True, or absent.
        arms: Names of the arms that chose the training, ``{"name": ...}`` each; selected runs alone have it.
    """

    dataset: str
    regime: str
    data_hash: str
    model: str
    option: OptionSettings
    passes: Sequence[int]
    length: int
    longest: int
    horizon: int
    seed: int
    epochs: int
    steps: int
    patience: int
    predict: str
    learning_rate: float
    schedule: str
    batch_size: int
    protocol: str
    rule: str
    versions: dict[str, str]
    code: str
    together: NotRequired[bool]
    arms: NotRequired[list[dict[str, str]]]


class Answer(TypedDict):
    """Errors of one way of asking a trained network, in the units of the data where they have one.

    Attributes:
        mae: Mean absolute error on the test windows.
        rmse: Root of the mean squared error there.
        mase: MAE over that of the seasonal naive forecast in the training part.
        skill: 1 - MAE / MAE of persistence.
        validation_mae: Mean absolute error on the validation windows.
        validation_rmse: Root of the mean squared error there.
        predict_seconds: Time of forecasting the test windows.
    """

    mae: float
    rmse: float
    mase: float
    skill: float
    validation_mae: float
    validation_rmse: float
    predict_seconds: float


class CellRecord(Record[CellSettings], total=False):
    """What came of a cell, beside what every record holds; a cell that did not end well has less.

    Attributes:
        validation_seconds: Time of the validation errors.
        steps: Optimizer steps taken.
        most_epochs: Epochs that it was allowed.
        layers: Sparsity of every pruned layer after every epoch.
        prunable: Number of prunable weights.
        alive: Number of them that are not zero.
        answers: For each number of stochastic passes, as text, the errors.
        divided_by: MAE of "persistence" and of "seasonal naive", which `Answer.skill` and `Answer.mase` divide by.
        together: Number of trainings that shared the process, where there were several.
    """

    validation_seconds: float
    steps: int
    most_epochs: int
    layers: dict[str, list[float]]
    prunable: int
    alive: int
    answers: dict[str, Answer]
    divided_by: dict[str, float]
    together: int


@dataclass(frozen=True)
class Cell:
    """One training of one network on one data set, and how it is asked for forecasts.

    Its `hash` covers everything the result depends on: these settings, the rule, the digests of the data and of the
    code, and the versions of this library and of PyTorch.

    Attributes:
        epochs: Most passes over the training windows.
        steps: Most optimizer steps instead, rounded to whole epochs; 0 counts epochs.
        patience: Epochs without a smaller validation error after which training ends; 0 goes on to the end.
        learning_rate: AdamW's, with the factor of the option.
        passes: For each way of asking the trained network, the number of stochastic passes averaged, 0 for none.
        together: Whether its seeds are trained side by side; see `run.run_job`.
    """

    dataset: str
    regime: Regime
    data_hash: str
    model: str
    option: Option
    passes: tuple[int, ...]
    length: int
    longest: int
    horizon: int
    seed: int
    epochs: int
    steps: int
    patience: int
    predict: "Target"
    learning_rate: float
    schedule: "LearningRate"
    batch_size: int
    protocol: Protocol
    together: bool = False

    def to_dict(self) -> CellSettings:
        """Return the content that the hash covers, as plain values."""
        settings = {name: value for name, value in asdict(self).items() if name != "together" or value}
        settings |= {"option": self.option.to_dict(), "rule": stable_repr(self.option.rule(self.seed))}
        return cast(CellSettings, settings | {"versions": hashed_versions(), "code": code_digest(*TRAINING_CODE)})

    @property
    def data(self) -> str:
        """Name of what it is trained on."""
        return data_name(self.dataset, self.regime)

    @property
    def stream(self) -> int:
        """The seed of its random numbers."""
        return self.seed + 100_000 * self.option.repeat

    @cached_property
    def hash(self) -> str:
        """Sixteen hexadecimal digits, the same on every machine and in every process."""
        return content_hash(self.to_dict())

    @property
    def team_key(self) -> str:
        """Equal for cells that differ in their seed alone and are trained side by side."""
        if not self.together:
            return self.hash
        return content_hash({name: value for name, value in self.to_dict().items() if name not in ("seed", "rule")})


class BaselineSettings(TypedDict):
    """A `BaselineCell` as records and hashes hold it."""

    dataset: str
    regime: str
    data_hash: str
    baseline: str
    length: int
    longest: int
    horizon: int
    predict: str
    protocol: str
    code: str


class BaselineRecord(Record[BaselineSettings], total=False):
    """What came of a baseline; one that did not end well has less.

    Attributes:
        scores: Its errors.
    """

    scores: Answer


@dataclass(frozen=True)
class BaselineCell:
    """One forecaster that people use, on one data set; see `tasks.forecasting.BASELINES`."""

    dataset: str
    regime: Regime
    data_hash: str
    baseline: str
    length: int
    longest: int
    horizon: int
    predict: "Target"
    protocol: Protocol

    def to_dict(self) -> BaselineSettings:
        """Return the content that the hash covers, as plain values."""
        return cast(BaselineSettings, asdict(self) | {"code": code_digest(*BASELINE_CODE)})

    @property
    def data(self) -> str:
        """Name of what it is fitted on."""
        return data_name(self.dataset, self.regime)

    @cached_property
    def hash(self) -> str:
        """Sixteen hexadecimal digits, the same on every machine and in every process."""
        return content_hash(self.to_dict())

    @property
    def team_key(self) -> str:
        """Its hash: baselines are fitted one by one."""
        return self.hash


def data_name(dataset: str, regime: Regime) -> str:
    """Return the name of a data set in a regime.

    Example:
        >>> data_name("co2", "features")
        'co2: features'
    """
    return f"{dataset}: {regime}"

"""Define a cell of a study on series: one training, known by the hash of everything that its result depends on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict, cast

from synaptic_pruning.study.engine import Record, content_hash, hashed_versions, stable_repr
from synaptic_pruning.study.forecasting.arms import Regime, RegimeSettings

if TYPE_CHECKING:
    from synaptic_pruning.tasks.forecasting import LearningRate, Target

Protocol = Literal["rigorous", "paper"]
"""How a series is cut: without leaks, or as released by Vos et al. with all of them."""

FASTER = ("rnn",)
"""Models that several seeds of train faster together than one by one: see `python benchmarks/study.py`."""


class CellSettings(TypedDict):
    """A `Cell` as records and hashes hold it.

    Attributes:
        regime: The `Regime`, with the stored name of its algorithm.
        rule: `repr` of the rule.
        versions: Versions of this library and of PyTorch.
        together: True, or absent.
        arms: Names of the arms that chose the training, ``{"name": ...}`` each; selected runs alone have it.
    """

    dataset: str
    data_hash: str
    model: str
    regime: RegimeSettings
    passes: Sequence[int]
    length: int
    longest: int
    horizon: int
    seed: int
    epochs: int
    steps: int
    predict: str
    learning_rate: float
    schedule: str
    batch_size: int
    protocol: str
    rule: str
    versions: dict[str, str]
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
        predict_seconds: Time of forecasting the test windows.
    """

    mae: float
    rmse: float
    mase: float
    skill: float
    validation_mae: float
    predict_seconds: float


class CellRecord(Record[CellSettings], total=False):
    """What came of a cell, beside what every record holds; a cell that did not end well has less.

    Attributes:
        validation_seconds: Time of the validation errors.
        steps: Optimizer steps taken.
        layers: Sparsity of every pruned layer after every epoch.
        prunable: Number of prunable weights.
        alive: Number of them that are not zero.
        answers: For each number of stochastic passes, as text, the errors.
        divided_by: MAE of "persistence" and of "seasonal naive", which `Answer.skill` and `Answer.mase` divide by.
        baselines: Scores of both.
        together: Number of trainings that shared the process, where there were several.
    """

    validation_seconds: float
    steps: int
    layers: dict[str, list[float]]
    prunable: int
    alive: int
    answers: dict[str, Answer]
    divided_by: dict[str, float]
    baselines: dict[str, dict[str, float]]
    together: int


@dataclass(frozen=True)
class Cell:
    """One training of one network on one data set, and how it is asked for forecasts.

    Its `hash` covers everything the result depends on: these settings, the rule, the digest of the data and the
    versions of this library and of PyTorch.

    Attributes:
        passes: For each way of asking the trained network, the number of stochastic passes averaged, 0 for none.
        together: Whether its seeds are trained side by side; see `run.run_job`.
    """

    dataset: str
    data_hash: str
    model: str
    regime: Regime
    passes: tuple[int, ...]
    length: int
    longest: int
    horizon: int
    seed: int
    epochs: int
    steps: int
    predict: "Target"
    learning_rate: float
    schedule: "LearningRate"
    batch_size: int
    protocol: Protocol
    together: bool = False

    def to_dict(self) -> CellSettings:
        """Return the content that the hash covers, as plain values."""
        settings = {name: value for name, value in asdict(self).items() if name != "together" or value}
        settings |= {"regime": self.regime.to_dict(), "rule": stable_repr(self.regime.rule(self.seed))}
        return cast(CellSettings, settings | {"versions": hashed_versions()})

    @property
    def stream(self) -> int:
        """The seed of its random numbers."""
        return self.seed + 100_000 * self.regime.repeat

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

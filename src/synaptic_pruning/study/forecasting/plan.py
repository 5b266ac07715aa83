"""Plan a comparison on series: what it varies and holds fixed, and the cells of its two stages.

First every option of every arm is trained once, on a seed of its own. An arm then takes the option of the smallest
validation error, and that option alone is trained on fresh seeds. With one option an arm there is no first stage.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from synaptic_pruning.study.forecasting.arms import ARMS
from synaptic_pruning.study.forecasting.cells import FASTER, BaselineCell, Cell, Protocol, Regime
from synaptic_pruning.study.forecasting.options import Grid, Option

if TYPE_CHECKING:
    from synaptic_pruning.study.statistics import Hypothesis
    from synaptic_pruning.tasks.forecasting import LearningRate, Series, Target

TUNING_SEED = 99_999
"""Seed of the first stage; those of the second are 0, 1, ..."""

Horizon = int | Literal["season"]
"""Rows that are forecast together: a number, or as many as the data set has in a season."""


class Case(NamedTuple):
    """What an arm chooses its option for.

    Attributes:
        dataset: Name of the data set.
        regime: What the network sees.
        model: Name of the forecaster.
        length: Rows in a window.
        horizon: Rows that are forecast together.
    """

    dataset: str
    regime: Regime
    model: str
    length: int
    horizon: int


@dataclass(frozen=True)
class Plan:
    """What a comparison varies and what it holds fixed.

    Attributes:
        models: Names of forecasters.
        arms: Names of `ARMS`.
        lengths: Window lengths, in rows.
        horizons: Rows that are forecast together.
        seeds: Number of networks of a chosen option. Arms of one seed share initial weights and data order.
        epochs: Most passes over the training windows, the same for every arm.
        regimes: What networks see.
        predict: "delta", the change from the last observed value, or "level".
        learning_rates: AdamW's by model, 1e-3 where none is given; options multiply it.
        batch_size: Windows a step.
        steps: Most optimizer steps instead of epochs, rounded to whole epochs; 0 counts epochs.
        patience: Epochs without a smaller validation error after which training ends; 0 goes on to the end.
        schedule: How the learning rate goes, "constant" or "cosine".
        protocol: "rigorous", without leaks, or "paper", the released one of Vos et al. with all of them.
        grid: The space that options are drawn from.
        together: Whether the seeds of an option are trained side by side where that is faster.
        baselines: Forecasts without training that are scored beside.
        hypotheses: What the study is to decide, the primary one first.
    """

    models: tuple[str, ...]
    arms: tuple[str, ...]
    lengths: tuple[int, ...]
    horizons: tuple[Horizon, ...]
    seeds: int
    epochs: int
    regimes: tuple[Regime, ...] = ("multivariate",)
    predict: "Target" = "delta"
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    batch_size: int = 64
    steps: int = 0
    patience: int = 0
    schedule: "LearningRate" = "constant"
    protocol: Protocol = "rigorous"
    grid: Grid = field(default_factory=Grid)
    together: bool = False
    baselines: tuple[str, ...] = ("persistence", "seasonal naive")
    hypotheses: tuple["Hypothesis", ...] = ()

    @property
    def tunes(self) -> bool:
        """Whether arms choose, so that there is a first stage."""
        return self.grid.options > 1

    def options(self, arm: str) -> tuple[Option, ...]:
        """Return the options that an arm chooses from."""
        return ARMS[arm].options(self.grid)

    def passes(self, arm: str) -> int:
        """Return how many stochastic passes an arm averages; the released protocol calls a single one MC dropout."""
        return ARMS[arm].passes if self.protocol == "rigorous" else min(1, ARMS[arm].passes)

    def run_seeds(self, arm: str, option: Option) -> list[tuple[int, ...]]:
        """Return the seeds of the networks of each run of an arm; no two runs of an ensemble share one.

        Example:
            >>> plan = Plan(("rnn",), ("none",), (7,), (1,), seeds=2, epochs=1)
            >>> plan.run_seeds("none", Option()), plan.run_seeds("dense-ensemble-x2", Option())
            ([(0,), (1,)], [(0, 1), (2, 3)])
        """
        size = ARMS[arm].networks(option)
        return [tuple(range(run * size, (run + 1) * size)) for run in range(self.seeds)]


def unequal(arms: Sequence[str], models: Sequence[str], grid: Grid) -> str:
    """Say which arm lacks options or a model that others have, and what to do; "" where all are alike."""
    for name in arms:
        without = [model for model in models if ARMS[name].models and model not in ARMS[name].models]
        if without:
            return f"arm {name!r} exists for {' and '.join(ARMS[name].models)} alone, not for {without[0]!r}"
        found = len(ARMS[name].options(grid))
        if found == 0:
            return (
                f"grid.sparsity goes up to {max(grid.sparsity):g}, and several networks that sparse have more weights "
                f"than one dense network; for {name!r} add a sparsity of at least 0.5"
            )
        if found < grid.options:
            return (
                f"grid.options is {grid.options}, but arm {name!r} has {found} combinations of learning rate and its "
                "own settings; add rates or settings to the grid, or ask for fewer options"
            )
    return ""


def cases(plan: Plan, series: Iterable["Series"]) -> list[tuple[Case, "Series"]]:
    """Return what is compared, each with its data set as it was read; see `in_regime`.

    Args:
        plan: The plan.
        series: Data sets as they were read.
    """
    found = []
    for one in series:
        for regime in plan.regimes:
            for horizon in dict.fromkeys(one.season if rows == "season" else rows for rows in plan.horizons):
                for length in plan.lengths:
                    found += [(Case(one.name, regime, model, length, horizon), one) for model in plan.models]
    return found


def in_regime(series: "Series", regime: Regime) -> "Series":
    """Return what networks see of a data set in a regime."""
    if regime == "multivariate":
        return series
    if regime == "univariate":
        return replace(series, columns=series.columns[:1], values=series.values[:, :1])
    from synaptic_pruning.tasks.forecasting import engineer

    return engineer(series)


def expand(plan: Plan, compared: Sequence[tuple[Case, "Series"]]) -> list[Cell]:
    """Return the cells of the first stage: every option of every arm, once; none where nothing is chosen."""
    if not plan.tunes:
        return []
    tried = [(arm, option, TUNING_SEED) for arm in plan.arms for option in plan.options(arm)]
    return [cell for case, series in compared for cell in _cells(plan, case, series, tried)]


def expand_chosen(
    plan: Plan, compared: Sequence[tuple[Case, "Series"]], chosen: Mapping[tuple[Case, str], Option]
) -> list[Cell]:
    """Return the cells of the second stage: the option that each arm took, with fresh seeds.

    Args:
        plan: The plan.
        compared: What is compared, of `cases`.
        chosen: The options by case and name of the arm; arms that are not named are left out.
    """
    return [
        cell
        for case, series in compared
        for cell in _cells(
            plan,
            case,
            series,
            [
                (arm, chosen[case, arm], seed)
                for arm in plan.arms
                if (case, arm) in chosen
                for seeds in plan.run_seeds(arm, chosen[case, arm])
                for seed in seeds
            ],
        )
    ]


def _cells(plan: Plan, case: Case, series: "Series", trainings: Iterable[tuple[str, Option, int]]) -> list[Cell]:
    """Return a cell for every training of a case; arms that share one ask it in their own ways."""
    asked: dict[tuple[int, Option], set[int]] = {}
    for arm, option, seed in trainings:
        asked.setdefault((seed, option), set()).add(plan.passes(arm))
    return [
        Cell(
            dataset=case.dataset,
            regime=case.regime,
            data_hash=series.digest,
            model=case.model,
            option=option,
            passes=tuple(sorted(passes)),
            length=case.length,
            longest=max(plan.lengths),
            horizon=case.horizon,
            seed=seed,
            epochs=plan.epochs,
            steps=plan.steps,
            patience=plan.patience,
            predict=plan.predict,
            learning_rate=plan.learning_rates.get(case.model, 1e-3) * option.rate,
            schedule=plan.schedule,
            batch_size=plan.batch_size,
            protocol=plan.protocol,
            together=plan.together and case.model in FASTER,
        )
        for (seed, option), passes in asked.items()
    ]


def expand_baselines(plan: Plan, compared: Sequence[tuple[Case, "Series"]]) -> list[BaselineCell]:
    """Return the cells of the baselines, one for each of every case, whatever the model."""
    seen = {case._replace(model=""): series for case, series in compared}
    return [
        BaselineCell(
            dataset=case.dataset,
            regime=case.regime,
            data_hash=series.digest,
            baseline=name,
            length=case.length,
            longest=max(plan.lengths),
            horizon=case.horizon,
            predict=plan.predict,
            protocol=plan.protocol,
        )
        for case, series in seen.items()
        for name in plan.baselines
    ]

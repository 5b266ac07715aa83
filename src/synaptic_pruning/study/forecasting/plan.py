"""Plan a comparison on series: what it varies and holds fixed, and the cells that come of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from synaptic_pruning.study.forecasting.arms import ARMS, Grid, Regime, members
from synaptic_pruning.study.forecasting.cells import FASTER, Cell, Protocol

if TYPE_CHECKING:
    from synaptic_pruning.tasks.forecasting import LearningRate, Series, Target


@dataclass(frozen=True)
class Plan:
    """What a comparison varies and what it holds fixed.

    Attributes:
        models: Names of forecasters.
        arms: Names of `ARMS`.
        lengths: Window lengths, in rows.
        horizon: Rows that are forecast together.
        seeds: One network each; arms of one seed share initial weights and data order. Members of an ensemble that
            has more of them than there are seeds take the numbers that follow.
        epochs: Passes over the training windows, the same for every arm.
        predict: "delta", the change from the last observed value, or "level".
        learning_rates: Adam's by model for the dense network, 1e-3 where none is given; see `Regime.rate`.
        batch_size: Windows a step.
        steps: Optimizer steps instead of epochs, rounded to whole epochs; 0 counts epochs.
        schedule: How the learning rate goes, "constant" or "cosine".
        protocol: "rigorous", without leaks, or "paper", the released one of Vos et al. with all of them.
        grid: What the arms choose from on validation data.
        together: Whether the seeds of a setting are trained side by side where that is faster.
    """

    models: tuple[str, ...]
    arms: tuple[str, ...]
    lengths: tuple[int, ...]
    horizon: int
    seeds: tuple[int, ...]
    epochs: int
    predict: "Target" = "delta"
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    batch_size: int = 64
    steps: int = 0
    schedule: "LearningRate" = "constant"
    protocol: Protocol = "rigorous"
    grid: Grid = field(default_factory=Grid)
    together: bool = False

    def candidates(self, arm: str) -> tuple[Regime, ...]:
        """Return the regimes that an arm chooses from."""
        return ARMS[arm].candidates(self.grid)

    def passes(self, arm: str) -> int:
        """Return how many stochastic passes an arm averages; the released protocol calls a single one MC dropout."""
        return ARMS[arm].passes if self.protocol == "rigorous" else min(1, ARMS[arm].passes)

    def trained_seeds(self, arm: str, regime: Regime) -> tuple[int, ...]:
        """Return the seeds that an arm trains: those of the plan, and as many more as an ensemble has members."""
        more = members(regime.sparsity) - len(self.seeds) if ARMS[arm].ensemble else 0
        return self.seeds + tuple(max(self.seeds) + 1 + i for i in range(more))


def no_ensemble(arms: Sequence[str], grid: Grid) -> str:
    """Say why an ensemble among the arms cannot be put together, and what to do; "" where it can, or there is none."""
    if all(ARMS[name].candidates(grid) for name in arms if ARMS[name].ensemble):
        return ""
    return (
        f"grid.sparsity goes up to {max(grid.sparsity):g}, and several networks that sparse have more weights than one "
        "dense network; for an ensemble add a sparsity of at least 0.5"
    )


def expand(plan: Plan, series: Sequence["Series"]) -> list[Cell]:
    """Return the cells of a plan: data set × model × length × seed × training regime."""
    passes: dict[Regime, set[int]] = {}
    seeds: dict[Regime, set[int]] = {}
    for name in plan.arms:
        for regime in plan.candidates(name):
            passes.setdefault(regime, set()).add(plan.passes(name))
            seeds.setdefault(regime, set()).update(plan.trained_seeds(name, regime))
    return [
        Cell(
            dataset=one.name,
            data_hash=one.digest,
            model=model,
            regime=regime,
            passes=tuple(sorted(asked)),
            length=length,
            longest=max(plan.lengths),
            horizon=plan.horizon,
            seed=seed,
            epochs=plan.epochs,
            steps=plan.steps,
            predict=plan.predict,
            learning_rate=plan.learning_rates.get(model, 1e-3) * regime.rate,
            schedule=plan.schedule,
            batch_size=plan.batch_size,
            protocol=plan.protocol,
            together=plan.together and model in FASTER,
        )
        for one in series
        for model in plan.models
        for length in plan.lengths
        for seed in sorted(set().union(*seeds.values()))
        for regime, asked in passes.items()
        if seed in seeds[regime]
    ]

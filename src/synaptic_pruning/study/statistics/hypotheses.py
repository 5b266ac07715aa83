"""Judge hypotheses that were declared before the runs, all in one family, and tell their power.

A hypothesis says of one arm that it beats others, or that it is worse than they are by no more than a margin. Of
several others each block's reference is the one with the smallest validation error: what a user would have taken.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from synaptic_pruning.study.statistics.blocks import log_ratios
from synaptic_pruning.study.statistics.effect_sizes import Effect, effect, hodges_lehmann
from synaptic_pruning.study.statistics.non_inferiority import non_inferior
from synaptic_pruning.study.statistics.rank_tests import ALPHA, holm, wilcoxon


@dataclass(frozen=True)
class Hypothesis:
    """A declared hypothesis.

    Attributes:
        name: What it says, in a few words.
        regime: The regime whose errors decide it.
        arm: The arm to judge.
        against: The arms that it is compared with; of several, the one that validation chooses on each block.
        margin: With 0 the hypothesis is that `arm` has smaller errors, tested two-sidedly by Wilcoxon's signed-rank
            test. Above 0 it is that errors are larger by less than this relative margin, tested one-sidedly
            (`non_inferior`).

    Raises:
        ValueError: `against` is empty or holds `arm`, or the margin is no number of at least 0.

    Example:
        >>> Hypothesis("beats the dense network", "univariate", "pruned", ("pruned",))
        Traceback (most recent call last):
        ValueError: against: hypothesis 'beats the dense network' compares 'pruned' with ('pruned',); name other arms
    """

    name: str
    regime: str
    arm: str
    against: tuple[str, ...]
    margin: float = 0.0

    def __post_init__(self) -> None:
        if not self.against or self.arm in self.against:
            raise ValueError(
                f"against: hypothesis {self.name!r} compares {self.arm!r} with {self.against}; name other arms"
            )
        if not 0 <= self.margin < math.inf:
            raise ValueError(
                f"margin: must be a number of at least 0, got {self.margin}; 0.01 allows errors 1 % larger"
            )


@dataclass(frozen=True, eq=False)
class RegimeErrors:
    """Errors of one regime, one row per block and one column per arm in both tables.

    Attributes:
        test: Test errors.
        validation: Validation errors of the same blocks; needed where a hypothesis names several arms to compare with.
    """

    test: pd.DataFrame
    validation: pd.DataFrame | None = None


@dataclass(frozen=True)
class Judgement:
    """The outcome of one hypothesis.

    Attributes:
        hypothesis: The hypothesis.
        effect: Size of the difference from the reference.
        p_value: The p-value of the hypothesis' own test.
        p_holm: The p-value after Holm's correction over all hypotheses judged together.
        smallest_p: The smallest `p_holm` that so few blocks could have given.
        chosen: On how many blocks validation chose each arm of `against`.
    """

    hypothesis: Hypothesis
    effect: Effect
    p_value: float
    p_holm: float
    smallest_p: float
    chosen: dict[str, int]

    @property
    def can_hold(self) -> bool:
        """Return whether any outcome on so few blocks could have reached `ALPHA`."""
        return self.smallest_p < ALPHA

    @property
    def holds(self) -> bool:
        """Return whether the hypothesis was confirmed: significant, and in the direction that it names."""
        right_way = self.hypothesis.margin > 0 or self.effect.estimate < 0
        return self.can_hold and right_way and self.p_holm < ALPHA


def best_by_validation(errors: RegimeErrors, arms: Sequence[str]) -> pd.DataFrame:
    """Choose one of several arms on every row by its validation error.

    Rows may be finer than blocks, such as one a data set and network: choose there, average with `block_means`, and a
    hypothesis may name the result as one arm.

    Args:
        errors: Test and validation errors.
        arms: Columns to choose from; of equal ones the first.

    Returns:
        One row per row: the chosen `arm` and its test `error`.

    Raises:
        ValueError: There are no validation errors, they have other rows, or an arm is missing or not finite in them.

    Example:
        >>> test = pd.DataFrame({"none": [1.0, 2.0], "dropout": [0.8, 3.0]}, index=["a", "b"])
        >>> validation = pd.DataFrame({"none": [1.0, 1.0], "dropout": [1.5, 0.5]}, index=["a", "b"])
        >>> best_by_validation(RegimeErrors(test, validation), ["none", "dropout"]).to_dict("index")
        {'a': {'arm': 'none', 'error': 1.0}, 'b': {'arm': 'dropout', 'error': 3.0}}
    """
    columns = list(arms)
    if errors.validation is None:
        raise ValueError(f"errors: choosing among {columns} needs validation errors; give the table of them as well")
    for name, table in (("test", errors.test), ("validation", errors.validation)):
        if missing := [arm for arm in columns if arm not in table]:
            raise ValueError(
                f"errors: arm {missing[0]!r} is no column of the {name} table; choose from {[str(c) for c in table]}"
            )
    if not errors.test.index.equals(errors.validation.index):
        raise ValueError("errors: test and validation errors must have the same rows in the same order")
    validation = errors.validation[columns]
    if not np.isfinite(validation.to_numpy(dtype=float)).all():
        raise ValueError(f"errors: a validation error of {columns} is not finite; leave out that block")
    chosen = validation.to_numpy(dtype=float).argmin(axis=1)
    test = errors.test[columns].to_numpy(dtype=float)
    return pd.DataFrame(
        {"arm": np.array(columns)[chosen], "error": test[np.arange(len(test)), chosen]}, index=errors.test.index
    )


def judge(hypotheses: Sequence[Hypothesis], errors: Mapping[str, RegimeErrors]) -> list[Judgement]:
    """Judge declared hypotheses, Holm-corrected over all of them.

    Args:
        hypotheses: The hypotheses, the primary one first.
        errors: Errors of every regime that they name.

    Returns:
        The outcomes in the order of the hypotheses.

    Raises:
        ValueError: A regime or an arm has no errors, two hypotheses share a name, or an error is no positive number.

    Example:
        >>> pruned = [0.9, 0.95, 0.97, 0.99, 0.8, 0.98, 0.96]
        >>> errors = {"univariate": RegimeErrors(pd.DataFrame({"none": 1.0, "pruned": pruned}))}
        >>> found, = judge([Hypothesis("better", "univariate", "pruned", ("none",))], errors)
        >>> found.p_holm, found.holds, found.chosen
        (0.015625, True, {'none': 7})
    """
    names = [hypothesis.name for hypothesis in hypotheses]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"hypotheses: two are called {repeated[0]!r}; give each its own name")
    if not hypotheses:
        return []
    compared = [_compared(hypothesis, errors) for hypothesis in hypotheses]
    p_values = [_p_value(hypothesis, table) for hypothesis, (table, _) in zip(hypotheses, compared, strict=True)]
    corrected = holm(p_values)
    judgements = []
    for hypothesis, (table, chosen), p_value, p_holm in zip(hypotheses, compared, p_values, corrected, strict=True):
        smallest = len(hypotheses) * 2.0 ** ((0 if hypothesis.margin else 1) - len(table))
        judgements.append(
            Judgement(
                hypothesis,
                effect(table, *table.columns),
                p_value,
                p_holm=float(p_holm),
                smallest_p=min(1.0, smallest),
                chosen=chosen,
            )
        )
    return judgements


def without_each_group(
    hypothesis: Hypothesis, errors: Mapping[str, RegimeErrors], groups: Mapping[str, str]
) -> dict[str, Judgement]:
    """Judge a hypothesis again without each group of blocks: does it rest on one of them?

    Args:
        hypothesis: The hypothesis; it is judged alone, so that no p-value is corrected.
        errors: Errors of its regime.
        groups: Group of every block, such as its domain.

    Returns:
        The outcome without each group, in order of appearance; empty where all blocks are of one group.

    Raises:
        ValueError: A block has no group, or as in `judge`.

    Example:
        >>> table = pd.DataFrame({"none": 1.0, "pruned": [0.5, 0.6, 1.1, 0.9]}, index=["a", "b", "c", "d"])
        >>> beats = Hypothesis("better", "univariate", "pruned", ("none",))
        >>> groups = {"a": "energy", "b": "energy", "c": "finance", "d": "finance"}
        >>> found = without_each_group(beats, {"univariate": RegimeErrors(table)}, groups)
        >>> {group: round(one.effect.mean, 3) for group, one in found.items()}
        {'energy': -0.005, 'finance': -0.452}
    """
    regime = _regime(hypothesis, errors)
    if missing := [block for block in regime.test.index if block not in groups]:
        raise ValueError(f"groups: block {missing[0]!r} has no group; name one for every block")
    group_of = np.array([groups[block] for block in regime.test.index], dtype=object)
    names = list(dict.fromkeys(group_of))
    if len(names) < 2:
        return {}
    found = {}
    for name in names:
        rest = RegimeErrors(
            regime.test[group_of != name], None if regime.validation is None else regime.validation[group_of != name]
        )
        (found[str(name)],) = judge([hypothesis], {hypothesis.regime: rest})
    return found


def power(
    hypothesis: Hypothesis,
    errors: Mapping[str, RegimeErrors],
    change: float,
    *,
    blocks: int | None = None,
    alpha: float = ALPHA,
    repeats: int = 2000,
    seed: int = 0,
) -> float:
    """Return the probability that a hypothesis is confirmed at a given true effect and the observed spread.

    Studies are drawn again from the observed differences: centred, their signs by chance, and shifted by the effect.

    Args:
        hypothesis: The hypothesis.
        errors: Errors of its regime, whose spread is taken.
        change: True relative change of the error; -0.02 for errors 2 % smaller.
        blocks: Number of blocks of a study; by default as many as there are.
        alpha: Level of the test, in (0, 1); with Holm's correction over k hypotheses the first needs `ALPHA` / k.
        repeats: Number of studies drawn, at least 1.
        seed: Seed of the draws.

    Raises:
        ValueError: An argument is out of range, or as in `judge`.

    Example:
        >>> logs = np.random.default_rng(0).normal(0, 0.03, 40)
        >>> table = pd.DataFrame({"none": 1.0, "pruned": np.exp(logs)})
        >>> beats, errors = Hypothesis("better", "univariate", "pruned", ("none",)), {"univariate": RegimeErrors(table)}
        >>> power(beats, errors, -0.05) > 0.99, power(beats, errors, -0.001) < 0.1
        (True, True)
    """
    table, _ = _compared(hypothesis, errors)
    logs = log_ratios(table, *table.columns)
    blocks = len(logs) if blocks is None else blocks
    if not -1 < change < math.inf:
        raise ValueError(f"change: must be a number above -1, got {change}; -0.02 stands for errors 2 % smaller")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha: must lie between 0 and 1, got {alpha}")
    if blocks < 1 or repeats < 1:
        raise ValueError(f"blocks={blocks} and repeats={repeats} must both be at least 1")
    rng = np.random.default_rng(seed)
    spread = logs - hodges_lehmann(logs)[0]
    drawn = rng.choice(spread, (repeats, blocks)) * rng.choice([-1.0, 1.0], (repeats, blocks))
    # Drawn twice, a difference ties with itself, which real ones do not; ties would cost the exact test.
    shift = math.log1p(change) - math.log1p(hypothesis.margin)
    jitter = 1e-6 * max(float(np.abs(spread).max()), abs(shift))
    drawn += shift + rng.normal(0, jitter, drawn.shape)
    p_values = stats.wilcoxon(drawn, alternative="less" if hypothesis.margin else "two-sided", axis=1).pvalue
    confirmed = p_values < alpha
    if not hypothesis.margin:
        confirmed &= stats.wilcoxon(drawn, alternative="less", axis=1).pvalue < 0.5  # in the right direction
    return float(confirmed.mean())


def _regime(hypothesis: Hypothesis, errors: Mapping[str, RegimeErrors]) -> RegimeErrors:
    if hypothesis.regime not in errors:
        raise ValueError(
            f"errors: hypothesis {hypothesis.name!r} needs regime {hypothesis.regime!r}; there are {list(errors)}"
        )
    return errors[hypothesis.regime]


def _compared(hypothesis: Hypothesis, errors: Mapping[str, RegimeErrors]) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the errors of the arm and of its reference, and how often each arm was the reference."""
    regime, against = _regime(hypothesis, errors), hypothesis.against
    if len(against) == 1:
        log_ratios(regime.test, hypothesis.arm, against[0])  # refuses what cannot be compared
        return regime.test[[hypothesis.arm, against[0]]], {against[0]: len(regime.test)}
    best = best_by_validation(regime, against)
    name = f"best of {', '.join(against)}"
    if hypothesis.arm not in regime.test:
        raise ValueError(f"arm {hypothesis.arm!r} is no column of the table; choose from {list(regime.test)}")
    table = pd.DataFrame({hypothesis.arm: regime.test[hypothesis.arm], name: best["error"]})
    log_ratios(table, hypothesis.arm, name)
    return table, {arm: int((best["arm"] == arm).sum()) for arm in against}


def _p_value(hypothesis: Hypothesis, table: pd.DataFrame) -> float:
    arm, other = table.columns
    if hypothesis.margin:
        return non_inferior(table, arm, other, hypothesis.margin).p_value
    return wilcoxon(log_ratios(table, arm, other))

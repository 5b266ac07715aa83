"""Judge the hypotheses that a spec declares: the outcome of each in a sentence, and what it rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from synaptic_pruning.study.engine import About
from synaptic_pruning.study.forecasting.report.verdict import p_is, signed
from synaptic_pruning.study.statistics import (
    CASE,
    Effect,
    FalseAlarms,
    Hypothesis,
    Judgement,
    RegimeErrors,
    best_by_validation,
    block_means,
    false_alarms,
    paired,
    power,
    without_each_group,
)
from synaptic_pruning.study.statistics import judge as judge_all

_PERCENT = "\u00a0%"
ASSUMED = -0.01
"""True relative change of the error that the power is told for; of a hypothesis with a margin it is 0."""


@dataclass(frozen=True)
class Declared:
    """A declared hypothesis and its outcome.

    Attributes:
        judgement: The outcome.
        sentence: The outcome in words.
        without: The outcome without each domain, where there are several.
        power: Probability that such a study confirms it at the `assumed` effect.
        assumed: The true relative change of the error for that.
    """

    judgement: Judgement
    sentence: str
    without: Mapping[str, Judgement]
    power: float
    assumed: float


def declared(results: pd.DataFrame, hypotheses: Sequence[Hypothesis], about: About) -> list[Declared]:
    """Judge the hypotheses of a study, Holm-corrected over all of them.

    Of several arms to compare with, the reference is the one with the smallest validation error for each data set,
    model, window length and horizon.

    Args:
        results: Table of all runs.
        hypotheses: What was declared, the primary one first.
        about: What a report is told, with sources and domains.

    Returns:
        The outcomes; none where a regime or an arm has no runs that ended well.
    """
    errors: dict[str, RegimeErrors] = {}
    chosen: dict[str, dict[str, int]] = {}
    for hypothesis in hypotheses:
        found = _errors(results, hypothesis, about.blocks)
        if found is None:
            return []
        errors[hypothesis.name], chosen[hypothesis.name] = found
    # Each hypothesis has a table of its own, since arms may have failed on other runs.
    named = [replace(one, regime=one.name, against=("reference",)) for one in hypotheses]
    return [
        _outcome(replace(one, hypothesis=hypothesis, chosen=chosen[hypothesis.name]), one.hypothesis, errors, about)
        for one, hypothesis in zip(judge_all(named, errors), hypotheses, strict=True)
    ]


def _errors(
    results: pd.DataFrame, hypothesis: Hypothesis, block_of: Mapping[str, str]
) -> tuple[RegimeErrors, dict[str, int]] | None:
    """Return the errors of an arm and of its reference, one row a block, and how often each arm was the reference."""
    arms = [hypothesis.arm, *hypothesis.against]
    runs = results[(results["regime"] == hypothesis.regime) & results["arm"].isin(arms)]
    runs, _ = paired(runs)
    if set(runs["arm"]) != set(arms):
        return None
    wide = {
        metric: runs.pivot_table(index=CASE, columns="arm", values=metric, sort=False).astype(float)
        for metric in ("mae", "validation_mae")
    }
    best = best_by_validation(RegimeErrors(wide["mae"], wide["validation_mae"]), hypothesis.against)
    both = pd.concat({hypothesis.arm: wide["mae"][hypothesis.arm], "reference": best["error"]}, names=["arm"])
    table = block_means(both.rename("mae").reset_index(), block_of=block_of)
    return RegimeErrors(table), {arm: int((best["arm"] == arm).sum()) for arm in hypothesis.against}


def _outcome(judgement: Judgement, named: Hypothesis, errors: Mapping[str, RegimeErrors], about: About) -> Declared:
    blocks = errors[named.regime].test.index
    domain_of = {source: about.domains[name] for name, source in about.blocks.items() if name in about.domains}
    known = all(block in domain_of for block in blocks)
    without = without_each_group(named, errors, domain_of) if known else {}
    assumed = 0.0 if named.margin else ASSUMED
    likely = power(named, errors, assumed) if len(blocks) > 1 else 0.0
    return Declared(judgement, _sentence(judgement), without, likely, assumed)


def _sentence(judgement: Judgement) -> str:
    hypothesis = judgement.hypothesis
    own, others = f"“{hypothesis.arm}”", " and ".join(f"“{name}”" for name in hypothesis.against)
    rival = others if len(hypothesis.against) == 1 else f"the better of {others} by validation"
    claim = (
        f"{own} is worse than {rival} by less than {100 * hypothesis.margin:g}{_PERCENT}"
        if hypothesis.margin
        else f"{own} has smaller errors than {rival}"
    )
    outcome = "confirmed" if judgement.holds else "not shown"
    if not judgement.can_hold:
        outcome = "too few data sets to tell"
    return (
        f"{claim} in the regime “{hypothesis.regime}”: {outcome}. {_size(judgement.effect)}, {p_is(judgement.p_holm)}."
    )


def _size(effect: Effect) -> str:
    interval = "" if effect.low is None or effect.high is None else f" ({signed(effect.low)} to {signed(effect.high)})"
    return (
        f"The difference in MAE is {signed(effect.estimate)}{interval} by Hodges and Lehmann, "
        f"won on {effect.wins} of {effect.blocks}"
    )


def as_values(found: Sequence[Declared]) -> list[dict[str, Any]]:
    """Return outcomes as plain values, for `statistics.json`."""
    return [
        {
            **asdict(one.judgement),
            "holds": one.judgement.holds,
            "without": {name: asdict(part.effect) | {"p_value": part.p_value} for name, part in one.without.items()},
            "power": one.power,
            "assumed": one.assumed,
        }
        for one in found
    ]


def null_check(results: pd.DataFrame, block_of: Mapping[str, str]) -> FalseAlarms | None:
    """Compare every two seeds of the plain network as if they were arms; None where there are too few seeds.

    Args:
        results: Table of all runs.
        block_of: Source of every data set.
    """
    runs, _ = paired(results[results["arm"].isin(["none", "identical"])])
    repeats = runs.assign(arm=runs["arm"] + " " + runs["seed"].astype(str), seed=0)
    if repeats["arm"].nunique() < 7:
        return None
    return false_alarms(block_means(repeats, block_of=block_of))

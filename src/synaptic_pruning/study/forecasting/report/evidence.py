"""Compare the judged arms with the others, on all data sets and on each half, and check the controls."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from synaptic_pruning.study.engine import About
from synaptic_pruning.study.forecasting.report.declared import Declared, as_values
from synaptic_pruning.study.forecasting.report.tables import effects
from synaptic_pruning.study.forecasting.report.verdict import ARM, change, contestants, p_is
from synaptic_pruning.study.statistics import (
    NonInferiority,
    Pair,
    against,
    average_ranks,
    block_means,
    friedman,
    non_inferior,
    paired,
)

REFERENCE = "none"
"""Arm that the others are compared with for non-inferiority and by the controls."""
JUDGED = ("synaptic", "synaptic-ensemble")
"""The arms that are compared with every other."""


@dataclass(frozen=True)
class Part:
    """The comparison of one arm with the others on some of the data sets.

    Attributes:
        name: Name of the part: "all data sets", "development" or "confirmation".
        arm: The arm to judge.
        datasets: Number of data sets.
        blocks: Number of blocks.
        sparsity: Median sparsity over the arm's runs, in [0, 1].
        pairs: Comparisons by the name of the other arm.
        not_worse: Non-inferiority against "none"; None without runs of "none".
    """

    name: str
    arm: str
    datasets: int
    blocks: int
    sparsity: float
    pairs: Mapping[str, Pair]
    not_worse: NonInferiority | None


def parts(runs: pd.DataFrame, arm: str, block_of: Mapping[str, str], development: Sequence[str]) -> list[Part]:
    """Compare an arm with the others on the development half, the confirmation half and all data sets.

    Args:
        runs: Paired runs (`paired`) of one regime.
        arm: The arm to judge.
        block_of: Block of every data set.
        development: Names of the data sets of the development half; without any there are no halves.

    Returns:
        The parts that hold runs; the last one is all data sets. No part where the arm has no rival.
    """
    if arm not in set(runs["arm"]) or runs["arm"].nunique() < 2:
        return []
    known = runs["dataset"].isin(development)
    halves = {"development": runs[known], "confirmation": runs[~known]} if development else {}
    return [_part(name, of, arm, block_of) for name, of in (halves | {"all data sets": runs}).items() if len(of)]


def _part(name: str, runs: pd.DataFrame, arm: str, block_of: Mapping[str, str]) -> Part:
    table = block_means(runs, block_of=block_of)
    return Part(
        name,
        arm,
        runs["dataset"].nunique(),
        len(table),
        float(runs.loc[runs["arm"] == arm, "sparsity"].median()),
        {pair.other: pair for pair in against(table, arm)},
        non_inferior(table, arm, REFERENCE) if REFERENCE in table else None,
    )


def statistics(results: pd.DataFrame, about: About, outcomes: Sequence[Declared] = ()) -> dict[str, Any]:
    """Return the numbers behind the report's claims of significance, as plain values, each regime on its own.

    Args:
        results: Table of all runs.
        about: Header of the report, with the blocks and the development half.
        outcomes: What came of the hypotheses, of `declared`.
    """
    runs, left_out = paired(contestants(results))
    judged: list[dict[str, Any]] = []
    tests: list[dict[str, Any]] = []
    for regime, of_regime in runs.groupby("regime", sort=False):
        found = [part for arm in JUDGED for part in parts(of_regime, arm, about.blocks, about.development)]
        judged += [{"regime": regime, **asdict(part)} for part in found]
        tests += [
            {"regime": regime, **row, "test": asdict(row["test"]) if row["test"] else None}
            for row in friedman_tests(of_regime, about.blocks)
        ]
    return {
        "left_out": left_out,
        "hypotheses": as_values(outcomes),
        "judged": judged,
        "effects": [{"regime": row["regime"], **asdict(row["effect"])} for row in effects(runs, ARM, about.blocks)],
        "friedman": tests,
    }


@dataclass(frozen=True)
class Check:
    """The outcome of a control.

    Attributes:
        text: The outcome in a sentence.
        alarming: Whether the control failed.
    """

    text: str
    alarming: bool


def checks(results: pd.DataFrame, block_of: Mapping[str, str]) -> list[Check]:
    """Check that "identical" is as good as "none" and that "broken" is worse, where there are such runs.

    Args:
        results: Table of all runs; each control is paired with "none" on its own.
        block_of: Block of every data set.
    """
    found = [_check(name, results, block_of) for name in ("identical", "broken")]
    return [one for one in found if one is not None]


def _check(name: str, results: pd.DataFrame, block_of: Mapping[str, str]) -> Check | None:
    runs, _ = paired(results[results["arm"].isin([REFERENCE, name])])
    if set(runs["arm"]) != {REFERENCE, name}:
        return None
    (pair,) = against(block_means(runs, block_of=block_of), name, [REFERENCE])
    p = p_is(pair.p_value) if pair.can_be_significant else f"no p-value can be small with N = {pair.blocks}"
    size = f"its MAE is {change(pair.difference)} than that of “none” in the median ({p}"
    size = size.replace("the same within", "within").replace(" than that", " of that") if "within" in size else size
    if name == "identical":
        ending = "a difference where there is none: distrust every small one" if pair.significant else "as it should be"
        return Check(
            f"Null check: “identical” is “none” again with other seeds; {size}) – {ending}.", alarming=pair.significant
        )
    lost = pair.difference > 0 and (pair.significant or not pair.can_be_significant)
    ending = "as it must be" if lost else "a control that must lose did not: this study cannot tell good from bad"
    return Check(
        f"Positive control: “broken” is trained with dropout 0.99; {size}, worse on {pair.losses} of {pair.blocks}) – "
        f"{ending}.",
        alarming=not lost,
    )


def friedman_tests(runs: pd.DataFrame, block_of: Mapping[str, str]) -> list[dict[str, Any]]:
    """Compute Friedman's test and average ranks for all models together, where there are several, and for each.

    Args:
        runs: Paired runs (`paired`) of one regime.
        block_of: Block of every data set.
    """
    of = {"all models": runs} if runs["model"].nunique() > 1 else {}
    of |= {str(model): part for model, part in runs.groupby("model", sort=False)}
    tables = {name: block_means(part, block_of=block_of) for name, part in of.items()}
    return [
        {"name": name, "blocks": len(table), "ranks": average_ranks(table), "test": friedman(table)}
        for name, table in tables.items()
    ]

"""State the verdict on synaptic pruning in plain sentences."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from synaptic_pruning.study.statistics import (
    CASE,
    TASK,
    Pair,
    against,
    average_ranks,
    block_means,
    case_name,
    several_of,
    smallest_sample,
)

ARM = "synaptic"
ENSEMBLE = "synaptic-ensemble"
CHECKS = ("identical", "broken")
"""Controls, which test the study itself; no statistic about the other arms includes them."""
_RIVALS = ("dropout", "mc-dropout", "none")
_PERCENT = "\u00a0%"


@dataclass(frozen=True)
class Verdict:
    """The verdict of a report.

    Attributes:
        headline: The answer in a few words.
        answer: The answer in a sentence, with its evidence.
        sparsity: Sentence about the sparsity of the networks; may be empty.
        ensemble: Sentence about the ensemble; may be empty.
    """

    headline: str
    answer: str
    sparsity: str
    ensemble: str = ""


def contestants(results: pd.DataFrame) -> pd.DataFrame:
    """Leave out the controls.

    Example:
        >>> contestants(pd.DataFrame({"arm": ["none", "broken", "synaptic"]}))["arm"].tolist()
        ['none', 'synaptic']
    """
    return results[~results["arm"].isin(CHECKS)]


def judge(runs: pd.DataFrame, block_of: Mapping[str, str] | None = None) -> Verdict:
    """Say whether synaptic pruning beats dropout in these runs, by how much, and whether that is supported.

    Args:
        runs: Paired runs (`paired`) of `contestants` in one regime, all with status "ok".
        block_of: Block of every data set (`block_means`); each data set is its own where None.
    """
    if runs.empty:
        return Verdict("No verdict", "No run ended well in every arm, so there is nothing to compare.", "")
    arms = list(dict.fromkeys(runs["arm"]))
    table = block_means(runs, block_of=block_of)
    rival = next((name for name in _RIVALS if name in arms), None)
    if ARM not in arms or rival is None:
        return _ranking(table, _said(len(table), runs["dataset"].nunique()))
    pairs = {pair.other: pair for pair in against(table, ARM)}
    pair = pairs[rival]
    headline, answer = (
        _answer(pair, len(pairs), _said(pair.blocks, runs["dataset"].nunique()))
        if pair.blocks > 1
        else _single(pair, runs, str(table.index[0]))
    )
    return Verdict(headline, answer, _sparsity(runs), _ensemble(table, rival) if ENSEMBLE in arms else "")


def change(difference: float) -> str:
    """Say a relative difference in words.

    Example:
        >>> change(-0.0312), change(0.2), change(0.0001)
        ('3.1\xa0% lower', '20.0\xa0% higher', 'the same within 0.05\xa0%')
    """
    if abs(difference) < 0.0005:
        return f"the same within 0.05{_PERCENT}"
    return f"{abs(difference):.1%}".replace("%", _PERCENT) + (" lower" if difference < 0 else " higher")


def signed(difference: float) -> str:
    """Write a relative difference in percent with its sign.

    Example:
        >>> signed(0.0312), signed(-0.2)
        ('+3.1\xa0%', '−20.0\xa0%')
    """
    return (
        "0.0" + _PERCENT if abs(difference) < 0.0005 else f"{difference:+.1%}".replace("-", "−").replace("%", _PERCENT)
    )


def _said(count: int, datasets: int) -> str:
    """Say how much evidence there is; data sets of one source count once."""
    source = "" if count == datasets else f" from {count} source{'s' if count > 1 else ''}"
    return f"{datasets} data set{'s' if datasets > 1 else ''}{source}"


def _called(arm: str) -> str:
    """Name an arm in a headline, where no table explains it."""
    return {"none": "the plain network", "mc-dropout": "MC dropout"}.get(arm, arm)


def p_is(p: float) -> str:
    """Write a p-value for a sentence.

    Example:
        >>> p_is(0.0312), p_is(2e-9)
        ('p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _answer(pair: Pair, family: int, evidence: str) -> tuple[str, str]:
    assert pair.low is not None
    assert pair.high is not None
    size = (
        f"test error (MAE) is {change(pair.difference)} in the median over {evidence} "
        f"(95{_PERCENT} bootstrap interval {signed(pair.low)} to {signed(pair.high)})"
    )
    other = f"“{pair.other}”"
    if pair.significant:
        verb = "beats" if pair.difference < 0 else "loses to"
        return (
            f"Synaptic pruning {verb} {_called(pair.other)}",
            f"Synaptic pruning {verb} {other} here: its {size}, and the difference is statistically supported "
            f"(Wilcoxon signed-rank test with Holm's correction, {p_is(pair.p_holm)}).",
        )
    if pair.can_be_significant:
        return (
            f"No difference from {_called(pair.other)} is established",
            f"Synaptic pruning and {other} cannot be told apart here: its {size}, which is not statistically supported "
            f"(Wilcoxon signed-rank test with Holm's correction, {p_is(pair.p_holm)}).",
        )
    comparisons = f"{family} comparison{'s' if family > 1 else ''}"
    return (
        f"{_lean(pair)} {_called(pair.other)} here, but too few data sets to tell",
        f"Against {other}, synaptic pruning's {size}; no outcome can be significant with N = {evidence} "
        f"({comparisons} at the 5{_PERCENT} level take at least {smallest_sample(family)}).",
    )


def _lean(pair: Pair) -> str:
    if abs(pair.difference) < 0.0005:
        return "Level with"
    return "Ahead of" if pair.difference < 0 else "Behind"


def _single(pair: Pair, runs: pd.DataFrame, dataset: str) -> tuple[str, str]:
    keys = ["regime", "model", "length", "horizon", "seed"]
    wide = runs.pivot_table(index=keys, columns="arm", values="mae")
    ratios = wide[ARM] / wide[pair.other] - 1
    spread = f"{len(ratios)} paired runs, {signed(ratios.min())} to {signed(ratios.max())}"
    return (
        f"{_lean(pair)} {_called(pair.other)} on {'this data set' if runs['dataset'].nunique() == 1 else 'one source'}",
        f"Against “{pair.other}”, synaptic pruning's mean test error (MAE) on {dataset} is {change(pair.difference)} "
        f"({'one pair of runs' if len(ratios) == 1 else spread}); one data set "
        "cannot show that this holds elsewhere, so no significance is claimed.",
    )


def _sparsity(runs: pd.DataFrame) -> str:
    own = runs[runs["arm"] == ARM]
    dense, alive = own["prunable"].mean(), own["alive"].mean()
    return (
        f"Its evaluated networks have {own['sparsity'].median():.0%} of their prunable weights pruned "
        f"(median over runs; on average {alive:,.0f} of {dense:,.0f} remain)."
    ).replace("%", _PERCENT)


def _ensemble(table: pd.DataFrame, rival: str) -> str:
    pair = next(pair for pair in against(table, ENSEMBLE) if pair.other == rival)
    if not pair.can_be_significant:
        return ""
    outcome = "cannot be told from"
    if pair.significant:
        outcome = "beat" if pair.difference < 0 else "lose to"
    return (
        f"Several pruned networks with the weights of one dense network together, averaged, {outcome} “{rival}”: their "
        f"error is {change(pair.difference)} in the median ({p_is(pair.p_holm)})."
    )


def _ranking(table: pd.DataFrame, evidence: str) -> Verdict:
    ranks = average_ranks(table)
    best = min(ranks, key=lambda arm: ranks[arm])
    return Verdict(
        "No verdict on synaptic pruning",
        f"These runs do not hold both “{ARM}” and an arm to compare it with; “{best}” has the best average rank over "
        f"{evidence} ({ranks[best]:.2f}).",
        "",
    )


def lost_to_persistence(runs: pd.DataFrame) -> list[dict[str, str]]:
    """List the networks whose mean error is larger than that of repeating the last value.

    Args:
        runs: Paired runs (`paired`).

    Returns:
        One dictionary per `case_name` and model with such networks: case, model and arms (one string).
    """
    skill = runs.groupby([*TASK, "model", "arm"], sort=False)["skill"].mean()
    losing = skill[skill < 0].reset_index()
    count, several = runs["arm"].nunique(), several_of(runs)
    return [
        {
            "case": case_name(task, several),
            "model": str(model),
            "arms": "every arm" if len(part) == count else ", ".join(part["arm"]),
        }
        for (*task, model), part in losing.groupby([*TASK, "model"], sort=False)
    ]


def losses(runs: pd.DataFrame) -> pd.DataFrame:
    """List the data sets, models and lengths where synaptic pruning has a larger mean error than some other arm.

    Args:
        runs: Paired runs (`paired`).

    Returns:
        One row each, the heaviest loss first: dataset, regime, model, length, horizon, mae (of synaptic pruning), then
        one column per arm with the relative difference `synaptic / arm - 1`, positive where synaptic pruning lost.
    """
    arms = list(dict.fromkeys(runs["arm"]))
    others = [arm for arm in arms if arm != ARM]
    if ARM not in arms or not others:
        return pd.DataFrame(columns=[*CASE, "mae"])
    means = runs.pivot_table(index=CASE, columns="arm", values="mae", sort=False)
    table = pd.DataFrame({arm: means[ARM] / means[arm] - 1 for arm in others})
    table.insert(0, "mae", means[ARM])
    worst = table[others].max(axis=1)
    return table[worst > 0].loc[worst[worst > 0].sort_values(ascending=False).index].reset_index()

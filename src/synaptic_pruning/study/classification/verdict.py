"""Judge pruning on images: say in plain sentences what the results show."""

from collections.abc import Sequence
from dataclasses import dataclass

from synaptic_pruning.study.classification.arms import ARMS
from synaptic_pruning.study.classification.results import Difference, Row

_PRUNES = tuple(name for name, arm in ARMS.items() if arm.prunes)
_PERCENT = "\u00a0%"
_CALLED = {"synaptic": "synaptic pruning", "none": "the dense network", "dropout": "dropout"}


@dataclass(frozen=True)
class Verdict:
    """`headline` is the answer in a few words, `sentences` say how much and how sure."""

    headline: str
    sentences: tuple[str, ...]


def judge(rows: Sequence[Row]) -> Verdict:
    """Say how accurate the pruned networks are beside the dense one and dropout; the first model gives the headline."""
    if not rows:
        return Verdict("No verdict", ("No seed ended well in every arm, so there is nothing to compare.",))
    models = list(dict.fromkeys(row.model for row in rows))
    found = [_of_model([row for row in rows if row.model == model], len(models) > 1) for model in models]
    return Verdict(found[0][0], tuple(sentence for _, sentences in found for sentence in sentences))


def points(difference: Difference) -> str:
    """Write a difference in percentage points, with its interval where there is one.

    Example:
        >>> points(Difference(-0.794, 0.321)), points(Difference(1.0, None))
        ('−0.79 ± 0.32', '+1.00')
    """
    text = f"{difference.mean:+.2f}" if difference.half is None else f"{difference.mean:+.2f} ± {difference.half:.2f}"
    return text.replace("-", "−")


def percent(share: float, digits: int = 2) -> str:
    """Write a share in percent.

    Example:
        >>> percent(0.95417), percent(0.0833, 1)
        ('95.42\xa0%', '8.3\xa0%')
    """
    return f"{100 * share:.{digits}f}{_PERCENT}"


def _of_model(rows: Sequence[Row], several: bool) -> tuple[str, list[str]]:
    by_arm = {row.arm: row for row in rows}
    subject = next((by_arm[arm] for arm in _PRUNES if arm in by_arm), None)
    where = f" ({rows[0].model})" if several else ""
    if subject is None or not subject.against:
        best = max(rows, key=lambda row: row.accuracy)
        text = f"Most accurate here{where}: “{best.arm}”, with {percent(best.accuracy)} of the test images right."
        return text.removesuffix("."), [text]
    sentences = [_sentence(subject, by_arm[name], difference) for name, difference in subject.against.items()]
    other, difference = next(iter(subject.against.items()))
    name = _CALLED.get(subject.arm, f"“{subject.arm}”")
    headline = (
        f"With {percent(1 - subject.sparsity, 1)} of its connections, {name} {_compared(difference, _CALLED[other])}"
    )
    rivals = [row for row in rows if row.arm in _PRUNES]
    if len(rivals) > 1:
        ranking = sorted(rivals, key=lambda row: row.accuracy, reverse=True)
        listed = ", ".join(f"“{row.arm}” {percent(row.accuracy)}" for row in ranking)
        sentences.append(f"The arms that prune, all at the same sparsity: {listed}.")
    if several:
        sentences[0] = f"{rows[0].model}: {sentences[0]}"
    return headline + where, sentences


def _compared(difference: Difference, other: str) -> str:
    size = f"{abs(difference.mean):.2f} points {'more' if difference.mean > 0 else 'less'} accurate than {other}"
    if difference.half is None:
        return f"{f'is {size}' if difference.mean else f'is as accurate as {other}'}, on a single seed"
    return f"is {size}" if difference.clear else f"cannot be told apart from {other}"


def _sentence(row: Row, other: Row, difference: Difference) -> str:
    text = (
        f"“{row.arm}” keeps {percent(1 - row.sparsity, 1)} of its connections and has {percent(row.accuracy)} of the "
        f"test images right, “{other.arm}” {percent(other.accuracy)}: {points(difference)} percentage points"
    )
    if difference.half is None:
        return f"{text}; one seed cannot say how sure that is."
    sure = "the interval leaves zero out" if difference.clear else "the interval holds zero, so neither is shown to win"
    return f"{text} (95{_PERCENT} t interval, paired over {row.seeds} seeds); {sure}."

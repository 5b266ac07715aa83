"""Summary of a pruned network: weights alive in each layer, as a table, as data and as survival curves."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from synaptic_pruning.core.history import History
from synaptic_pruning.core.synapses import Synapses


@dataclass(frozen=True)
class Row:
    """One layer, or the whole network.

    Attributes:
        name: Parameter name, or ``total``.
        weights: Prunable weights.
        alive: How many of them are alive.
        unreached_units: Output units that no alive weight of this parameter reaches.
        grown: Weights that grew after the start.
        pruned: Weights pruned after the start, those that grew again included.
        mean_age: Mean age of the alive weights, in optimizer steps.
    """

    name: str
    weights: int
    alive: int
    unreached_units: int
    grown: int = 0
    pruned: int = 0
    mean_age: float = 0.0

    @property
    def sparsity(self) -> float:
        """Fraction pruned, in [0, 1]."""
        return 1 - self.alive / self.weights


@dataclass(frozen=True)
class Summary:
    """A table a layer; ``print`` it or take `to_dict`. Grown, pruned and ages are printed where any weight grew.

    Attributes:
        rows: One for each layer.
        total: The whole network.
        survival: For every generation (weights grown at the same step) ``grown_at`` (that step), ``size``, ``steps``
            and the fraction ``alive`` at those.
        others: Names and sizes of the network's other weights, which are not prunable; the largest first.

    Example:
        >>> from torch import nn
        >>> print(Summary.of(Synapses(nn.Linear(3, 2))))
        parameter  weights  alive  sparsity  unreached units
        weight           6      6     0.0 %           0
        total            6      6     0.0 %           0
    """

    rows: tuple[Row, ...]
    total: Row
    survival: tuple[dict[str, Any], ...] = ()
    others: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, synapses: Synapses, history: History | None = None, step: int = 0) -> "Summary":
        """Count what is alive now; with a history also grown and pruned weights and ages at that step.

        With sharded parameters, every rank must call it.
        """
        lives = [(0, 0, 0.0)] * len(synapses.layers)
        if history is not None:
            ages = [history.mean_age(place, step) for place in range(len(synapses.layers))]
            lives = list(zip(history.grown, history.pruned, ages, strict=True))
        rows = tuple(
            Row(layer.name, layer.size, layer.count, layer.unreached_units(), *life)
            for layer, life in zip(synapses.layers, lives, strict=True)
        )
        total = Row(
            "total",
            synapses.total,
            synapses.count,
            sum(row.unreached_units for row in rows),
            sum(row.grown for row in rows),
            sum(row.pruned for row in rows),
            sum(row.mean_age * row.alive for row in rows) / max(1, synapses.count),
        )
        survival = tuple(history.survival()) if history is not None else ()
        return cls(rows, total, survival, synapses.others)

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"layers", "total", "survival", "others"}`` of plain values, sparsity included."""
        plain = [{**asdict(row), "sparsity": row.sparsity} for row in (*self.rows, self.total)]
        return {"layers": plain[:-1], "total": plain[-1], "survival": list(self.survival), "others": dict(self.others)}

    def plot_survival(self, ax: Any = None) -> Any:
        """Draw the fraction alive of every generation over its age in steps; needs matplotlib.

        Args:
            ax: Matplotlib axes to draw on; new ones by default.

        Returns:
            The axes.
        """
        if ax is None:
            from matplotlib import pyplot

            ax = pyplot.subplots()[1]
        latest = max((curve["grown_at"] for curve in self.survival), default=0)
        for curve in self.survival:
            shade = 0.75 * (1 - curve["grown_at"] / latest) if latest else 0.0
            ages = [step - curve["grown_at"] for step in curve["steps"]]
            ax.step(ages, curve["alive"], where="post", color=str(shade), linewidth=1)
        ax.set(xlabel="age (optimizer steps)", ylabel="fraction alive", ylim=(0, 1.02))
        ax.set_title("darker: grown later" if latest else "all weights are from the start")
        return ax

    def __str__(self) -> str:
        head = ["parameter", "weights", "alive", "sparsity", "unreached units"]
        body = [
            [
                row.name,
                f"{row.weights:,}",
                f"{row.alive:,}",
                f"{row.sparsity:.1%}".replace("%", " %"),
                str(row.unreached_units),
            ]
            for row in (*self.rows, self.total)
        ]
        if self.total.grown:
            head += ["grown", "pruned", "mean age"]
            for line, row in zip(body, (*self.rows, self.total), strict=True):
                line += [f"{row.grown:,}", f"{row.pruned:,}", f"{row.mean_age:,.0f}"]
        rest = sum(self.others.values())
        share = f"{rest / (rest + self.total.weights):.1%}".replace("%", " %")
        note = f"\nnot prunable: {rest:,} weights ({share} of the network), most in {next(iter(self.others), '')}"
        widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
        return "\n".join(
            "  ".join(
                [
                    line[0].ljust(widths[0]),
                    *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True)),
                ]
            )
            for line in (head, *body)
        ) + (note if rest else "")

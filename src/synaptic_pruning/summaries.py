"""What is left of each layer, as data and as a table."""

from dataclasses import asdict, dataclass
from typing import Any

from synaptic_pruning.synapses import Synapses


@dataclass(frozen=True)
class Row:
    """One layer, or the whole network.

    Attributes:
        name: Parameter name, or ``total``.
        weights: Prunable weights.
        alive: How many of them are alive.
        dead_units: Output units that no alive weight of this parameter reaches.
    """

    name: str
    weights: int
    alive: int
    dead_units: int

    @property
    def sparsity(self) -> float:
        """Fraction gone, in [0, 1]."""
        return 1 - self.alive / self.weights


@dataclass(frozen=True)
class Summary:
    """A table a layer; ``print`` it or take `to_dict`.

    Example:
        >>> from torch import nn
        >>> print(Summary.of(Synapses(nn.Linear(3, 2))))
        parameter  weights  alive  sparsity  dead units
        weight           6      6     0.0 %           0
        total            6      6     0.0 %           0
    """

    rows: tuple[Row, ...]
    total: Row

    @classmethod
    def of(cls, synapses: Synapses) -> "Summary":
        """Count what is alive now."""
        rows = tuple(Row(x.name, x.alive.numel(), x.count, x.dead_units()) for x in synapses.layers)
        return cls(rows, Row("total", synapses.total, synapses.count, sum(row.dead_units for row in rows)))

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"layers": [...], "total": {...}}`` of plain values, sparsity included."""
        plain = [{**asdict(row), "sparsity": row.sparsity} for row in (*self.rows, self.total)]
        return {"layers": plain[:-1], "total": plain[-1]}

    def __str__(self) -> str:
        head = ("parameter", "weights", "alive", "sparsity", "dead units")
        body = [
            (
                row.name,
                f"{row.weights:,}",
                f"{row.alive:,}",
                f"{row.sparsity:.1%}".replace("%", " %"),
                str(row.dead_units),
            )
            for row in (*self.rows, self.total)
        ]
        widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
        return "\n".join(
            "  ".join(
                [
                    line[0].ljust(widths[0]),
                    *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True)),
                ]
            )
            for line in (head, *body)
        )

"""Patterns: of every n consecutive inputs of a row at most k stay alive, so that fast kernels know what to expect."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from synaptic_pruning.core import Synapses, total
from synaptic_pruning.core.topk import Blocks, lie_whole, smallest_in_blocks
from synaptic_pruning.rules.scores import Score, layer_scores


class Pattern(NamedTuple):
    """At most k of every n consecutive inputs of a row are alive.

    A block that is shorter than n, as the last one of a row may be, keeps its share of k: rounded, and at least 1.

    Example:
        >>> from torch import nn
        >>> weight = torch.tensor([[3.0, -1.0, 2.0, 4.0, 6.0, 5.0]])
        >>> net = nn.Linear(6, 1)
        >>> _ = net.weight.data.copy_(weight)
        >>> Pattern(1, 4).prune(Synapses(net), 1, "magnitude")  # blocks of four and of two
        [tensor([[False, False, False,  True,  True, False]])]
    """

    k: int
    n: int

    def blocks(self, synapses: Synapses) -> list[Blocks]:
        """Return the blocks of every layer."""
        return [Blocks(layer, self.n) for layer in synapses.layers]

    def check_whole(self, synapses: Synapses) -> None:
        """Refuse layers with a block that is spread over several ranks; every rank must call it.

        Raises:
            ValueError: There is such a layer.
        """
        split = [[int(not lie_whole(layer, self.n))] for layer in synapses.layers]
        found = total(torch.tensor(split, device="cpu"), [layer.shard for layer in synapses.layers])
        name = next((layer.name for layer, n in zip(synapses.layers, found[:, 0].tolist(), strict=True) if n), "")
        if name:
            raise ValueError(
                f"pattern={tuple(self)} needs each block of {self.n} inputs on one rank and {name} is sharded across "
                f"them; shard it by outputs, or its inputs in multiples of {self.n}"
            )

    def holds(self, synapses: Synapses, masks: Sequence[Tensor]) -> bool:
        """Return whether no block of these masks has more than k, over all ranks."""
        pairs = zip(self.blocks(synapses), masks, strict=True)
        return not any(synapses.count_true([blocks.excess(mask, self.k) for blocks, mask in pairs])[0])

    def prune(
        self, synapses: Synapses, kept: int, score: str | Score, activity: Sequence[Tensor | None] = ()
    ) -> list[Tensor]:
        """Return masks with at most ``kept`` alive weights a block; its lowest scores are pruned, ties by position.

        Args:
            synapses: The prunable weights.
            kept: Alive weights that a whole block keeps; at least 1.
            score: As for `layer_scores`.
            activity: As for `layer_scores`; a layer of which it is None is left alone.

        Raises:
            ValueError: A score is NaN; its parameter is named.
        """
        layers, blocks = synapses.layers, self.blocks(synapses)
        excess = [one.excess(layer.alive, kept) for one, layer in zip(blocks, layers, strict=True)]
        over = synapses.count_true(excess)[0]
        places = [i for i, n in enumerate(over) if n and (not activity or activity[i] is not None)]
        masks = [layer.alive for layer in layers]
        if places:
            scores = layer_scores(synapses, score, activity)
            marked = smallest_in_blocks(
                [scores[i] for i in places], [blocks[i] for i in places], [excess[i] for i in places]
            )
            for i, mark in zip(places, marked, strict=True):
                masks[i] = masks[i] & ~mark
        return masks


@dataclass(repr=False)
class Patterned:
    """The option ``pattern`` of a rule; its `repr` shows it only where it is given."""

    pattern: tuple[int, int] | None = field(default=None, kw_only=True)

    def __repr__(self) -> str:
        shown = [f.name for f in fields(self) if f.repr and f.name != "pattern"]
        shown += [] if self.pattern is None else ["pattern"]
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def _within_blocks(self) -> Pattern | None:
        """Return the pattern, of which the option may be a plain tuple; None where there is none."""
        return None if self.pattern is None else Pattern(*self.pattern)

    def _check_pattern(self, argument: str, sparsity: float, replaced: Sequence[str]) -> None:
        """Refuse what is no pattern or contradicts it.

        Args:
            argument: What error messages call the sparsity.
            sparsity: Must be 1 − k/n.
            replaced: Options that the pattern takes the place of.

        Raises:
            ValueError: As said.
        """
        pattern: Any = self.pattern
        pair = isinstance(pattern, tuple) and [type(number) for number in pattern] == [int, int]
        if not pair or not 1 <= pattern[0] <= pattern[1]:
            raise ValueError(
                f"pattern={pattern!r} must be two whole numbers (k, n), 1 ≤ k ≤ n: k of every n inputs of a row stay"
            )
        k, n = pattern
        if abs(sparsity - (1 - k / n)) > 1e-9:
            raise ValueError(f"{argument}={sparsity} contradicts pattern={pattern}; give 1 - {k} / {n} = {1 - k / n}")
        for name in replaced:
            if getattr(self, name) != getattr(type(self), name):
                raise ValueError(
                    f"{name}={getattr(self, name)!r} means nothing beside pattern={pattern}, by which every block "
                    "keeps as many; leave one of them out"
                )

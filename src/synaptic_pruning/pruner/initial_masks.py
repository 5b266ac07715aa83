"""With which masks a training begins: the rule's, or those of an earlier training."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from synaptic_pruning.core.synapses import Synapses
from synaptic_pruning.rules.base import Rule


class Start:
    """Put the first masks in force, and see to it that they do not destroy what has been learnt.

    A rule that objects to the weights it finds removes nothing: a checkpoint of the pruner may be loaded yet, as when a
    plain loop resumes. `check` raises if training begins without one.

    Args:
        rule: Whose masks to begin with.
        model: The network as the pruner got it.
        synapses: Its prunable weights.
        earlier: The state of an earlier training, whose masks come first where the weights are still zero there.
        resumed: A state will be loaded at once, so there is nothing to begin.

    Attributes:
        finished: The earlier training's ramp had ended, and its masks are in force.
    """

    def __init__(
        self, rule: Rule, model: nn.Module, synapses: Synapses, *, earlier: Mapping[str, Any] | None, resumed: bool
    ) -> None:
        self._synapses = synapses
        self._objection = ""
        self._by_rule = False
        masks = rule.attach(model, synapses)
        taken_up = None if earlier is None else self._still_fitting(earlier)
        self.finished = earlier is not None and taken_up is not None and bool(earlier["finished"])
        if resumed:
            return
        if taken_up is not None:
            synapses.keep(taken_up)
            return
        self._objection = rule.objection(synapses)
        if not self._objection:
            self._by_rule = True
            synapses.keep(masks)
            rule.started(synapses)

    def give_way(self, masks: list[Tensor]) -> None:
        """Put a checkpoint's masks in force in place of these.

        Raises:
            ValueError: The start has zeroed the weights that the checkpoint goes on with; nothing was changed.
        """
        layers = self._synapses.layers
        if self._by_rule:
            back = [mask.to(x.alive.device) & ~x.alive for x, mask in zip(layers, masks, strict=True)]
            lost = [new & (x.weight.detach() == 0) for x, new in zip(layers, back, strict=True)]
            wanted, zeroed = map(sum, self._synapses.counts(back, lost))
            if 0 < wanted == zeroed:
                raise ValueError(
                    "attaching the pruner has zeroed weights that were loaded before; load them again, and give the "
                    "pruner its state when it is made, with state="
                )
        self._synapses.keep(masks)
        self._objection, self._by_rule = "", False

    def check(self) -> None:
        """Call before the first step.

        Raises:
            ValueError: The rule objects to the weights, or weights were put in the network after the start where its
                masks have none.
        """
        if self._objection:
            raise ValueError(self._objection)
        layers = self._synapses.layers
        if self._by_rule and any(layer.count < layer.size for layer in layers):
            changed = self._outside([layer.alive for layer in layers])
            name = next((layer.name for layer, n in zip(layers, changed, strict=True) if n), "")
            if name:
                raise ValueError(
                    f"{name} was given weights after the pruner had removed some of it; load weights before the pruner "
                    "is attached, or load the pruner's state too"
                )
        self._by_rule = False

    def _still_fitting(self, earlier: Mapping[str, Any]) -> list[Tensor] | None:
        """Return the masks of an earlier training if the weights are still zero where that one pruned."""
        try:
            masks = self._synapses.read_masks(earlier)
        except ValueError:
            return None
        return None if any(self._outside(masks)) else masks

    def _outside(self, masks: list[Tensor]) -> list[int]:
        """Count the weights of each layer that are not zero where these masks are False, over all ranks."""
        layers = self._synapses.layers
        return self._synapses.counts(
            [(x.weight.detach() != 0) & ~mask.to(x.weight.device) for x, mask in zip(layers, masks, strict=True)]
        )[0]

"""Choose the initial masks, refuse to overwrite trained weights, undo what was begun."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from synaptic_pruning.core import Synapses, nonzero_pruned
from synaptic_pruning.rules import Rule


def check_start(rule: Rule, synapses: Synapses) -> None:
    """Refuse a start that would prune what was learnt; nothing is changed.

    Raises:
        ValueError: The rule refuses to start on these weights.
    """
    if refusal := rule.refusal(synapses):
        raise ValueError(refusal)


def earlier_masks(synapses: Synapses, earlier: Mapping[str, Any]) -> list[Tensor] | None:
    """Return the masks of an earlier training, None where they no longer fit the network.

    They fit if the parameters are the same and every weight that was pruned then is still zero.
    """
    try:
        masks = synapses.read_masks(earlier)
    except ValueError:
        return None
    return None if any(_nonzero_pruned(synapses, masks)) else masks


def restore_rule(rule: Rule, before: Mapping[str, Any]) -> None:
    """Give a rule the attributes that it had before it was attached; what it attached itself to is let go."""
    now = vars(rule)
    if now.keys() != before.keys() or any(now[name] is not value for name, value in before.items()):
        rule.detach()
        now.clear()
        now.update(before)


def check_no_weights_loaded(synapses: Synapses) -> None:
    """Call before the first step of a training: a pruned weight that is not zero was loaded after the pruner was made.

    Raises:
        ValueError: There is such a weight.
    """
    layers = synapses.layers
    if all(layer.count == layer.size for layer in layers):
        return
    counts = _nonzero_pruned(synapses, [layer.alive for layer in layers])
    name = next((layer.name for layer, n in zip(layers, counts, strict=True) if n), "")
    if name:
        raise ValueError(
            f"{name} was given weights after the pruner had pruned some of it; load weights before the pruner "
            "is made, or load the pruner's state too"
        )


def _nonzero_pruned(synapses: Synapses, masks: list[Tensor]) -> list[int]:
    """Count the weights of each layer that are not zero where these masks are False, over all ranks."""
    pairs = zip(synapses.layers, masks, strict=True)
    return synapses.count_true([nonzero_pruned(layer.weight, mask) for layer, mask in pairs])[0]

"""Watch how active the inputs of every weight are while a network trains: one small vector a layer."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from synaptic_pruning.core.activity.observers import See, find_see, shape
from synaptic_pruning.core.prunable import unwrap
from synaptic_pruning.core.synapses import Synapses


class Activity:
    """Mean absolute input of every connection over a window of training, by forward hooks.

    The hooks act only in training mode with gradients enabled, and only in one training step in ``sample``, beginning
    with the first of a window: the mean over a window is then one over a sample of its batches, at a fraction of the
    cost. Batches of one accumulated step count alike. Under DistributedDataParallel the ranks' sums are added up, so
    that all see the same means. Copies of the model (moving averages, pickles) are not watched.

    Args:
        model: The network, wrappers included.
        synapses: Its prunable weights.
        sample: Watch one step in this many, at least 1.

    Raises:
        ValueError: A prunable weight belongs to no layer whose inputs can be seen.

    Example:
        >>> net = nn.Linear(2, 3)
        >>> activity = Activity(net, Synapses(net))
        >>> _ = net(torch.tensor([[1.0, -2.0], [3.0, 0.0]]))
        >>> activity.close()
        [tensor([[2., 1.]])]
    """

    def __init__(self, model: nn.Module, synapses: Synapses, sample: int = 1) -> None:
        self._group = _process_group(model)
        self._sample = sample
        self._steps = 0
        self._resting = False
        self.watching = True
        self.totals: list[Tensor] = [torch.empty(0)] * len(synapses.layers)
        # Tensors, since a compiled step would be compiled anew for every other number.
        self._counts = [torch.zeros((), dtype=torch.int64, device=layer.alive.device) for layer in synapses.layers]
        places = {id(layer.parameter): place for place, layer in enumerate(synapses.layers)}
        watches = []
        for module in unwrap(model).modules():
            see = find_see(module)
            names = {name: places[id(p)] for name, p in module.named_parameters() if id(p) in places}
            if see is None or not names:
                continue
            watches.append((module, _Watch(self, see, names)))
            for name, place in names.items():
                weight = synapses.layers[place].parameter
                wide = torch.promote_types(weight.dtype, torch.float32)
                self.totals[place] = torch.zeros(shape(module, name, weight), dtype=wide, device=weight.device)
        hidden = [layer.name for layer, total in zip(synapses.layers, self.totals, strict=True) if not total.numel()]
        if hidden:
            raise ValueError(
                f"{hidden[0]} belongs to no layer whose inputs can be observed (Linear, Bilinear, convolutions, RNN, "
                "LSTM, GRU, their cells, MultiheadAttention); leave it out with exclude="
            )
        self._hooks = [module.register_forward_hook(watch, with_kwargs=True) for module, watch in watches]

    def step(self) -> None:
        """Take notice of an optimizer step."""
        self._steps += 1
        self._look()

    def rest(self) -> None:
        """Watch nothing any more: for a rule that has come to its end, while training goes on."""
        self._resting = True
        self._look()

    def add(self, place: int, total: Tensor, count: int) -> None:
        """Count in what one call's ``count`` samples add up to."""
        if self.totals[place].device != total.device:
            self.totals[place] = self.totals[place].to(total.device)
        self.totals[place].add_(total)
        self._counts[place].add_(count)

    def close(self) -> list[Tensor | None]:
        """Return each layer's mean absolute inputs, shaped as `inputs.shape` says, and start the next window.

        None where the layer saw nothing, or something that was not finite.
        """
        if self._group is not None:
            self._reduce(self._group)
        means = [
            total / count if count > 0 and isfinite(float(total.sum())) else None
            for total, count in zip(self.totals, map(int, self._counts), strict=True)
        ]
        torch._foreach_zero_([*self.totals, *self._counts])
        self._steps = 0
        self._look()
        return means

    def state_dict(self) -> dict[str, Any]:
        """Return the unfinished window."""
        return {
            "totals": [t.clone() for t in self.totals],
            "counts": torch.stack([c.cpu() for c in self._counts]),
            "steps": self._steps,
            "resting": self._resting,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on in the window that `state_dict` took."""
        for mine, theirs in zip([*self.totals, *self._counts], [*state["totals"], *state["counts"]], strict=True):
            mine.copy_(theirs)
        self._steps, self._resting = state["steps"], state["resting"]
        self._look()

    def remove(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _look(self) -> None:
        self.watching = not self._resting and self._steps % self._sample == 0

    def _reduce(self, group: dist.ProcessGroup) -> None:
        flat = torch.cat([total.reshape(-1) for total in self.totals])
        counts = torch.stack([count.to(flat.device) for count in self._counts])
        dist.all_reduce(flat, group=group)
        dist.all_reduce(counts, group=group)
        for total, part in zip(self.totals, torch.split(flat, [t.numel() for t in self.totals]), strict=True):
            total.copy_(part.view_as(total))
        for mine, count in zip(self._counts, counts, strict=True):
            mine.copy_(count)


class _Watch:
    """A forward hook that reports to an `Activity`; copies, as ``deepcopy`` and ``pickle`` make them, do nothing."""

    def __init__(self, activity: Activity, see: See, places: Mapping[str, int]) -> None:
        self._activity = activity
        self._see = see
        self._places = places

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        activity = self._activity
        if not (activity.watching and module.training and torch.is_grad_enabled()):
            return
        activity.watching = False  # what is computed again to be seen must not be seen twice
        for name, total, count in self._see(module, args, kwargs, output):
            if name in self._places:
                activity.add(self._places[name], total, count)
        activity.watching = True

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _Asleep, ()


class _Asleep:
    def __call__(self, *arguments: object) -> None:
        pass


def usage(weight: Tensor, activity: Tensor) -> Tensor:
    """Return |w| · E|x| of every connection, in float32 at least.

    Source: Wanda (Sun et al. 2023), which takes the root mean square of x in place of the mean size.

    Args:
        weight: Shape (outputs, ...).
        activity: Mean absolute inputs as `Activity.close` gives them.

    Example:
        >>> usage(torch.tensor([[1.0, -2.0], [0.5, 0.0]]), torch.tensor([[2.0, 1.0]]))
        tensor([[2., 2.],
                [1., 0.]])
    """
    wide = torch.promote_types(weight.dtype, activity.dtype)
    blocks = weight.detach().abs().to(wide).view(len(activity), -1, *weight.shape[1:])
    return blocks.mul_(activity.unsqueeze(1).to(weight.device)).view(weight.shape)  # in place: fresh memory is slow


def spread(activity: Tensor, weight: Tensor) -> Tensor:
    """Return the mean absolute input of every connection, of the weight's shape.

    Example:
        >>> spread(torch.tensor([[2.0, 1.0]]), torch.zeros(3, 2)).tolist()
        [[2.0, 1.0], [2.0, 1.0], [2.0, 1.0]]
    """
    rows = len(weight) // len(activity)
    each = activity.unsqueeze(1).to(weight.device).expand(len(activity), rows, *weight.shape[1:])
    return each.reshape(weight.shape)


def _process_group(model: nn.Module) -> dist.ProcessGroup | None:
    parallel = (m for m in model.modules() if isinstance(m, nn.parallel.DistributedDataParallel))
    wrapper = next(parallel, None)
    group: dist.ProcessGroup | None = getattr(wrapper, "process_group", None)
    return group

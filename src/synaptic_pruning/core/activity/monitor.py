"""Monitor the mean absolute input of every connection while a network trains, by forward hooks."""

import warnings
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from synaptic_pruning.core.activity.observers import Observer, find_observer, stats_shape
from synaptic_pruning.core.prunable import tensor_name, unwrap
from synaptic_pruning.core.synapses import Synapses


class ActivityMonitor:
    """Mean absolute input of every connection over a window of training, by forward hooks.

    The hooks act only in training mode with gradients enabled, and only in one training step in ``sample``, beginning
    with the first of a window: the mean over a window is then one over a sample of its batches, at a fraction of the
    cost. Batches of one accumulated step count alike. Under DistributedDataParallel the ranks' sums are added up, so
    that all see the same means. Copies of the model (moving averages, pickles) are not observed.

    Args:
        model: The network, wrappers included.
        synapses: Its prunable weights.
        sample: One step in this many is observed, at least 1.

    Raises:
        ValueError: A prunable weight belongs to no layer whose inputs can be observed.

    Example:
        >>> net = nn.Linear(2, 3)
        >>> monitor = ActivityMonitor(net, Synapses(net))
        >>> _ = net(torch.tensor([[1.0, -2.0], [3.0, 0.0]]))
        >>> monitor.end_window()
        [tensor([[2., 1.]])]
    """

    def __init__(self, model: nn.Module, synapses: Synapses, sample: int = 1) -> None:
        self._group = _process_group(model)
        self._sample = sample
        self._steps = 0
        self._stopped = False
        self.observing = True
        self.totals: list[Tensor] = [torch.empty(0, device="cpu")] * len(synapses.layers)
        # Tensors, since a compiled step would be compiled anew for every other number.
        self._counts = [torch.zeros((), dtype=torch.int64, device=layer.alive.device) for layer in synapses.layers]
        places = {id(layer.parameter): place for place, layer in enumerate(synapses.layers)}
        hooks = []
        for module in unwrap(model).modules():
            observer = find_observer(module)
            names = {tensor_name(name): places[id(p)] for name, p in module.named_parameters() if id(p) in places}
            if observer is None or not names:
                continue
            hooks.append((module, _ForwardHook(self, observer, names)))
            for name, place in names.items():
                weight = synapses.layers[place].parameter
                wide = torch.promote_types(weight.dtype, torch.float32)
                self.totals[place] = torch.zeros(stats_shape(module, name, weight), dtype=wide, device=weight.device)
        hidden = [layer.name for layer, total in zip(synapses.layers, self.totals, strict=True) if not total.numel()]
        if hidden:
            raise ValueError(
                f"{hidden[0]} belongs to no layer whose inputs can be observed (Linear, Bilinear, convolutions, RNN, "
                "LSTM, GRU, their cells, MultiheadAttention); leave it out with exclude="
            )
        self._hooks = [module.register_forward_hook(hook, with_kwargs=True) for module, hook in hooks]

    @property
    def attached(self) -> bool:
        """Whether its hooks are on the network."""
        return bool(self._hooks)

    def step(self) -> None:
        """Count an optimizer step."""
        self._steps += 1
        self._update_observing()

    def stop(self) -> None:
        """Observe nothing more, for a rule that has ended while training goes on."""
        self._stopped = True
        self._update_observing()

    def accumulate(self, place: int, total: Tensor, count: int) -> None:
        """Add the sum of one call's ``count`` samples."""
        if self.totals[place].device != total.device:
            self.totals[place] = self.totals[place].to(total.device)
        self.totals[place].add_(total)
        self._counts[place].add_(count)

    def end_window(self) -> list[Tensor | None]:
        """Return each layer's mean absolute inputs, shaped as `InputStats.total`, and start the next window.

        None where the layer had no input, or one that was not finite.
        """
        if self._group is not None:
            self._reduce(self._group)
        means = [
            total / count if count > 0 and isfinite(float(total.sum())) else None
            for total, count in zip(self.totals, map(int, self._counts), strict=True)
        ]
        torch._foreach_zero_([*self.totals, *self._counts])
        self._steps = 0
        self._update_observing()
        return means

    def state_dict(self) -> dict[str, Any]:
        """Return the unfinished window."""
        return {
            "totals": [t.clone() for t in self.totals],
            "counts": torch.stack([c.cpu() for c in self._counts]),
            "steps": self._steps,
            "resting": self._stopped,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on in the window that `state_dict` took."""
        for mine, theirs in zip([*self.totals, *self._counts], [*state["totals"], *state["counts"]], strict=True):
            mine.copy_(theirs)
        self._steps, self._stopped = state["steps"], state["resting"]
        self._update_observing()

    def remove(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _update_observing(self) -> None:
        self.observing = not self._stopped and self._steps % self._sample == 0

    def _reduce(self, group: dist.ProcessGroup) -> None:
        flat = torch.cat([total.reshape(-1) for total in self.totals])
        counts = torch.stack([count.to(flat.device) for count in self._counts])
        dist.all_reduce(flat, group=group)
        dist.all_reduce(counts, group=group)
        for total, part in zip(self.totals, torch.split(flat, [t.numel() for t in self.totals]), strict=True):
            total.copy_(part.view_as(total))
        for mine, count in zip(self._counts, counts, strict=True):
            mine.copy_(count)


class _ForwardHook:
    """A forward hook that reports to an `ActivityMonitor`; its copies by ``deepcopy`` and ``pickle`` do nothing."""

    def __init__(self, monitor: ActivityMonitor, observer: Observer, places: Mapping[str, int]) -> None:
        self._monitor = monitor
        self._observer = observer
        self._places = places

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        monitor = self._monitor
        if not (monitor.observing and module.training and torch.is_grad_enabled()):
            return
        monitor.observing = False  # what is computed again to be observed must not be observed twice
        for name, total, count in self._observer(module, args, kwargs, output):
            if name in self._places:
                monitor.accumulate(self._places[name], total, count)
        monitor.observing = True

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _NoHook, ()


class _NoHook:
    def __call__(self, *arguments: object) -> None:
        pass


def usage(weight: Tensor, activity: Tensor) -> Tensor:
    """Return |w| · E|x| of every connection, in float32 at least.

    Source: Wanda (Sun et al. 2023), which takes the root mean square of x in place of the mean size.

    Args:
        weight: Shape (outputs, ...).
        activity: Mean absolute inputs as `ActivityMonitor.end_window` gives them.

    Example:
        >>> usage(torch.tensor([[1.0, -2.0], [0.5, 0.0]]), torch.tensor([[2.0, 1.0]]))
        tensor([[2., 2.],
                [1., 0.]])
    """
    wide = torch.promote_types(weight.dtype, activity.dtype)
    rows = len(weight) // max(1, len(activity))
    blocks = weight.detach().abs().to(wide).view(len(activity), rows, *weight.shape[1:])
    return blocks.mul_(activity.unsqueeze(1).to(weight.device)).view(weight.shape)


def expand_activity(activity: Tensor, weight: Tensor) -> Tensor:
    """Return the mean absolute input of every connection, of the weight's shape.

    Example:
        >>> expand_activity(torch.tensor([[2.0, 1.0]]), torch.zeros(3, 2)).tolist()
        [[2.0, 1.0], [2.0, 1.0], [2.0, 1.0]]
    """
    rows = len(weight) // len(activity)
    each = activity.unsqueeze(1).to(weight.device).expand(len(activity), rows, *weight.shape[1:])
    return each.reshape(weight.shape)


def warn_unobserved(synapses: Synapses, means: Sequence[Tensor | None], when: str) -> None:
    """Warn that a layer had no finite input and is left as it is.

    Args:
        synapses: The prunable weights.
        means: For each layer its activity, None where it had none.
        when: The time in question, such as "in training".
    """
    unobserved = [layer.name for layer, mean in zip(synapses.layers, means, strict=True) if mean is None]
    if unobserved:
        warnings.warn(
            f"{unobserved[0]} saw no finite input {when} and is left as it is; call the layer itself in training mode, "
            "attach the pruner before the first call of a compiled model, or leave it out with exclude=",
            stacklevel=3,
        )


def _process_group(model: nn.Module) -> dist.ProcessGroup | None:
    parallel = (m for m in model.modules() if isinstance(m, nn.parallel.DistributedDataParallel))
    wrapper = next(parallel, None)
    group: dist.ProcessGroup | None = getattr(wrapper, "process_group", None)
    return group

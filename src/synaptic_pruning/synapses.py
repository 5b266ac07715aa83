"""The prunable weights of a network and which of them are alive.

Masks live here, beside the model: its modules, parameter objects, names and ``state_dict`` stay as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

_PRUNABLE = (
    nn.Linear,
    nn.Bilinear,
    nn.modules.conv._ConvNd,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)
_SAME_WIDTH = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_GATES = {nn.LSTM: 4, nn.GRU: 3, nn.LSTMCell: 4, nn.GRUCell: 3}


@dataclass(eq=False)
class Layer:
    """One prunable parameter.

    Attributes:
        name: Its name in the model.
        parameter: The parameter itself, shape (outputs, ...).
        alive: Bool tensor of its shape, True where the weight still is.
        gates: How many rows belong to one output unit: 4 in an LSTM, 3 in a GRU, else 1.
        transposed: For a transposed convolution, whose outputs are dimension 1, its groups; else 0.
        count: How many weights are alive.
    """

    name: str
    parameter: nn.Parameter
    alive: Tensor
    gates: int
    transposed: int
    count: int = field(init=False)
    _gate: Tensor | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.keep(self.alive)

    def keep(self, mask: Tensor) -> None:
        """Take a new mask, True where the weight is alive."""
        self.alive = mask.to(self.parameter.device)
        self.count = int(mask.sum())
        # On a CPU, clearing bits is three times faster than any kernel that takes a bool mask, at each and every step.
        integer = _SAME_WIDTH.get(self.parameter.element_size())
        fast = self.parameter.device.type == "cpu" and integer is not None and self.count < mask.numel()
        self._gate = self.alive.to(integer).neg_() if fast else None

    @torch.no_grad()
    def silence(self, tensor: Tensor) -> None:
        """Set the entries of a tensor of the parameter's shape to exactly zero, in place, where the weight is dead."""
        if self.count == self.alive.numel():
            return
        on_cpu = tensor.device.type == "cpu" and tensor.is_floating_point()
        if self._gate is not None and on_cpu and tensor.element_size() == self._gate.element_size():
            tensor.view(self._gate.dtype).bitwise_and_(self._gate)
        else:
            tensor.masked_fill_(~self.alive.to(tensor.device), 0)

    def dead_units(self) -> int:
        """Count output units that no alive weight of this parameter reaches."""
        if self.transposed:
            units = self.alive.reshape(self.transposed, -1, *self.alive.shape[1:]).any(1).flatten(2).any(2)
        else:
            units = self.alive.reshape(self.gates, self.alive.shape[0] // self.gates, -1).any(2).any(0)
        return int((~units).sum())


class Synapses:
    """The prunable parameters of a model with a mask for each.

    By default every weight with two or more dimensions in Linear, Conv, RNN/LSTM/GRU (cells too) and
    MultiheadAttention that requires a gradient and is not shared with an embedding. A parameter used in several places
    counts once.

    Args:
        model: The network; wrappers of ``torch.compile`` and DistributedDataParallel are seen through.
        include: Name patterns (``*`` and ``?``): take exactly the parameters that match one, whatever they are.
        exclude: Name patterns: leave out the parameters that match one.

    Raises:
        ValueError: A pattern matches nothing, or nothing is left to prune.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
        >>> synapses = Synapses(net)
        >>> [layer.name for layer in synapses.layers], synapses.total
        (['0.weight', '2.weight'], 18)
    """

    def __init__(self, model: nn.Module, include: Sequence[str] | None = None, exclude: Sequence[str] = ()) -> None:
        model = unwrap(model)
        chosen = _choose(model, _patterns("include", include), _patterns("exclude", exclude) or [])
        self.layers = [
            Layer(name, p, torch.ones(p.shape, dtype=torch.bool, device=p.device), gates, transposed)
            for name, p, gates, transposed in chosen
        ]
        self.total = sum(layer.count for layer in self.layers)

    @property
    def count(self) -> int:
        """How many weights are alive."""
        return sum(layer.count for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Fraction of the prunable weights that are gone, in [0, 1]."""
        return 1 - self.count / self.total

    def keep(self, masks: Iterable[Tensor]) -> None:
        """Take new masks: from now on exactly the entries that are True are alive.

        Args:
            masks: For each layer a bool tensor of its parameter's shape.
        """
        for layer, mask in zip(self.layers, list(masks), strict=True):
            layer.keep(mask)

    def silence(self) -> None:
        """Set every dead weight to exactly zero, in place."""
        for layer in self.layers:
            layer.silence(layer.parameter)

    def silence_gradients(self) -> None:
        """Set the gradient of every dead weight to zero, so that no optimizer learns from it."""
        for layer in self.layers:
            if layer.parameter.grad is not None:
                layer.silence(layer.parameter.grad)

    def clean(self, optimizer: torch.optim.Optimizer) -> None:
        """Zero what the optimizer remembers of dead weights: every state tensor that has its parameter's shape."""
        for layer in self.layers:
            for value in optimizer.state.get(layer.parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == layer.parameter.shape:
                    layer.silence(value)

    def masks(self) -> dict[str, Tensor]:
        """Return a copy of each mask by parameter name, True where the weight is alive."""
        return {layer.name: layer.alive.clone() for layer in self.layers}

    def state_dict(self) -> dict[str, Any]:
        """Return masks packed to one bit a weight, with the shapes, as plain values and tensors."""
        return {
            "masks": {layer.name: pack(layer.alive) for layer in self.layers},
            "shapes": {layer.name: list(layer.alive.shape) for layer in self.layers},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the masks of a `state_dict`; the weights are not touched.

        Raises:
            ValueError: The prunable parameters differ by name or shape; nothing was loaded.
        """
        mine = {layer.name: list(layer.alive.shape) for layer in self.layers}
        theirs = {name: list(shape) for name, shape in state["shapes"].items()}
        complaints = [f"{name} is missing in the checkpoint" for name in mine if name not in theirs]
        complaints += [f"{name} is missing in the model" for name in theirs if name not in mine]
        complaints += [
            f"{name} is {tuple(mine[name])} here but {tuple(theirs[name])} in the checkpoint"
            for name in mine
            if name in theirs and mine[name] != theirs[name]
        ]
        if complaints:
            raise ValueError(
                f"this checkpoint belongs to another model: {'; '.join(complaints)}; load the matching one"
            )
        self.keep(unpack(state["masks"][layer.name], layer.alive.shape) for layer in self.layers)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the user's own module inside what ``torch.compile`` or data parallelism wrapped around it."""
    while True:
        compiled = getattr(model, "_orig_mod", None)
        if isinstance(compiled, nn.Module):
            model = compiled
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model


def pack(mask: Tensor) -> Tensor:
    """Pack a bool tensor to uint8, eight entries a byte, first entry in the lowest bit.

    Example:
        >>> pack(torch.tensor([True, False, True, False, False, False, False, False, True]))
        tensor([5, 1], dtype=torch.uint8)
    """
    flat = mask.reshape(-1).to(torch.uint8)
    padded = torch.nn.functional.pad(flat, (0, -flat.numel() % 8)).view(-1, 8)
    packed = torch.zeros(len(padded), dtype=torch.uint8, device=mask.device)
    for bit in range(8):
        packed |= padded[:, bit] << bit
    return packed


def unpack(packed: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the bool tensor of that shape that `pack` packed.

    Raises:
        ValueError: The number of bytes does not fit the shape.

    Example:
        >>> unpack(torch.tensor([5], dtype=torch.uint8), (3,))
        tensor([ True, False,  True])
    """
    size = torch.Size(shape).numel()
    if packed.dtype is not torch.uint8 or packed.numel() != (size + 7) // 8:
        raise ValueError(
            f"a packed mask of {packed.numel()} {packed.dtype} entries does not fit shape {tuple(shape)}, "
            f"which takes {(size + 7) // 8} bytes; the checkpoint is damaged"
        )
    bits = torch.stack([(packed >> bit) & 1 for bit in range(8)], dim=1)
    return bits.reshape(-1)[:size].reshape(tuple(shape)).bool()


def _choose(
    model: nn.Module, include: list[str] | None, exclude: list[str]
) -> list[tuple[str, nn.Parameter, int, int]]:
    owned = [
        (f"{path}.{name}" if path else name, parameter, module)
        for path, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
    ]
    lazy = [name for name, p, _ in owned if nn.parameter.is_lazy(p)]
    if lazy:
        raise ValueError(f"{lazy[0]} has no shape yet; run one batch through the model before pruning it")
    if include is None:
        embedded = {id(p) for _, p, module in owned if isinstance(module, nn.Embedding | nn.EmbeddingBag)}
        found = [
            (name, p, module)
            for name, p, module in owned
            if isinstance(module, _PRUNABLE) and p.dim() >= 2 and p.requires_grad and id(p) not in embedded
        ]
    else:
        found = [entry for entry in owned if _matches(entry[0], include)]
    for pattern in [*(include or []), *exclude]:
        if not any(fnmatchcase(name, pattern) for name, _, _ in owned):
            raise ValueError(f"the pattern {pattern!r} in include= or exclude= matches no parameter of the model")
    dropped = {id(p) for name, p, _ in owned if _matches(name, exclude)}
    chosen: dict[int, tuple[str, nn.Parameter, int, int]] = {}
    for name, p, module in found:
        gates = next((n for kind, n in _GATES.items() if isinstance(module, kind) and "weight_hr" not in name), 1)
        transposed = module.groups if isinstance(module, nn.modules.conv._ConvTransposeNd) else 0
        if id(p) not in dropped:
            chosen.setdefault(id(p), (name, p, gates, transposed))
    if not chosen:
        raise ValueError(
            "the model has no prunable weight: none in Linear, Conv, RNN or MultiheadAttention layers requires a "
            "gradient and passes include= and exclude="
        )
    return list(chosen.values())


def _patterns(argument: str, patterns: Sequence[str] | None) -> list[str] | None:
    if isinstance(patterns, str):
        raise ValueError(f"{argument}={patterns!r} must be a list of name patterns; write [{patterns!r}]")
    return None if patterns is None else list(patterns)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)

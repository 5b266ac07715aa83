"""The prunable weights of a network and which of them are alive.

Masks live here, beside the model: its modules, parameter objects, names and ``state_dict`` stay as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from synaptic_pruning.optimizers import remembered
from synaptic_pruning.shards import Shard, local, local_like, total, whole

_PRUNABLE = (
    nn.Linear,
    nn.Bilinear,
    nn.modules.conv._ConvNd,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)
_SAME_WIDTH = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_SMALL = 1 << 20
_GATES = {nn.LSTM: 4, nn.GRU: 3, nn.LSTMCell: 4, nn.GRUCell: 3}


@dataclass(eq=False)
class Layer:
    """One prunable parameter; of one that is cut into shards over several processes, this rank's part.

    Attributes:
        name: Its name in the model.
        parameter: The parameter itself, shape (outputs, ...).
        alive: Bool tensor of the shape of `weight`, True where the weight still is.
        gates: How many rows belong to one output unit: 4 in an LSTM, 3 in a GRU, else 1.
        transposed: For a transposed convolution, whose outputs are dimension 1, its groups; else 0.
        shard: How the parameter is cut; None when all of it is here.
        count: How many weights are alive, over all ranks.
        gate: The mask as integers of the weights' own width, 1 for alive, where the dead are silenced by their bits.
    """

    name: str
    parameter: nn.Parameter
    alive: Tensor
    gates: int
    transposed: int
    shard: Shard | None = None
    count: int = field(init=False)
    gate: Tensor | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self.keep(self.alive)

    @property
    def size(self) -> int:
        """How many weights the parameter has, over all ranks."""
        return self.parameter.numel()

    @property
    def weight(self) -> Tensor:
        """This rank's part of the parameter, sharing its storage."""
        return local(self.parameter)

    @property
    def gradient(self) -> Tensor | None:
        """This rank's part of the gradient, if there is one."""
        gradient = self.parameter.grad
        return None if gradient is None else local_like(gradient, self.parameter)

    def mask(self) -> Tensor:
        """Return a copy of the mask in the parameter's own shape and layout."""
        return (
            self.alive.clone() if self.shard is None or self.shard.wrap is None else self.shard.wrap(self.alive.clone())
        )

    def keep(self, mask: Tensor, count: int | None = None) -> None:
        """Take a new mask of the shape of `weight`, True where it is alive; of a shard, every rank must call it.

        Args:
            mask: The mask.
            count: How many entries are True, over all ranks, where that is known already.
        """
        self.alive = mask.to(self.parameter.device)
        self.count = int(total(mask.sum().cpu()[None], [self.shard])) if count is None else count
        # On a CPU, bits times 0 or 1 is three times faster than any kernel that takes a bool mask. On a GPU it saves
        # every small layer the start of a kernel; large ones had better save the memory.
        integer = _SAME_WIDTH.get(self.parameter.element_size())
        here = self.alive.is_cpu or (self.alive.is_cuda and self.size <= _SMALL)
        if not here or integer is None or self.count == self.size:
            self.gate = None
        elif self.gate is None or self.gate.dtype is not integer or self.gate.device != self.alive.device:
            self.gate = self.alive.to(integer)
        else:
            self.gate.copy_(self.alive)  # memory that is there already is many times faster than fresh one

    def silence(self, tensor: Tensor, zero: int = 0) -> None:
        """Set the entries of a tensor of the parameter's shape to exactly zero, in place, where the weight is dead.

        Call it under ``torch.no_grad()``.

        Args:
            tensor: A weight, a gradient or what an optimizer remembers.
            zero: What stands for zero in it, of a tensor of codes.
        """
        if self.count == self.size:
            return
        tensor = local(tensor)
        if self.gate is not None and tensor.device == self.gate.device and tensor.dtype is self.parameter.dtype:
            tensor.view(self.gate.dtype).mul_(self.gate)
        else:
            tensor.masked_fill_(~self.alive.to(tensor.device), zero)

    def dead_units(self) -> int:
        """Count output units that no alive weight of this parameter reaches; of a shard, every rank must call it."""
        alive = whole(self.mask())
        if self.transposed:
            units = alive.reshape(self.transposed, -1, *alive.shape[1:]).any(1).flatten(2).any(2)
        else:
            units = alive.reshape(self.gates, alive.shape[0] // self.gates, -1).any(2).any(0)
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
        biases: Take the biases of those layers too, where ``include`` is not given.

    Raises:
        ValueError: A pattern matches nothing, or nothing is left to prune.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
        >>> synapses = Synapses(net)
        >>> [layer.name for layer in synapses.layers], synapses.total
        (['0.weight', '2.weight'], 18)
    """

    def __init__(
        self,
        model: nn.Module,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        *,
        biases: bool = False,
    ) -> None:
        model = unwrap(model)
        chosen = _choose(model, _patterns("include", include), _patterns("exclude", exclude) or [], biases)
        self.layers = [
            Layer(name, p, torch.ones_like(local(p), dtype=torch.bool), gates, transposed, Shard.of(p))
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

    @property
    def sharded(self) -> str:
        """The name of a parameter that is cut into shards, empty where none is."""
        return next((layer.name for layer in self.layers if layer.shard is not None), "")

    def keep(self, masks: Iterable[Tensor], counts: Sequence[int] | None = None) -> None:
        """Take new masks: from now on exactly the entries that are True are alive.

        Args:
            masks: For each layer a bool tensor of the shape of its ``weight``.
            counts: How many entries of each are True, over all ranks, where that is known already.
        """
        known = [None] * len(self.layers) if counts is None else counts
        for layer, mask, count in zip(self.layers, list(masks), known, strict=True):
            if mask is not layer.alive:
                layer.keep(mask, count)

    def follow(self) -> None:
        """Bring every mask to where its weights lie, should the network have been moved since."""
        for layer in self.layers:
            if layer.alive.device != layer.parameter.device:
                layer.keep(layer.alive, layer.count)

    @torch.no_grad()
    def clean(self, optimizer: torch.optim.Optimizer) -> None:
        """Zero what the optimizer remembers of dead weights: every state tensor that has its parameter's shape."""
        for layer in self.layers:
            for value, zero in remembered(optimizer.state.get(layer.parameter, {})):
                if value.shape == layer.parameter.shape:
                    layer.silence(value, zero)

    def masks(self) -> dict[str, Tensor]:
        """Return a copy of each mask by parameter name, True where the weight is alive."""
        return {layer.name: layer.mask() for layer in self.layers}

    def state_dict(self) -> dict[str, Any]:
        """Return the masks with their shapes, as plain values and tensors.

        A mask is packed to one bit a weight; one of a sharded parameter is a DTensor laid out as it is, which
        ``torch.distributed.checkpoint`` saves by parts and loads onto any number of ranks.
        """
        return {
            "masks": {x.name: pack(x.alive) if x.shard is None else x.mask() for x in self.layers},
            "shapes": {layer.name: list(layer.parameter.shape) for layer in self.layers},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the masks of a `state_dict`, packed, whole or sharded; the weights are not touched.

        Raises:
            ValueError: The prunable parameters differ by name or shape; nothing was loaded.
        """
        self.keep(self.read_masks(state))

    def read_masks(self, state: Mapping[str, Any]) -> list[Tensor]:
        """Return the masks of a `state_dict` without taking them: for each layer one of the shape of its ``weight``.

        Raises:
            ValueError: As for `load_state_dict`.
        """
        mine = {layer.name: list(layer.parameter.shape) for layer in self.layers}
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
        return [_read(state["masks"][layer.name], layer) for layer in self.layers]


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


def _read(mask: Tensor, layer: Layer) -> Tensor:
    mask = whole(mask) if mask.dtype is torch.bool else unpack(mask, layer.parameter.shape)
    return mask if layer.shard is None else layer.shard.take(mask)


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
    model: nn.Module, include: list[str] | None, exclude: list[str], biases: bool
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
            if isinstance(module, _PRUNABLE) and (p.dim() >= 2 or biases) and p.requires_grad and id(p) not in embedded
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

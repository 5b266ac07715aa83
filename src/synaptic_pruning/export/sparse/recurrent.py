"""Inference modules for sparse RNN, LSTM and GRU layers on a CPU, whole sequences at a time."""

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from synaptic_pruning.export.sparse.base import Inference
from synaptic_pruning.export.sparse.matrix import FEW_SAMPLES, SparseMatrix, compiled, in_parts

if TYPE_CHECKING:
    import numpy as np

_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}
_PAD = 32  # hidden units are padded to whole registers and lookup blocks of every processor; padding stays 0
State = Tensor | tuple[Tensor, Tensor]


class _Direction(nn.Module):
    """One direction of one layer: gates' input and recurrent weights, their biases, the projection."""

    def __init__(self, layer: nn.RNNBase, index: int, backward: bool) -> None:
        super().__init__()
        gates, hidden, projected = _GATES[layer.mode], layer.hidden_size, layer.proj_size
        wide = _round_up(hidden)
        suffix = f"l{index}_reverse" if backward else f"l{index}"
        weights = {name.removesuffix(f"_{suffix}"): w.detach() for name, w in layer.named_parameters()}
        inner = _pad_gates(weights["weight_ih"], gates, wide)
        if index:  # the layer below hands its padded units on
            directions = 2 if layer.bidirectional else 1
            inner = _pad_columns(inner.unflatten(1, (directions, -1))).flatten(1)
        zeros = torch.zeros(gates * hidden)
        biases = [
            _pad_gates(weights.get(name, zeros)[:, None], gates, wide).squeeze(1) for name in ("bias_ih", "bias_hh")
        ]
        self.inner = SparseMatrix(inner, biases[0])
        self.recurrent = SparseMatrix(_pad_columns(_pad_gates(weights["weight_hh"], gates, wide)), biases[1])
        projection = torch.zeros(0, wide)
        if projected:
            extra = _round_up(projected) - projected
            projection = nn.functional.pad(_pad_columns(weights["weight_hr"]), (0, 0, 0, extra))
        self.projection = SparseMatrix(projection)

    def few_samples(self) -> tuple[Any, ...]:
        """The weights as `recurrent_kernels.few_samples` takes them."""
        recurrent, projection = self.recurrent, self.projection
        return (
            *recurrent.slices(),
            _flat(recurrent.bias),
            *projection.slices(),
            _flat(projection.bias),
        )

    def tile_of_samples(self) -> tuple[Any, ...]:
        """The weights as `recurrent_kernels.tile_of_samples` takes them."""
        inner, recurrent = self.inner, self.recurrent
        return (
            *inner.tiles(),
            _flat(inner.bias),
            *recurrent.tiles(),
            _flat(recurrent.bias),
            *self.projection.tiles(),
        )


class SparseRecurrent(Inference):
    """`nn.LSTM`, `nn.GRU` or `nn.RNN` of which only the non-zero weights are kept.

    The call is that of the layer: `layer(input, state=None)` with every layer count, `bidirectional`,
    `batch_first` and `proj_size`; the state comes back as it would. Dropout between layers is off, as in
    evaluation. Without Numba the time steps run in Python over PyTorch's CSR products.

    Raises:
        TypeError: called with a packed sequence; pad it instead.

    >>> layer = nn.LSTM(3, 8, num_layers=2, batch_first=True)
    >>> x = torch.randn(4, 10, 3)
    >>> torch.allclose(SparseRecurrent(layer)(x)[0], layer(x)[0], atol=1e-5)
    True
    """

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.mode, self.input_size, self.num_layers = layer.mode, layer.input_size, layer.num_layers
        self.hidden_size, self.output_size = layer.hidden_size, layer.proj_size or layer.hidden_size
        self.batch_first, self.directions = layer.batch_first, 2 if layer.bidirectional else 1
        self.layers = nn.ModuleList(
            _Direction(layer, index, backward)
            for index in range(layer.num_layers)
            for backward in (False, True)[: self.directions]
        )
        super().train(False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Outputs of the last layer at every step, and the final state of every layer."""
        if isinstance(x, PackedSequence):
            raise TypeError("a sparse recurrent layer takes no packed sequence; pad the batch and mask its outputs")
        batched = x.dim() == 3
        if x.dim() not in (2, 3) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"x must end in {self.input_size} features and have 2 or 3 dimensions, not {tuple(x.shape)}"
            )
        self.check(x)
        x = x.detach()
        x = (x.transpose(0, 1) if self.batch_first else x) if batched else x[:, None]
        hidden, memory = self._start(state, x.shape[1], batched)
        y = self._run(x.contiguous(), hidden, memory)
        y = y.unflatten(2, (self.directions, -1))[..., : self.output_size].flatten(2)
        last = hidden[..., : self.output_size].contiguous()
        cells = memory[..., : self.hidden_size].contiguous()
        if not batched:
            y, last, cells = y[:, 0], last[:, 0], cells[:, 0]
        elif self.batch_first:
            y = y.transpose(0, 1)
        return y, (last, cells) if self.mode == "LSTM" else last

    def _start(self, state: State | None, batch: int, batched: bool) -> tuple[Tensor, Tensor]:
        """Padded copies of the given or zero state: (layers · directions, batch, units)."""
        count = len(self.layers)
        sizes = (self.output_size, self.hidden_size)
        padded = tuple(torch.zeros(count, batch, _round_up(size)) for size in sizes)
        if state is not None:
            given = (state,) if isinstance(state, Tensor) else state
            if len(given) != (2 if self.mode == "LSTM" else 1):
                raise TypeError(f"state must be (h, c) for an LSTM and h for {self.mode}")
            for target, part, size in zip(padded, given, sizes, strict=False):
                self.check(part)
                part = part if batched else part[:, None]
                if part.shape != (count, batch, size):
                    raise ValueError(f"state must have shape {(count, batch, size)}, not {tuple(part.shape)}")
                target[..., :size] = part.detach()
        return padded[0], padded[1]

    def _run(self, x: Tensor, hidden: Tensor, memory: Tensor) -> Tensor:
        """All layers over `x` (steps, batch, inputs); gives (steps, batch, directions · padded units)."""
        if not compiled():
            return self._run_in_python(x, hidden, memory)
        steps, batch, _ = x.shape
        if batch < FEW_SAMPLES:
            return self._run_few(x, hidden, memory)
        out = torch.empty(steps, batch, self.directions * hidden.shape[2])

        def part(first: int, last: int) -> None:
            while first < last:
                lanes = 32 if last - first > 16 else 16
                end = min(first + lanes, last)
                self._run_tile(x[:, first:end], hidden[:, first:end], memory[:, first:end], out[:, first:end], lanes)
                first = end

        in_parts(part, batch, self.thread_count())
        return out

    def _run_few(self, x: Tensor, hidden: Tensor, memory: Tensor) -> Tensor:
        from synaptic_pruning.export.kernels import recurrent as kernels

        steps, batch, _ = x.shape
        width = hidden.shape[2]
        source = out = x
        for index, layer in enumerate(self._directions()):
            if index % self.directions == 0:
                source = out
                out = torch.empty(steps, batch, self.directions * width)
            gates = layer.inner.product(source.view(steps * batch, -1), self.thread_count())
            kernels.few_samples(
                self._kernel_mode(kernels),
                index % self.directions == 1,
                steps,
                batch,
                _flat(gates),
                *layer.recurrent.cached("few samples", layer.few_samples),
                _flat(hidden[index]),
                _flat(memory[index]),
                _flat(out),
                self.directions * width,
                index % self.directions * width,
            )
        return out

    def _run_tile(self, x: Tensor, hidden: Tensor, memory: Tensor, out: Tensor, lanes: int) -> None:
        from synaptic_pruning.export.kernels import recurrent as kernels

        steps, batch, _ = x.shape
        width = hidden.shape[2]
        source = target = _lanes_last(x, lanes)
        for index, layer in enumerate(self._directions()):
            if index % self.directions == 0:
                source = target
                target = torch.empty(steps, self.directions * width, lanes)
            h, c = _lanes_last(hidden[index], lanes), _lanes_last(memory[index], lanes)
            kernels.tile_of_samples(
                self._kernel_mode(kernels),
                index % self.directions == 1,
                steps,
                lanes,
                _flat(source),
                source.shape[1],
                *layer.recurrent.cached("tile of samples", layer.tile_of_samples),
                _flat(h),
                _flat(c),
                _flat(target),
                self.directions * width,
                index % self.directions * width,
            )
            hidden[index] = h.T[:batch]
            memory[index] = c.T[:batch]
        out.copy_(target[..., :batch].transpose(1, 2))

    def _run_in_python(self, x: Tensor, hidden: Tensor, memory: Tensor) -> Tensor:
        source = y = x
        outputs: list[Tensor] = []
        for index, layer in enumerate(self._directions()):
            if index % self.directions == 0:
                source, outputs = y, []
            gates = layer.inner.product(source.flatten(0, 1)).unflatten(0, source.shape[:2])
            h, c, steps = hidden[index], memory[index], list[Tensor]()
            for gx in gates.flip(0) if index % self.directions else gates:
                h, c = self._step(gx, layer.recurrent.product(h.contiguous()), h, c)
                if self.output_size != self.hidden_size:
                    h = layer.projection.product(h.contiguous())
                steps.append(h)
            hidden[index], memory[index] = h, c
            outputs.append(torch.stack(steps[::-1] if index % self.directions else steps))
            if len(outputs) == self.directions:
                y = torch.cat(outputs, 2)
        return y

    def _step(self, gx: Tensor, gh: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        if self.mode == "LSTM":
            i, f, g, o = (gx + gh).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            return o.sigmoid() * c.tanh(), c
        if self.mode == "GRU":
            (rx, zx, nx), (rh, zh, nh) = gx.chunk(3, 1), gh.chunk(3, 1)
            z, n = (zx + zh).sigmoid(), (nx + (rx + rh).sigmoid() * nh).tanh()
            return n + z * (h - n), c
        return ((gx + gh).tanh() if self.mode == "RNN_TANH" else (gx + gh).relu()), c

    def _directions(self) -> list[_Direction]:
        return cast(list[_Direction], list(self.layers))

    def _kernel_mode(self, kernels: Any) -> int:
        modes: tuple[int, ...] = (kernels.LSTM, kernels.GRU, kernels.TANH, kernels.RELU)
        return dict(zip(_GATES, modes, strict=True))[self.mode]


def _round_up(units: int) -> int:
    return -(-units // _PAD) * _PAD


def _pad_columns(weight: Tensor) -> Tensor:
    return nn.functional.pad(weight, (0, _round_up(weight.shape[-1]) - weight.shape[-1]))


def _pad_gates(weight: Tensor, gates: int, wide: int) -> Tensor:
    """(gates · hidden, columns) to (gates · wide, columns), each gate followed by rows of zeros."""
    parts = weight.unflatten(0, (gates, -1))
    return nn.functional.pad(parts, (0, 0, 0, wide - parts.shape[1])).flatten(0, 1)


def _lanes_last(x: Tensor, lanes: int) -> Tensor:
    """(..., samples, features) to (..., features, lanes), unused lanes zero."""
    return nn.functional.pad(x.transpose(-1, -2), (0, lanes - x.shape[-2])).contiguous()


def _flat(x: Tensor) -> "np.ndarray[Any, np.dtype[np.float32]]":
    return x.view(-1).numpy()

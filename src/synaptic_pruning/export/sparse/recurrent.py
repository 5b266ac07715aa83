"""Run sparse RNN, LSTM and GRU layers on a CPU, whole sequences at a time."""

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from synaptic_pruning.export.sparse.base import Inference
from synaptic_pruning.export.sparse.matrix import MIN_TILE_SAMPLES, SparseMatrix, kernels_available, split_over_threads

if TYPE_CHECKING:
    import numpy as np

_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}
_PAD = 32  # hidden units are padded to whole registers and lookup blocks of every processor; padding stays 0
State = Tensor | tuple[Tensor, Tensor]


class _Direction(nn.Module):
    """Weights of one direction of one layer: input and recurrent weights of the gates, biases, projection."""

    def __init__(self, layer: nn.RNNBase, index: int, backward: bool) -> None:
        super().__init__()
        gates, hidden, projected = _GATES[layer.mode], layer.hidden_size, layer.proj_size
        wide = _round_up(hidden)
        suffix = f"l{index}_reverse" if backward else f"l{index}"
        weights = {name.removesuffix(f"_{suffix}"): w.detach() for name, w in layer.named_parameters()}
        inner = _pad_gates(weights["weight_ih"], gates, wide)
        if index:  # inputs are the padded units of the layer below
            directions = 2 if layer.bidirectional else 1
            inner = _pad_columns(inner.unflatten(1, (directions, -1))).flatten(1)
        zeros = weights["weight_ih"].new_zeros(gates * hidden)
        biases = [
            _pad_gates(weights.get(name, zeros)[:, None], gates, wide).squeeze(1) for name in ("bias_ih", "bias_hh")
        ]
        self.inner = SparseMatrix(inner, biases[0])
        self.recurrent = SparseMatrix(_pad_columns(_pad_gates(weights["weight_hh"], gates, wide)), biases[1])
        projection = inner.new_zeros(0, wide)
        if projected:
            extra = _round_up(projected) - projected
            projection = nn.functional.pad(_pad_columns(weights["weight_hr"]), (0, 0, 0, extra))
        self.projection = SparseMatrix(projection)

    def lookup_arrays(self) -> tuple[Any, ...]:
        """Return the weights as `recurrent_lookup` takes them."""
        recurrent, projection = self.recurrent, self.projection
        return (
            *recurrent.slices(),
            _flat(recurrent.bias),
            *projection.slices(),
            _flat(projection.bias),
        )

    def tile_arrays(self) -> tuple[Any, ...]:
        """Return the weights as `recurrent_tile` takes them."""
        inner, recurrent = self.inner, self.recurrent
        return (
            *inner.tiles(),
            _flat(inner.bias),
            *recurrent.tiles(),
            _flat(recurrent.bias),
            *self.projection.tiles(),
        )


class SparseRecurrent(Inference):
    """Compute `nn.LSTM`, `nn.GRU` or `nn.RNN` from its non-zero weights, float32 on the CPU.

    The call is that of the layer, with every layer count, ``bidirectional``, ``batch_first`` and ``proj_size``.
    Dropout between layers is off, as in evaluation mode. Without Numba the time steps run in Python over
    PyTorch's CSR products.

    Args:
        layer: The layer to copy the non-zero weights and the biases of.

    Example:
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
        """Return outputs of the last layer at every step, and the final state of every layer.

        Args:
            x: Input, shaped as the layer takes it.
            state: Initial state as the layer takes it; None means zeros.

        Raises:
            TypeError: ``x`` is a packed sequence, or ``state`` has another form than the layer's.
            ValueError: ``x`` or ``state`` has another shape.
        """
        if isinstance(x, PackedSequence):
            raise TypeError("a sparse recurrent layer takes no packed sequence; pad the batch and mask its outputs")
        batched = x.dim() == 3
        if x.dim() not in (2, 3) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"x must end in {self.input_size} features and have 2 or 3 dimensions, not {tuple(x.shape)}"
            )
        x = self.accept(x).detach()
        x = (x.transpose(0, 1) if self.batch_first else x) if batched else x[:, None]
        hidden, cell_state = self._start(state, x, batched)
        y = self._run(x.contiguous(), hidden, cell_state)
        y = y.unflatten(2, (self.directions, -1))[..., : self.output_size].flatten(2)
        last = hidden[..., : self.output_size].contiguous()
        last_cell = cell_state[..., : self.hidden_size].contiguous()
        if not batched:
            y, last, last_cell = y[:, 0], last[:, 0], last_cell[:, 0]
        elif self.batch_first:
            y = y.transpose(0, 1)
        return y, (last, last_cell) if self.mode == "LSTM" else last

    def _start(self, state: State | None, x: Tensor, batched: bool) -> tuple[Tensor, Tensor]:
        """Return padded copies of the given or zero state: (layers · directions, batch, units)."""
        count, batch = len(self.layers), x.shape[1]
        sizes = (self.output_size, self.hidden_size)
        padded = tuple(x.new_zeros(count, batch, _round_up(size)) for size in sizes)
        if state is not None:
            given = (state,) if isinstance(state, Tensor) else state
            if len(given) != (2 if self.mode == "LSTM" else 1):
                raise TypeError(f"state must be (h, c) for an LSTM and h for {self.mode}")
            for target, part, size in zip(padded, given, sizes, strict=False):
                part = self.accept(part) if batched else self.accept(part)[:, None]
                if part.shape != (count, batch, size):
                    raise ValueError(f"state must have shape {(count, batch, size)}, not {tuple(part.shape)}")
                target[..., :size] = part.detach()
        return padded[0], padded[1]

    def _run(self, x: Tensor, hidden: Tensor, cell_state: Tensor) -> Tensor:
        """Run all layers over ``x`` (steps, batch, inputs); return (steps, batch, directions · padded units)."""
        if not kernels_available():
            return self._run_in_python(x, hidden, cell_state)
        steps, batch, _ = x.shape
        if batch < MIN_TILE_SAMPLES:
            return self._run_lookup(x, hidden, cell_state)
        out = x.new_empty(steps, batch, self.directions * hidden.shape[2])

        def part(first: int, last: int) -> None:
            while first < last:
                lanes = 32 if last - first > 16 else 16
                end = min(first + lanes, last)
                self._run_tile(
                    x[:, first:end], hidden[:, first:end], cell_state[:, first:end], out[:, first:end], lanes
                )
                first = end

        split_over_threads(part, batch, self.thread_count())
        return out

    def _run_lookup(self, x: Tensor, hidden: Tensor, cell_state: Tensor) -> Tensor:
        from synaptic_pruning.export.kernels import recurrent_lookup

        steps, batch, _ = x.shape
        mode, width = self._kernel_mode(), hidden.shape[2]
        source = out = x
        for index, layer in enumerate(self._directions()):
            if index % self.directions == 0:
                source = out
                out = x.new_empty(steps, batch, self.directions * width)
            gates = layer.inner.product(source.view(steps * batch, -1), self.thread_count())
            recurrent_lookup(
                mode,
                index % self.directions == 1,
                steps,
                batch,
                _flat(gates),
                *layer.recurrent.cached("lookup arrays", layer.lookup_arrays),
                _flat(hidden[index]),
                _flat(cell_state[index]),
                _flat(out),
                self.directions * width,
                index % self.directions * width,
            )
        return out

    def _run_tile(self, x: Tensor, hidden: Tensor, cell_state: Tensor, out: Tensor, lanes: int) -> None:
        from synaptic_pruning.export.kernels import recurrent_tile

        steps, batch, _ = x.shape
        mode, width = self._kernel_mode(), hidden.shape[2]
        source = target = _lanes_last(x, lanes)
        for index, layer in enumerate(self._directions()):
            if index % self.directions == 0:
                source = target
                target = x.new_empty(steps, self.directions * width, lanes)
            h, c = _lanes_last(hidden[index], lanes), _lanes_last(cell_state[index], lanes)
            recurrent_tile(
                mode,
                index % self.directions == 1,
                steps,
                lanes,
                _flat(source),
                source.shape[1],
                *layer.recurrent.cached("tile arrays", layer.tile_arrays),
                _flat(h),
                _flat(c),
                _flat(target),
                self.directions * width,
                index % self.directions * width,
            )
            hidden[index] = h.T[:batch]
            cell_state[index] = c.T[:batch]
        out.copy_(target[..., :batch].transpose(1, 2))

    def _run_in_python(self, x: Tensor, hidden: Tensor, cell_state: Tensor) -> Tensor:
        source = y = x
        outputs: list[Tensor] = []
        for index, layer in enumerate(self._directions()):
            if index % self.directions == 0:
                source, outputs = y, []
            gates = layer.inner.product(source.flatten(0, 1)).unflatten(0, source.shape[:2])
            h, c, steps = hidden[index], cell_state[index], list[Tensor]()
            for gx in gates.flip(0) if index % self.directions else gates:
                h, c = self._step(gx, layer.recurrent.product(h.contiguous()), h, c)
                if self.output_size != self.hidden_size:
                    h = layer.projection.product(h.contiguous())
                steps.append(h)
            hidden[index], cell_state[index] = h, c
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

    def _kernel_mode(self) -> int:
        from synaptic_pruning.export.kernels import GRU, LSTM, RELU, TANH

        return {"LSTM": LSTM, "GRU": GRU, "RNN_TANH": TANH, "RNN_RELU": RELU}[self.mode]


def _round_up(units: int) -> int:
    return -(-units // _PAD) * _PAD


def _pad_columns(weight: Tensor) -> Tensor:
    return nn.functional.pad(weight, (0, _round_up(weight.shape[-1]) - weight.shape[-1]))


def _pad_gates(weight: Tensor, gates: int, wide: int) -> Tensor:
    """Pad (gates · hidden, columns) to (gates · wide, columns), zeros after the rows of each gate."""
    parts = weight.unflatten(0, (gates, -1))
    return nn.functional.pad(parts, (0, 0, 0, wide - parts.shape[1])).flatten(0, 1)


def _lanes_last(x: Tensor, lanes: int) -> Tensor:
    """Return (..., samples, features) as (..., features, lanes), with zeros in unused lanes."""
    return nn.functional.pad(x.transpose(-1, -2), (0, lanes - x.shape[-2])).contiguous()


def _flat(x: Tensor) -> "np.ndarray[Any, np.dtype[np.float32]]":
    return x.view(-1).numpy()

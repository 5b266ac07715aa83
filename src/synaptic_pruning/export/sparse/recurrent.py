"""Run sparse RNN, LSTM and GRU layers on a CPU, whole sequences at a time."""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from synaptic_pruning.export.sparse.base import Inference
from synaptic_pruning.export.sparse.matrix import MIN_TILE_SAMPLES, SparseMatrix, kernels_available, split_over_threads

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
            inner = pad_columns(inner.unflatten(1, (directions, -1))).flatten(1)
        zeros = weights["weight_ih"].new_zeros(gates * hidden)
        biases = [
            _pad_gates(weights.get(name, zeros)[:, None], gates, wide).squeeze(1) for name in ("bias_ih", "bias_hh")
        ]
        self.inner = SparseMatrix(inner, biases[0])
        self.recurrent = SparseMatrix(pad_columns(_pad_gates(weights["weight_hh"], gates, wide)), biases[1])
        projection = inner.new_zeros(0, wide)
        if projected:
            extra = _round_up(projected) - projected
            projection = nn.functional.pad(pad_columns(weights["weight_hr"]), (0, 0, 0, extra))
        self.projection = SparseMatrix(projection)

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
        self._stack: Stack | None = None
        super().train(False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_stack": None}

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
        rows_first = not (self.batch_first and batched)
        x = x if batched else x[:, None]
        batch = x.shape[1 if rows_first else 0]
        given = self.accept_state(state, batch, batched)
        if self.takes_one_call(x, batch):
            y, last, last_cell = self._run_in_one_call(x.contiguous(), given, rows_first)
        else:
            x = x if rows_first else x.transpose(0, 1)
            hidden, cell_state = self._padded(given, x)
            y = self._run(x.contiguous(), hidden, cell_state)
            y = y.unflatten(2, (self.directions, -1))[..., : self.output_size].flatten(2)
            y = y if rows_first else y.transpose(0, 1)
            last = hidden[..., : self.output_size].contiguous()
            last_cell = cell_state[..., : self.hidden_size].contiguous()
        if not batched:
            y, last, last_cell = y[:, 0], last[:, 0], last_cell[:, 0]
        return y, (last, last_cell) if self.mode == "LSTM" else last

    def accept_state(self, state: State | None, batch: int, batched: bool = True) -> tuple[Tensor, ...]:
        """Return the parts of an initial state, each (layers · directions, batch, units); none for None.

        Raises:
            TypeError: It has another form than the layer's.
            ValueError: It has another shape.
        """
        if state is None:
            return ()
        given = (state,) if isinstance(state, Tensor) else state
        if len(given) != (2 if self.mode == "LSTM" else 1):
            raise TypeError(f"state must be (h, c) for an LSTM and h for {self.mode}")
        parts = [self.accept(part).contiguous() for part in given]
        parts = parts if batched else [part[:, None] for part in parts]
        for part, size in zip(parts, (self.output_size, self.hidden_size), strict=False):
            if part.shape != (shape := (len(self.layers), batch, size)):
                raise ValueError(f"state must have shape {shape}, not {tuple(part.shape)}")
        return tuple(parts)

    @staticmethod
    def takes_one_call(x: Tensor, batch: int) -> bool:
        """Return whether one call of a kernel runs ``x``: few samples, and some."""
        return batch < MIN_TILE_SAMPLES and x.numel() > 0 and kernels_available()

    def stack(self, head: SparseMatrix | None = None) -> "Stack":
        """Return the compiled call of all layers, and of a head that reads their padded outputs."""
        from synaptic_pruning.export.kernels import pool

        directions = self._directions()
        matrices = [m for layer in directions for m in (layer.inner, layer.recurrent, layer.projection)]
        slices = [(*m.slices(), m.bias.numpy()) for m in (*matrices, *([] if head is None else [head]))]
        arrays = (*pool(slices), *pool([layer.inner.tiles() for layer in directions]))
        return Stack(
            (self._kernel_mode(), self.directions, self.input_size, self.hidden_size, self.output_size), arrays
        )

    def new_state(self, batch: int) -> tuple[Tensor, ...]:
        """Return memory for a state: (layers · directions, batch, units) each, the cell state of an LSTM last."""
        sizes = (self.output_size, self.hidden_size) if self.mode == "LSTM" else (self.output_size,)
        return tuple(torch.empty(len(self.layers), batch, size, dtype=torch.float32, device="cpu") for size in sizes)

    def _run_in_one_call(self, x: Tensor, state: tuple[Tensor, ...], rows_first: bool) -> tuple[Tensor, Tensor, Tensor]:
        if self._stack is None:
            self._stack = self.stack()
        batch = x.shape[1 if rows_first else 0]
        y, after = x.new_empty(*x.shape[:2], self.directions * self.output_size), self.new_state(batch)
        self._stack(x, x.shape[0 if rows_first else 1], batch, rows_first, state, after, out=y)
        return y, after[0], after[-1]

    def _padded(self, state: tuple[Tensor, ...], x: Tensor) -> tuple[Tensor, Tensor]:
        """Return padded copies of the given or zero state: (layers · directions, batch, units)."""
        sizes = (self.output_size, self.hidden_size)
        hidden, cell_state = (x.new_zeros(len(self.layers), x.shape[1], _round_up(size)) for size in sizes)
        for target, part in zip((hidden, cell_state), state, strict=False):
            target[..., : part.shape[2]] = part.detach()
        return hidden, cell_state

    def _run(self, x: Tensor, hidden: Tensor, cell_state: Tensor) -> Tensor:
        """Run all layers over ``x`` (steps, batch, inputs); return (steps, batch, directions · padded units)."""
        if not kernels_available() or x.numel() == 0:
            return self._run_in_python(x, hidden, cell_state)
        steps, batch, _ = x.shape
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


class Stack:
    """Recurrent layers and, where there is one, their head, for few samples, in one compiled call.

    Args:
        sizes: Mode, directions, inputs, units and outputs of each direction.
        arrays: Weights of all matrices, pooled, as the kernel takes them.
    """

    def __init__(self, sizes: tuple[int, ...], arrays: tuple[Any, ...]) -> None:
        from synaptic_pruning.export.kernels import run_stack, stack_table

        self._arrays, self._table, self._kernel = arrays, stack_table(sizes, arrays), run_stack

    def __call__(
        self,
        x: Tensor,
        steps: int,
        batch: int,
        rows_first: bool,
        state: tuple[Tensor, ...] = (),
        after: tuple[Tensor, ...] = (),
        out: Tensor | None = None,
        head_out: Tensor | None = None,
    ) -> None:
        """Run ``x`` from a state and write what is asked for; all are contiguous float32 of the right shapes."""
        self._kernel(
            self._table,
            steps,
            batch,
            not rows_first,
            x.data_ptr(),
            state[0].data_ptr() if state else 0,
            state[1].data_ptr() if len(state) > 1 else 0,
            after[0].data_ptr() if after else 0,
            after[1].data_ptr() if len(after) > 1 else 0,
            0 if out is None else out.data_ptr(),
            0 if head_out is None else head_out.data_ptr(),
        )


def _round_up(units: int) -> int:
    return -(-units // _PAD) * _PAD


def pad_columns(weight: Tensor) -> Tensor:
    """Pad the last dimension with zeros as units are padded."""
    return nn.functional.pad(weight, (0, _round_up(weight.shape[-1]) - weight.shape[-1]))


def _pad_gates(weight: Tensor, gates: int, wide: int) -> Tensor:
    """Pad (gates · hidden, columns) to (gates · wide, columns), zeros after the rows of each gate."""
    parts = weight.unflatten(0, (gates, -1))
    return nn.functional.pad(parts, (0, 0, 0, wide - parts.shape[1])).flatten(0, 1)


def _lanes_last(x: Tensor, lanes: int) -> Tensor:
    """Return (..., samples, features) as (..., features, lanes), with zeros in unused lanes."""
    return nn.functional.pad(x.transpose(-1, -2), (0, lanes - x.shape[-2])).contiguous()


def _flat(x: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return x.view(-1).numpy()

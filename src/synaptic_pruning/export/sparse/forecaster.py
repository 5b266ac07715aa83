"""Run recurrent layers and their head in one compiled call."""

import functools
import operator
from typing import Any, cast

import torch
from torch import Tensor, nn

from synaptic_pruning.export.sparse.base import Inference
from synaptic_pruning.export.sparse.forecaster_match import match_forecaster
from synaptic_pruning.export.sparse.linear import SparseLinear
from synaptic_pruning.export.sparse.matrix import SparseMatrix
from synaptic_pruning.export.sparse.recurrent import SparseRecurrent, Stack, State, pad_columns


class FastForecaster(Inference):
    """Compute RNN, LSTM or GRU layers and a Linear layer on their last row in one call, float32 on the CPU.

    `match_forecaster` recognises such networks. More samples than the lookup kernel takes run layer by layer.

    Args:
        model: The network, from whose non-zero weights this one is made.

    Raises:
        ValueError: ``model`` is something else.
    """

    body: SparseRecurrent
    head: SparseLinear

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        parts = match_forecaster(model)
        if parts is None:
            raise ValueError("model must be RNN, LSTM or GRU layers and one Linear layer on their last row")
        self.body = SparseRecurrent(cast(nn.RNNBase, model.get_submodule(parts.body)))
        self.head = SparseLinear(cast(nn.Linear, model.get_submodule(parts.head)))
        self.path = parts.path
        self._bound: tuple[Stack, SparseRecurrent, int] | None = None
        super().train(False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_bound": None}

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs (batch, features) for windows ``x``, shaped as the recurrent layers take them.

        Raises:
            ValueError: ``x`` has another number of features.
        """
        stack, body, outputs = self._bound or self._bind()
        if x.dim() == 3 and x.shape[2] == body.input_size:
            steps, batch = (x.shape[1], x.shape[0]) if body.batch_first else (x.shape[0], x.shape[1])
            if body.takes_one_call(x, batch):
                x = self.accept(x).contiguous()
                y = torch.empty(batch, outputs, dtype=torch.float32, device="cpu")
                stack(x, steps, batch, not body.batch_first, head_out=y)
                return y
        return self._read(body(x))

    def step(self, row: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Return outputs for one row (batch, features) after ``state``, and the state after it.

        Raises:
            TypeError: ``state`` has another form than the layers'.
            ValueError: ``row`` or ``state`` has another shape.
        """
        stack, body, outputs = self._bound or self._bind()
        batch = row.shape[0]
        if row.dim() != 2 or row.shape[1] != body.input_size or not body.takes_one_call(row, batch):
            result = body(row.unsqueeze(1 if body.batch_first else 0), state)
            return self._read(result), result[1]
        row, before, after = self.accept(row).contiguous(), body.accept_state(state, batch), body.new_state(batch)
        y = torch.empty(batch, outputs, dtype=torch.float32, device="cpu")
        stack(row, 1, batch, True, before, after, head_out=y)
        return y, cast(State, after if len(after) > 1 else after[0])

    def _read(self, result: Any) -> Tensor:
        return cast(Tensor, self.head(functools.reduce(operator.getitem, self.path, result)))

    def _bind(self) -> tuple[Stack, SparseRecurrent, int]:
        """Return the compiled call and what else a call needs, looked up once; the head reads padded units."""
        body, matrix = self.body, self.head.matrix
        weight = pad_columns(matrix.dense().unflatten(1, (body.directions, -1))).flatten(1)
        self._bound = body.stack(SparseMatrix(weight, matrix.bias)), body, matrix.outputs
        return self._bound

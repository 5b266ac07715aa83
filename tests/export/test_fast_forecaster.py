"""Recurrent layers with their head in one compiled call, and the layouts of the kernels' weights."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from synaptic_pruning.export import streaming
from synaptic_pruning.export.sparse import FastForecaster, SparseMatrix, match_forecaster


class Forecaster(nn.Module):
    """Layers and a head; `read` says what of the layers' result the head gets."""

    def __init__(self, kind: type[nn.RNNBase], read: str, **options: Any) -> None:
        super().__init__()
        self.body, self.dropout, self.read = kind(5, 37, **options), nn.Dropout(0.5), read
        self.head = nn.Linear((self.body.proj_size or 37) * (2 if self.body.bidirectional else 1), 3)

    def forward(self, x: Tensor) -> Tensor:
        outputs, state = self.body(x)
        reads = {
            "last": lambda: outputs[:, -1],
            "last of rows": lambda: outputs[-1],
            "first": lambda: outputs[:, 0],
            "state": lambda: state[-1],
            "cell": lambda: state[1][-1],
            "changed": lambda: (outputs.mul_(2), outputs[:, -1])[1],
        }
        return self.head(self.dropout(reads[self.read]()))


def pruned(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight *= torch.rand_like(weight) < 0.3
    return model.eval().requires_grad_(False)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(
    ("kind", "read", "options"),
    [
        (nn.LSTM, "last", {"num_layers": 2, "batch_first": True}),
        (nn.LSTM, "last of rows", {"bidirectional": True, "proj_size": 6}),
        (nn.GRU, "last", {"num_layers": 2, "batch_first": True, "bidirectional": True}),
        (nn.GRU, "state", {"batch_first": True}),
        (nn.RNN, "last of rows", {"bias": False}),
    ],
)
def test_one_call_equals_torch(kind: type[nn.RNNBase], read: str, options: dict[str, Any]) -> None:
    model = pruned(Forecaster(kind, read, **options))
    fast = FastForecaster(model)
    size = len(pickle.dumps(fast))
    for batch in (1, 3, 20):
        for rows in (1, 4, 30):
            x = torch.randn((batch, rows, 5) if model.body.batch_first else (rows, batch, 5)) * 3
            for form in (fast, copy.deepcopy(fast)):
                torch.testing.assert_close(form(x), model(x), atol=1e-5, rtol=1e-5)
    assert len(pickle.dumps(fast)) == size, "no layouts of kernels in the pickle"


@pytest.mark.parametrize(("read", "options"), [("first", {}), ("cell", {}), ("changed", {}), ("last", {})])
def test_other_networks_are_refused(read: str, options: dict[str, Any]) -> None:
    """The last one reads the last sample, not the last row: its layers have rows first."""
    model = Forecaster(nn.LSTM, read, **options)
    assert match_forecaster(model) is None
    with pytest.raises(ValueError, match="model must be RNN, LSTM or GRU layers and one Linear layer"):
        FastForecaster(model)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch", [1, 17])
def test_steps_in_one_call_equal_one_long_window(kind: type[nn.RNNBase], batch: int) -> None:
    model = pruned(Forecaster(kind, "last", num_layers=2, batch_first=True))
    small, state = streaming(FastForecaster(model), torch.randn(2, 6, 5)), None
    rows = torch.randn(batch, 20, 5)
    for k in range(20):
        before = copy.deepcopy(state)
        given = state
        forecast, state = small.step(rows[:, k], state)
        torch.testing.assert_close(forecast, model(rows[:, : k + 1]), atol=1e-5, rtol=0)
        assert given is None or all(map(torch.equal, _flat(given), _flat(before))), "the state given stays"
    torch.testing.assert_close(state[0], model.body(rows)[1], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="state must have shape"):
        small.step(rows[:1, 0], small.step(rows[:, 0].repeat(2, 1))[1])


def test_k_of_a_block_is_stored_without_padding() -> None:
    from synaptic_pruning.export.kernels import BLOCK, to_slices

    places = np.random.default_rng(0).random((64, 256 // BLOCK, BLOCK)).argsort(2)[..., :3]
    weight = np.zeros((64, 256 // BLOCK, BLOCK), np.float32)
    np.put_along_axis(weight, places, 1 + places.astype(np.float32), 2)
    weight = weight.reshape(64, 256)
    starts = np.arange(65, dtype=np.int32) * (3 * 256 // BLOCK)
    slices = to_slices(starts, weight.nonzero()[1].astype(np.int32), weight[weight != 0], 256)
    assert slices.values.size == np.count_nonzero(weight)
    x = torch.randn(3, 256)
    got = SparseMatrix(torch.from_numpy(weight)).product(x)
    torch.testing.assert_close(got.double(), x.double() @ torch.from_numpy(weight).double().T, atol=1e-3, rtol=1e-5)


def _flat(state: tuple[Any, ...]) -> list[Tensor]:
    return [x for part in state for x in (part if isinstance(part, tuple) else (part,))]

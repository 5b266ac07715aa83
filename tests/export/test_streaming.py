from typing import Any

import pytest
import torch
from torch import Tensor, nn

from synaptic_pruning.export import NoStreaming, compact, streaming
from synaptic_pruning.export.sparse import SparseRecurrent
from synaptic_pruning.tasks.forecasting.models import build_model


class Forecaster(nn.Module):
    """Row-wise layer, recurrent stacks, head on the last output; `read` says what the head gets."""

    def __init__(self, kind: type[nn.RNNBase], read: str = "last", batch_first: bool = True, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 5)
        self.first = kind(5, 8, 2, batch_first=batch_first, **options)
        width = 16 if options.get("bidirectional") else 8
        self.second = nn.GRU(width, 6, batch_first=batch_first)
        self.head, self.read = nn.Linear(6, 2), read
        self.time = 1 if batch_first else 0

    def forward(self, window: Tensor) -> Tensor:
        rows = self.second(self.first(self.embed(window))[0])[0]
        if self.read == "all":
            return self.head(rows)
        return self.head(rows.mean(self.time) if self.read == "mean" else rows.select(self.time, -1))


def pruned(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight *= torch.rand_like(weight) < 0.3
    return model.eval()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_steps_equal_one_long_window_at_every_row(kind: type[nn.RNNBase], batch: int) -> None:
    """The truth is PyTorch's run over the first k rows, for every k, far past the example's length."""
    torch.manual_seed(0)
    model = pruned(Forecaster(kind))
    sparse = Forecaster(kind).eval()
    sparse.load_state_dict(model.state_dict())
    for name in ("first", "second"):
        setattr(sparse, name, SparseRecurrent(getattr(model, name)))
    small, state = streaming(sparse, torch.randn(2, 6, 3)), None
    rows = torch.randn(batch, 20, 3)
    with torch.no_grad():
        for k in range(20):
            before = state
            forecast, state = small.step(rows[:, k], state)
            torch.testing.assert_close(forecast, model(rows[:, : k + 1]), atol=1e-5, rtol=0)
            again, _ = small.step(rows[:, k], before)
            assert torch.equal(again, forecast), "the state that was given stays as it was"


def test_time_first_whole_sequences_and_a_bare_layer() -> None:
    torch.manual_seed(0)
    window = torch.randn(5, 2, 3)
    model = Forecaster(nn.LSTM, "all", batch_first=False).eval()
    small, state, outputs = streaming(model, window), None, []
    for row in window:
        output, state = small.step(row, state)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs), model(window), atol=1e-5, rtol=0)
    layer = nn.LSTM(3, 4)
    small, state = streaming(layer, torch.randn(5, 3)), None  # one sequence without a batch
    for row in window[:, 0]:
        (output, _), state = small(row, state)
    torch.testing.assert_close(output[0], layer(window[:, 0])[0][-1], atol=1e-5, rtol=0)


def test_a_step_is_no_sliding_window() -> None:
    torch.manual_seed(0)
    model, rows = build_model("rnn", channels=2, length=3, horizon=3).eval(), torch.randn(1, 4, 2)
    small, state = streaming(model, rows[:, :3]), None
    for row in rows.unbind(1):
        forecast, state = small.step(row, state)
    torch.testing.assert_close(forecast, model(rows), atol=1e-5, rtol=0)
    assert (forecast - model(rows[:, 1:])).abs().max() > 1e-3, "the state remembers the row that the window has lost"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rnn", "lstm"])
def test_what_compact_returns(name: str) -> None:
    torch.manual_seed(0)
    window = torch.randn(1, 30, 2)
    model = pruned(build_model(name, channels=2, length=30, horizon=3, keep=8))
    fast = compact(model, window, threads=1)
    assert any(isinstance(module, SparseRecurrent) for module in fast.modules())
    small, state = streaming(fast, window), None
    for row in window.unbind(1):
        forecast, state = small.step(row, state)
    torch.testing.assert_close(forecast, model(window), atol=1e-5, rtol=0)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.RNN(3, 3, batch_first=True)

    def forward(self, window: Tensor) -> Tensor:
        return self.layer(self.layer(window)[0])[0][:, -1]


REFUSED = {
    "differed by": Forecaster(nn.GRU, "mean"),
    "first is bidirectional": Forecaster(nn.LSTM, bidirectional=True),
    "layer is called more than once": Twice(),
    "has no RNN, LSTM or GRU layer": build_model("patchtst", channels=3, length=7, horizon=1),
}


@pytest.mark.parametrize("message", REFUSED)
def test_networks_that_cannot_stream_are_refused_by_name(message: str) -> None:
    with pytest.raises(NoStreaming, match=message):
        streaming(REFUSED[message], torch.zeros(1, 7, 3))


def test_bad_input_is_refused() -> None:
    model = Forecaster(nn.GRU)
    with pytest.raises(ValueError, match="2 rows or more"):
        streaming(model, torch.zeros(1, 1, 3))
    with pytest.raises(ValueError, match="float32"):
        streaming(model, torch.zeros(1, 4, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="example_input must be something"):
        streaming(model, torch.zeros(1, 4, 2))
    small = streaming(model, torch.zeros(1, 4, 3))
    _, state = small.step(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="state must be what step returned, a tuple of 2"):
        small.step(torch.zeros(1, 3), state[:1])
    with pytest.raises(ValueError, match=r"state must fit a row of shape \(2, 3\)"):
        small.step(torch.zeros(2, 3), state)
    with pytest.raises(RuntimeError, match="inference only"):
        small.train()

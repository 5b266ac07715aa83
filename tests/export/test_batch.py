"""Shrunk and compact networks hold at other batch sizes and lengths than the example's, or are not taken."""

import copy
import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from synaptic_pruning.export import autotune, compact, shrink
from synaptic_pruning.export.batch import difference, find_batch, tolerance
from synaptic_pruning.tasks.forecasting.models import build_model


def sparse_wins(candidates: Any, **_: Any) -> dict[str, float]:
    return {name: 0.5 if "sparse" in name else 1.0 for name in candidates}


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)


class Convolutions(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv1d(4, 16, 3, padding=1), nn.ReLU(), nn.Conv1d(16, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, bool]] = {  # features, and whether other lengths run
    "lstm": (lambda: nn.LSTM(4, 16, batch_first=True), 4, True),
    "gru": (lambda: nn.GRU(4, 16, bidirectional=True, batch_first=True), 4, True),
    "encoder": (encoder, 16, True),
    "convolutions": (Convolutions, 4, True),
    "linear": (lambda: nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)), 4, True),
    "our lstm": (lambda: build_model("lstm", channels=4, length=6, horizon=2), 4, True),
    "our patchtst": (lambda: build_model("patchtst", channels=4, length=6, horizon=2), 4, False),
}


def pruned(build: Callable[[], nn.Module]) -> nn.Module:
    model = build().eval().requires_grad_(False)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight *= torch.rand_like(weight) < 0.2
            weight[len(weight) // 2 :, ::2] = 0
    return model


def first(y: Any) -> Tensor:
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.parametrize("batch", [1, pytest.param(2, marks=pytest.mark.slow), 32])
@pytest.mark.parametrize("name", NETWORKS)
def test_other_sizes_than_the_example(name: str, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "time_interleaved", sparse_wins)
    build, features, any_length = NETWORKS[name]
    model, example = pruned(build), torch.randn(batch, 6, features)
    for small in (shrink(model, example), compact(model, example, threads=1)):
        for samples in (1, 3, 7, 33):
            for steps in (6, 1, 11) if any_length else (6,):
                x = torch.randn(samples, steps, features)
                torch.testing.assert_close(first(small(x)), first(model(x)), atol=1e-5, rtol=1e-5)


class Wrong(nn.Module):
    """A layer that gives the right outputs for two samples only."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.detach())
        self.register_buffer("bias", layer.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias) * (1 if len(x) == 2 else 1.5)


def test_a_form_that_is_wrong_at_another_batch_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "time_interleaved", sparse_wins)
    monkeypatch.setattr(autotune, "SparseLinear", Wrong)
    monkeypatch.setattr(autotune, "Inference", (Wrong,))
    model, x = pruned(lambda: nn.Linear(8, 8)), torch.randn(2, 8)
    small = compact(model, x, threads=1)
    assert small.report.form == "dense"
    assert "at a batch of 7" in str(small.report)
    assert small(torch.ones(3, 8)).equal(model(torch.ones(3, 8)))


def test_a_smaller_network_that_is_wrong_at_another_batch_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    shrinking = importlib.import_module("synaptic_pruning.export.shrinking.shrink")
    shrink_in_place = shrinking._shrink

    def shrink_wrongly(model: Any, *others: Any) -> set[str]:
        changed = shrink_in_place(model, *others)
        model[2] = Wrong(model[2])
        return changed

    monkeypatch.setattr(shrinking, "_shrink", shrink_wrongly)
    model = pruned(lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)))
    model[2].weight[:, 3:] = 0
    before = copy.deepcopy(model.state_dict())
    small = shrink(model, torch.randn(2, 8))
    assert "at a batch of 7" in small.report.notes[0]
    assert all(value.equal(before[name]) for name, value in small.state_dict().items())


def test_samples_differ_and_keep_their_sign() -> None:
    batch = find_batch(nn.Linear(3, 1), (torch.tensor([[1.0, -2.0, 0.0]]),))
    (x,) = batch.arguments(5)
    assert x.shape == (5, 3)
    assert len(x.unique(dim=0)) == 5
    assert (x.sign() == torch.tensor([1.0, -1.0, 0.0])).all()
    (constant,) = find_batch(nn.Linear(3, 1), (torch.zeros(1, 3),)).arguments(4)
    assert ((constant >= 0) & (constant < 1)).all()
    assert len(constant.unique()) == 12
    before = torch.get_rng_state()
    batch.arguments(4)
    assert torch.get_rng_state().equal(before)


def test_differences_see_numbers_that_are_not_finite() -> None:
    a = torch.tensor([torch.nan, torch.inf, 1.0])
    assert difference(a, a.clone()) == 0
    assert difference(a, torch.tensor([torch.nan, torch.inf, 3.0])) == 2
    assert difference(a, torch.tensor([torch.nan, -torch.inf, 1.0])) == torch.inf
    assert difference(a, torch.tensor([0.0, torch.inf, 1.0])) == torch.inf
    assert tolerance(torch.tensor([torch.inf, -4.0]), 0.5) == 2

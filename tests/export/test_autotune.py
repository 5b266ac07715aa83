import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import synaptic_pruning
from synaptic_pruning.export import autotune, compact
from synaptic_pruning.export.sparse import Inference
from synaptic_pruning.export.timing import time_interleaved, torch_threads


class Forecaster(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.LSTM(4, 96, 2, batch_first=True), nn.Linear(96, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)[0][:, -1])


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return nn.Sequential(nn.Linear(4, 32), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))


def convolutions() -> nn.Module:
    return nn.Sequential(nn.Conv1d(4, 64, 5, padding=2), nn.BatchNorm1d(64), nn.ReLU(), nn.Conv1d(64, 8, 1))


NETWORKS = [
    (Forecaster, (10, 4)),
    (encoder, (10, 4)),
    (convolutions, (4, 10)),
    (lambda: nn.Linear(256, 256), (256,)),
    (lambda: nn.GRU(8, 64, bidirectional=True), (3, 8)),
]


@pytest.mark.parametrize(("build", "shape"), NETWORKS)
@pytest.mark.parametrize(("batch", "sparsity"), [(1, 0.95), (20, 0.95), (4, 0.0), (4, 1.0)])
def test_outputs_stay_whatever_is_chosen(
    build: Any, shape: tuple[int, ...], batch: int, sparsity: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autotune, "time_interleaved", lambda candidates, **_: time_interleaved(candidates, 0.01, 3))
    torch.manual_seed(0)
    model = build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter *= torch.rand_like(parameter) >= sparsity
    before = copy.deepcopy(model.state_dict())
    small = compact(model, torch.randn(batch, *shape), threads=1)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    for other in (1, batch, 37):  # batch sizes it was not chosen for
        x = torch.randn(other, *shape)
        with torch.inference_mode():
            torch.testing.assert_close(small(x), model(x), atol=1e-5, rtol=1e-5)
    report = small.report
    assert report.after <= report.before
    assert ("sparse" in report.form) == any(isinstance(m, Inference) for m in small.modules())
    if sparsity == 0:
        assert report.form == "dense"
    x = torch.randn(2, *shape)
    for again in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        torch.testing.assert_close(again(x), small(x), atol=0, rtol=0)


def test_an_encoder_of_which_one_layer_shrinks() -> None:
    model = encoder().eval()
    with torch.no_grad():
        for parameter in model[1].parameters():
            if parameter.dim() > 1:
                parameter *= torch.rand_like(parameter) < 0.2
        model[1].layers[0].linear2.weight[:, :40] = 0
    x = torch.randn(2, 10, 4)
    small = compact(model, x)
    assert any(row.after < row.before for row in small.report.shrunk.rows)
    with torch.inference_mode():
        torch.testing.assert_close(small(x), model(x), atol=1e-5, rtol=1e-5)


def test_the_faster_form_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    with torch.no_grad():
        for layer in model:
            layer.weight *= torch.rand_like(layer.weight) < 0.1
    clock = {"dense": 2.0, "sparse": 1.0, "shrunk": 3.0, "shrunk, sparse": 3.0}
    monkeypatch.setattr(autotune, "time_interleaved", lambda c, **_: {name: clock[name] for name in c})
    fast = compact(model, torch.randn(3, 64))
    assert [row.form for row in fast.report.rows] == ["sparse", "sparse"]
    assert "2.00x" in str(fast.report)
    with pytest.raises(RuntimeError, match="keep the original model for training"):
        fast(torch.randn(3, 64, requires_grad=True))
    clock["sparse"] = 1.99  # within noise
    same = compact(model, torch.randn(3, 64))
    assert same.report.form == "dense"
    assert not any(isinstance(m, Inference) for m in same.modules())


@pytest.mark.parametrize(("alone", "kept"), [(0.9, 1), (0.99, 2)])
def test_a_layer_that_is_faster_on_one_thread_keeps_to_one(
    alone: float, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"dense": 2.0, "sparse": 1.0, "one thread": alone}
    used: dict[str, set[int]] = {}

    def measured(candidates: Any, **_: Any) -> dict[str, float]:
        for name, run in candidates.items():
            with monkeypatch.context() as within:
                split = "synaptic_pruning.export.sparse.matrix.split_over_threads"
                within.setattr(split, lambda *words, name=name: used.setdefault(name, set()).add(words[-1]))
                run()
        return {name: clock[name] for name in candidates}

    monkeypatch.setattr(autotune, "time_interleaved", measured)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight *= torch.rand_like(layer.weight) < 0.1
    x = torch.randn(64, 64)
    fast = compact(model, x, threads=2)
    assert [layer.threads for layer in fast.modules() if isinstance(layer, Inference)] == [kept, kept]
    assert used["one thread"] == {1}
    assert used["sparse"] == {2, kept}  # layer by layer, then the whole network
    torch.testing.assert_close(fast(x), model(x), atol=1e-5, rtol=1e-5)
    compact(model, x, threads=1)  # has no such choice
    assert used["sparse"] == {1, 2}


def test_refusals_name_the_argument() -> None:
    model = nn.Linear(4, 4)
    with pytest.raises(ValueError, match="threads must be 1 or more, not 0"):
        compact(model, torch.zeros(1, 4), threads=0)
    with pytest.raises(ValueError, match="example_input"):
        compact(model, torch.zeros(1, 5))


def test_other_devices_and_types_stay_dense() -> None:
    model = nn.Linear(64, 64).double()
    with torch.no_grad():
        model.weight.zero_()
    small = compact(model, torch.zeros(1, 64).double())
    assert small.report.rows == []
    assert isinstance(small, nn.Linear)


def test_threads_are_restored() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_candidates_take_turns() -> None:
    order: list[str] = []
    time_interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, seconds=0, min_rounds=3)
    turns = [name for name, before in zip(order[4:], [None, *order[4:]], strict=False) if name != before]
    assert turns == ["a", "b"] * 3


def test_importing_loads_no_compiler() -> None:
    code = "import sys, synaptic_pruning.export; print({'numba', 'onnxruntime'} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(Path(synaptic_pruning.__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.strip() == "set()"


OTHER = """
import sys, types
from pathlib import Path
import torch
from torch import nn
import synaptic_pruning.export as export
lanes, block = {lanes}, {block}
if lanes == 16:  # as with AVX-512, but with lookups in plain code, which any processor runs
    name = "synaptic_pruning.export.kernels.simd"
    path = Path(export.__file__).parent / "kernels" / "simd.py"
    simd = types.ModuleType(name)
    simd.__file__ = str(path)
    sys.modules[name] = simd
    code = path.read_text().replace('_host_has("avx512f")', "False").replace('_host_has("avx2")', "False")
    exec(compile(code.replace("else (8, 8)", "else (16, 32)"), path, "exec"), vars(simd))
from synaptic_pruning.export.kernels import simd
from synaptic_pruning.export.sparse import FastForecaster, SparseMatrix
assert (simd.LANES, simd.BLOCK) == (lanes, block)
weight, x = torch.randn(70, 300) * (torch.rand(70, 300) < 0.1), torch.randn(70, 300)
for count in (1, 6, 70):
    got = SparseMatrix(weight).product(x[:count].contiguous())
    torch.testing.assert_close(got, x[:count] @ weight.T, atol=1e-4, rtol=1e-4)


class Forecaster(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rows, self.head = kind(5, 40, num_layers=2, batch_first=True), nn.Linear(40, 3)

    def forward(self, x):
        return self.head(self.rows(x)[0][:, -1])


for kind in (nn.LSTM, nn.GRU, nn.RNN):
    model, x = Forecaster(kind), torch.randn(3, 12, 5)
    with torch.no_grad():
        for weight in model.parameters():
            weight *= torch.rand_like(weight) < 0.2
        torch.testing.assert_close(FastForecaster(model)(x), model(x), atol=1e-5, rtol=1e-5)
print("equal")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("features", "lanes", "block"), [("+avx,+avx2,+fma", 8, 8), ("+sse4.2", 8, 8), ("+avx,+avx2,+fma", 16, 32)]
)
def test_other_processors_compute_the_same(features: str, lanes: int, block: int, tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(Path(synaptic_pruning.__file__).parents[1]),
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": features,
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    code = OTHER.replace("{lanes}", str(lanes)).replace("{block}", str(block))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.stdout.strip() == "equal", result.stderr


def test_the_package_is_an_attribute_of_the_library() -> None:
    assert synaptic_pruning.export.compact is compact
    with pytest.raises(AttributeError, match="nothing"):
        _ = synaptic_pruning.nothing

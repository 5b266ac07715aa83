import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from synaptic_pruning.export import to_onnx
from synaptic_pruning.export.batch import find_batch
from synaptic_pruning.export.unfused import unfuse
from synaptic_pruning.tasks import classification
from synaptic_pruning.tasks.forecasting.models import MODELS, build_model


@pytest.fixture(autouse=True)
def _one_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch parses the source of all its operators again at each export, which takes most of the time."""
    registry = pytest.importorskip("torch.onnx._internal.exporter._registration").ONNXRegistry
    if not hasattr(_one_registry, "made"):
        _one_registry.made = registry.from_torchlib()
    monkeypatch.setattr(registry, "from_torchlib", lambda *_, **__: copy.copy(_one_registry.made))


def run(path: Path, *inputs: Tensor) -> list[Any]:
    session = onnxruntime.InferenceSession(path)
    return session.run(None, {node.name: x.numpy() for node, x in zip(session.get_inputs(), inputs, strict=True)})


def shapes(path: Path) -> dict[str, list[Any]]:
    """Declared shapes by name, every free size as None."""
    session = onnxruntime.InferenceSession(path)
    nodes = (*session.get_inputs(), *session.get_outputs())
    return {node.name: [n if isinstance(n, int) else None for n in node.shape] for node in nodes}


def test_onnx_of_the_shrunk_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2)).eval()
    whole = to_onnx(model, torch.randn(2, 8), tmp_path / "whole.onnx").stat().st_size
    with torch.no_grad():
        model[2].weight[:, 4:] = 0
    path = to_onnx(model, torch.randn(2, 8), tmp_path / "small.onnx", input_names=["x"], output_names=["y"])
    assert whole - path.stat().st_size > 60 * 10 * 4 * 0.9, "60 units of 8 inputs, a bias and 2 outputs"
    x = torch.randn(7, 8)  # another batch size than the example's
    np.testing.assert_allclose(run(path, x)[0], model(x).detach().numpy(), atol=1e-5)
    assert shapes(path) == {"x": [None, 8], "y": [None, 2]}
    assert shapes(tmp_path / "whole.onnx") == {"input": [None, 8], "output": [None, 2]}


def test_a_file_that_differs_is_not_written_and_the_model_stays(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh()).train()
    with pytest.raises(RuntimeError, match="differs"):
        to_onnx(model, torch.randn(3, 8), tmp_path / "a.onnx", atol=-1)
    assert not list(tmp_path.iterdir())
    assert model.training
    assert model[1].num_batches_tracked == 0


# ---- a free batch


class Step(nn.Module):
    """A recurrent layer with its state as input and output."""

    def __init__(self, kind: type[nn.RNNBase], batch_first: bool) -> None:
        super().__init__()
        self.layer = kind(4, 8, 2, batch_first=batch_first)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        return self.layer(x, state)


class Masked(nn.Module):
    """Attention with a mask over the steps that all samples share, and a temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, mask: Tensor, x: Tensor, padding: Tensor, temperature: Tensor) -> Tensor:
        x = x * temperature
        return self.attention(x, x, x, attn_mask=mask, key_padding_mask=padding, need_weights=False)[0]


class Call(nn.Module):
    """A network of one function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.linear = nn.Linear(6, 6)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self.linear(inputs[0]), *inputs[1:])


def forecaster(name: str, **sizes: int) -> nn.Module:
    return build_model(name, channels=2, length=sizes.get("length", 30), horizon=3)


def attention() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)


def tokens(*shape: int) -> Tensor:
    return torch.randint(9, shape)


OURS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{name: (lambda name=name: forecaster(name), (30, 2)) for name in MODELS},
    "patchtst padded": (lambda: forecaster("patchtst", length=31), (31, 2)),
    "patchtst of one row": (lambda: forecaster("patchtst", length=1), (1, 2)),
    "gru": (lambda: nn.GRU(2, 8, batch_first=True), (6, 2)),
    **{
        name: (lambda name=name: classification.build_model(name, (1, 8, 8), 3, seed=0), (1, 8, 8))
        for name in ("mlp", "cnn", "vgg")
    },
    "encoder": (attention, (5, 8)),
    "our unfused encoder": (lambda: unfuse(attention()), (5, 8)),
}


def check_sizes(path: Path, model: nn.Module, shape: tuple[int, ...]) -> None:
    for samples in (1, 3, 7):
        x = torch.randn(samples, *shape)
        with torch.no_grad():
            want = torch.utils._pytree.tree_leaves(model(x))
        for a, b in zip(want, run(path, x), strict=True):
            np.testing.assert_allclose(b, a.numpy(), atol=1e-5)
    declared = list(shapes(path).values())
    assert declared[0] == [None, *shape]
    assert all(None in sizes for sizes in declared)


@pytest.mark.slow
def test_patchtst_from_one_sample_runs_with_any_number(tmp_path: Path) -> None:
    model = MODELS["patchtst"](channels=2, length=8, horizon=2, width=8, heads=2, blocks=1, feedforward=8).eval()
    check_sizes(to_onnx(model, torch.randn(1, 8, 2), tmp_path / "net.onnx"), model, (8, 2))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2, 32])
@pytest.mark.parametrize("name", OURS)
def test_our_networks_run_with_any_number_of_samples(name: str, batch: int, tmp_path: Path) -> None:
    build, shape = OURS[name]
    model = build().eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight *= torch.rand_like(weight) < 0.5
    check_sizes(to_onnx(model, torch.randn(batch, *shape), tmp_path / "net.onnx"), model, shape)


# What the batch of inputs is: model, inputs, the dimension of each that is free, declared shapes.
PLACES: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Any, ...]], tuple[int | None, ...]]] = {
    "steps first": (lambda: Step(nn.LSTM, False), lambda: (torch.randn(6, 2, 4),), (1,)),
    "steps first, one sample, one step": (lambda: Step(nn.GRU, False), lambda: (torch.randn(1, 1, 4),), (1,)),
    "steps first, as many samples": (lambda: Step(nn.RNN, False), lambda: (torch.zeros(3, 3, 4),), (1,)),
    "a state of layers first": (
        lambda: Step(nn.LSTM, True),
        lambda: (torch.randn(2, 6, 4), (torch.randn(2, 2, 8), torch.randn(2, 2, 8))),
        (0, 1, 1),
    ),
    "steps and state": (lambda: Step(nn.GRU, False), lambda: (torch.randn(6, 2, 4), torch.randn(2, 2, 8)), (1, 1)),
    "a mask in front": (
        Masked,
        lambda: (torch.zeros(5, 5).bool(), torch.randn(5, 5, 8), torch.zeros(5, 5).bool(), torch.tensor(2.0)),
        (None, 0, 0, None),
    ),
    "a dict": (lambda: Call(lambda x, d: x * d["k"]), lambda: (torch.randn(2, 6), {"k": torch.randn(2, 1)}), (0, 0)),
    "constants": (
        lambda: Call(lambda x, k, _, y: x * k + y),
        lambda: (torch.randn(2, 6), 3, None, torch.randn(6)),
        (0, None),
    ),
    "a mean": (lambda: Call(lambda x: (x**2).mean()), lambda: (torch.randn(3, 6),), (0,)),
    "a length": (lambda: Call(lambda x: x.reshape(len(x), -1) / len(x)), lambda: (torch.randn(3, 6),), (0,)),
    "tokens": (lambda: nn.Embedding(9, 4), lambda: (tokens(2, 5),), (0,)),
    "tokens, steps first": (lambda: nn.Sequential(nn.Embedding(9, 4), nn.GRU(4, 5)), lambda: (tokens(6, 2),), (1,)),
}


@pytest.mark.parametrize("name", PLACES)
def test_the_batch_is_found(name: str) -> None:
    build, inputs, axes = PLACES[name]
    with torch.no_grad():
        batch = find_batch(build().eval(), inputs())
    assert batch.axes == axes


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACES)
def test_the_batch_is_free_where_it_lies(name: str, tmp_path: Path) -> None:
    build, inputs, axes = PLACES[name]
    model, example = build().eval(), inputs()
    path = to_onnx(model, example, tmp_path / "net.onnx")
    declared = list(shapes(path).values())
    for sizes, axis in zip(declared, axes, strict=False):
        assert [n for n, size in enumerate(sizes) if size is None] == ([] if axis is None else [axis])
    batch = find_batch(model, example)
    for samples in (1, 3, 9):
        arguments = batch.arguments(samples)
        tensors = [x for x in torch.utils._pytree.tree_leaves(arguments) if isinstance(x, Tensor)]
        with torch.no_grad():
            want = torch.utils._pytree.tree_leaves(model(*arguments))
        for a, b in zip(want, run(path, *tensors), strict=True):
            np.testing.assert_allclose(b, a.numpy(), atol=1e-5)


REFUSED: dict[str, tuple[Callable[[], nn.Module], Any, str]] = {
    "a table for each sample": (lambda: Call(lambda x: x * torch.ones(3, 1)), torch.randn(3, 6), "batch of 7 failed"),
    "a number of samples": (lambda: Call(lambda x: x.reshape(3, -1)), torch.randn(3, 6), "baked in"),
    "no batch": (lambda: nn.Linear(4, 2), torch.randn(4), "other batch sizes"),
    "an input that does not fit": (lambda: nn.Linear(4, 2), torch.randn(2, 5), "can run on"),
    "complex": (lambda: nn.Linear(4, 2), torch.randn(2, 4, dtype=torch.complex64), "complex64"),
    "bfloat16": (lambda: nn.Linear(4, 2).bfloat16(), torch.randn(2, 4).bfloat16(), "bfloat16"),
    "a branch on values": (lambda: Call(lambda x: x if x.sum() > 0 else -x), torch.randn(2, 6), "ONNX"),
    "other names": (lambda: nn.Linear(4, 2), torch.randn(2, 4), "input_names must be 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_the_older_file(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    build, example, words = REFUSED[name]
    path = tmp_path / "net.onnx"
    path.write_text("an older file")
    names = {"input_names": ["a", "b"]} if name == "other names" else {}
    with pytest.raises((ValueError, RuntimeError), match=words) as caught:
        to_onnx(build().eval(), example, path, **names)
    assert len(str(caught.value).splitlines()) == 1
    assert [f.name for f in tmp_path.iterdir()] == ["net.onnx"]
    assert path.read_text() == "an older file"
    assert capfd.readouterr() == ("", "")


def test_names_that_cannot_be(tmp_path: Path) -> None:
    model, x = nn.Linear(4, 2), torch.randn(2, 4)
    for names in ({"input_names": ["a"], "output_names": ["a"]}, {"input_names": [""]}, {"output_names": ["a", "a"]}):
        with pytest.raises(ValueError, match="_names"):
            to_onnx(model, x, tmp_path / "net.onnx", **names)
    with pytest.raises(ValueError, match="folder that exists"):
        to_onnx(model, x, tmp_path / "no" / "net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: x * 2 if x.shape[0] == 1 else x * 3, "at batch 1"),  # one sample is another network
        (lambda x: x.sum(1).squeeze(), "at batch 1"),  # one sample loses its dimension
        (lambda x: x.bfloat16(), "bfloat16"),
    ],
)
def test_files_that_hold_at_some_sizes_only(function: Callable[..., Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=words):
        to_onnx(Call(function).eval(), torch.randn(3, 6), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_names_that_weights_have(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="clash"):
        to_onnx(nn.Linear(4, 2), torch.randn(2, 4), tmp_path / "net.onnx", input_names=["weight"])

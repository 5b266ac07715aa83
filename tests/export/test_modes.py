"""Modes of the caller hold in every thread: each sparse layer, with one and two threads."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from synaptic_pruning.export import compact
from synaptic_pruning.export.sparse import FastAttention, FastBlock, SparseConv, SparseLinear, SparseRecurrent, matrix
from synaptic_pruning.export.sparse.matrix import split_over_threads
from synaptic_pruning.export.unfused import Attention, unfuse

BATCH = 40  # two threads share it


def attention(layer: nn.MultiheadAttention) -> nn.Module:
    fast = Attention(copy.deepcopy(layer))
    for name in ("query", "key", "value", "out_proj"):
        setattr(fast, name, SparseLinear(getattr(fast, name)))
    return FastAttention(fast)


def block(layer: nn.TransformerEncoderLayer) -> nn.Module:
    return FastBlock(unfuse(copy.deepcopy(layer)))


def encoder_layer(**options: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(32, 4, 48, batch_first=True, **options)


LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(32, 24), SparseLinear, (BATCH, 32)),
    "linear over tokens": (lambda: nn.Linear(32, 24), SparseLinear, (BATCH, 5, 32)),
    "conv1d": (lambda: nn.Conv1d(32, 8, 3), SparseConv, (BATCH, 32, 9)),
    "conv2d": (lambda: nn.Conv2d(32, 8, 1), SparseConv, (BATCH, 32, 2, 2)),
    "rnn": (lambda: nn.RNN(32, 20, batch_first=True), SparseRecurrent, (BATCH, 5, 32)),
    "lstm": (lambda: nn.LSTM(32, 20, 2, bidirectional=True), SparseRecurrent, (5, BATCH, 32)),
    "gru": (lambda: nn.GRU(32, 20, batch_first=True), SparseRecurrent, (BATCH, 5, 32)),
    "attention": (lambda: nn.MultiheadAttention(32, 4, batch_first=True), attention, (BATCH, 5, 32)),
    "block": (encoder_layer, block, (BATCH, 5, 32)),
    "block norm first": (lambda: encoder_layer(norm_first=True), block, (BATCH, 5, 32)),
}
MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "grad": torch.enable_grad,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64 by default": lambda: default_dtype(torch.float64),
    "meta by default": lambda: torch.device("meta"),
}


class default_dtype(nullcontext[None]):
    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __enter__(self) -> None:
        self.before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *_: object) -> None:
        torch.set_default_dtype(self.before)


def call(module: nn.Module, x: Tensor) -> Tensor:
    if isinstance(module, nn.MultiheadAttention | Attention):
        return module(x, x, x, need_weights=False)[0]
    y = module(x)
    return y[0] if isinstance(y, tuple) else y


def pruned(build: Callable[[], nn.Module]) -> nn.Module:
    layer = build().eval().requires_grad_(False)
    with torch.no_grad():
        for weight in layer.parameters():
            if weight.dim() > 1:
                weight *= torch.rand_like(weight) < 0.3
    return layer


@pytest.mark.parametrize("kernels", ["numba", "csr"])
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_are_the_same_in_every_mode(name: str, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernels == "csr":
        if name.startswith(("attention", "block")):
            pytest.skip("made of Numba kernels alone")
        monkeypatch.setattr(matrix, "kernels_available", lambda: False)
        monkeypatch.setattr("synaptic_pruning.export.sparse.recurrent.kernels_available", lambda: False)
    build, convert, shape = LAYERS[name]
    layer, x = pruned(build), torch.randn(shape)
    want = call(layer, x)
    results = []
    for mode in MODES.values():
        for threads in (1, 2):
            sparse = convert(layer)
            for part in sparse.modules():
                part.threads = threads
            for _ in range(2):  # the first call makes the kernel's layouts, in the mode
                with mode():
                    results.append(call(sparse, x))
            results.append(call(sparse, x))  # and they serve outside of it
    for result in results:
        assert result.dtype == torch.float32
        assert not result.requires_grad
        torch.testing.assert_close(result, want, atol=1e-5, rtol=1e-5)
    for one, two in zip(results[:3] * len(MODES), results[3:6] * len(MODES), strict=True):
        torch.testing.assert_close(two, one, atol=1e-6, rtol=0)


def test_inputs_that_autocast_rounded_are_taken() -> None:
    for build, convert, shape in LAYERS.values():
        layer, x = pruned(build), torch.randn(shape).bfloat16()
        sparse = convert(layer)
        with torch.autocast("cpu", torch.bfloat16):
            got = call(sparse, x)
        torch.testing.assert_close(got, call(layer, x.float()), atol=1e-5, rtol=1e-5)
        with pytest.raises(TypeError, match="float32"):
            call(sparse, x)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_a_compact_network_in_every_mode(mode: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def sparse_wins(candidates: Any, **_: Any) -> dict[str, float]:
        return {name: 1.0 / (1 + len(name)) if "sparse" in name else 1.0 for name in candidates}

    monkeypatch.setattr("synaptic_pruning.export.autotune.time_interleaved", sparse_wins)
    model, x = pruned(lambda: nn.LSTM(32, 20, batch_first=True)), torch.randn(BATCH, 5, 32)
    with nullcontext() if "meta" in mode else MODES[mode]():
        small = compact(model, x, threads=threads)
    assert "sparse" in small.report.form
    with MODES[mode]():
        got = call(small, x)
    torch.testing.assert_close(got, call(model, x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(call(small, x), call(model, x), atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # said by torch when it makes a dual tensor
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_refused_where_they_are_wanted(name: str, threads: int) -> None:
    build, convert, shape = LAYERS[name]
    sparse, x = convert(pruned(build)), torch.randn(shape, requires_grad=True)
    sparse.threads = threads
    with pytest.raises(RuntimeError, match="computes no gradients"):
        call(sparse, x)
    with torch.inference_mode():
        assert call(sparse, x).isfinite().all()
    plain = torch.randn(shape)
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="computes no gradients"):
        call(sparse, forward_ad.make_dual(plain, plain))


def test_threads_see_the_modes_and_an_error_waits_for_them() -> None:
    seen: list[tuple[bool, bool]] = []

    def work(first: int, last: int) -> None:
        seen.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

    for mode in (torch.inference_mode, torch.no_grad, torch.enable_grad):
        with mode():
            here = (torch.is_inference_mode_enabled(), torch.is_grad_enabled())
            split_over_threads(work, 64, 2)
        assert seen == [here, here]
        seen.clear()

    done: list[int] = []

    def fail(first: int, last: int) -> None:
        if first == 0:
            raise ValueError("the first part")
        done.append(first)

    with pytest.raises(ValueError, match="the first part"):
        split_over_threads(fail, 64, 2)
    assert done == [32]

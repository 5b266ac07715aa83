import copy
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from synaptic_pruning.export.sparse import (
    Inference,
    SparseConv,
    SparseLinear,
    SparseMatrix,
    SparseRecurrent,
    matrix,
)

SPARSITIES = [0.0, 0.5, 0.9, 1.0]


def zeros_in(layer: nn.Module, sparsity: float) -> Any:
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.dim() > 1:
                parameter *= torch.rand_like(parameter) >= sparsity
    return layer.eval()


@pytest.fixture(params=["numba", "csr"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(matrix, "kernels_available", lambda: request.param == "numba")
    monkeypatch.setattr("synaptic_pruning.export.sparse.recurrent.kernels_available", lambda: request.param == "numba")
    return str(request.param)


@pytest.mark.usefixtures("kernels")
class TestLinear:
    @pytest.mark.parametrize(("sparsity", "bias"), list(itertools.product(SPARSITIES, [True, False])))
    def test_equals_dense(self, sparsity: float, bias: bool) -> None:
        torch.manual_seed(0)
        for inputs, outputs in [(1, 1), (7, 3), (64, 64), (300, 45), (513, 70)]:
            layer = zeros_in(nn.Linear(inputs, outputs, bias=bias), sparsity)
            sparse = SparseLinear(layer)
            for shape in [(1,), (2,), (5,), (15,), (16,), (17,), (40,), (70,), (), (3, 4), (2, 3, 4), (0,)]:
                x = torch.randn(*shape, inputs)
                with torch.inference_mode():
                    torch.testing.assert_close(sparse(x), layer(x), atol=1e-5, rtol=1e-5)

    def test_input_that_is_not_contiguous(self) -> None:
        layer = zeros_in(nn.Linear(8, 5), 0.5)
        x = torch.randn(8, 40).T
        torch.testing.assert_close(SparseLinear(layer)(x), layer(x).detach(), atol=1e-5, rtol=0)

    def test_threads_give_the_same(self) -> None:
        layer = zeros_in(nn.Linear(50, 60), 0.8)
        one, two, x = SparseLinear(layer), SparseLinear(layer), torch.randn(100, 50)
        one.threads, two.threads = 1, 2
        assert one(x).equal(two(x))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 600), st.integers(1, 90), st.integers(1, 80), st.floats(0, 1), st.integers(0, 99))
def test_any_size_equals_a_product_in_float64(
    inputs: int, outputs: int, samples: int, sparsity: float, seed: int
) -> None:
    torch.manual_seed(seed)
    weight = torch.randn(outputs, inputs) * (torch.rand(outputs, inputs) >= sparsity)
    weight[:, torch.rand(inputs) < 0.3] = 0
    weight[torch.rand(outputs) < 0.3] = 0
    bias, x = torch.randn(outputs), torch.randn(samples, inputs)
    packed = SparseMatrix(weight, bias)
    want = x.double() @ weight.double().T + bias
    torch.testing.assert_close(packed.product(x).double(), want, atol=2e-5, rtol=2e-5)
    assert packed.dense().equal(weight)


CONVOLUTIONS = [
    (nn.Conv1d(4, 6, 1), (4, 9)),
    (nn.Conv1d(4, 6, 3, padding=1, bias=False), (4, 9)),
    (nn.Conv1d(4, 6, 4, stride=3, dilation=2), (4, 20)),
    (nn.Conv1d(4, 6, 4, padding="same"), (4, 9)),
    (nn.Conv1d(4, 6, 2, padding="valid"), (4, 9)),
    (nn.Conv2d(4, 6, 1), (4, 5, 7)),
]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("layer", "shape"), CONVOLUTIONS)
@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_convolutions_equal_dense(layer: nn.Conv1d, shape: tuple[int, ...], sparsity: float) -> None:
    layer = zeros_in(copy.deepcopy(layer), sparsity)
    for batch in [(), (1,), (5,), (40,)]:
        x = torch.randn(*batch, *shape)
        with torch.inference_mode():
            torch.testing.assert_close(SparseConv(layer)(x), layer(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "layer", [nn.Conv1d(4, 4, 3, groups=2), nn.Conv1d(4, 4, 3, padding_mode="circular"), nn.Conv2d(4, 4, 3)]
)
def test_other_convolutions_are_refused(layer: nn.Conv1d) -> None:
    assert not SparseConv.supports(layer)
    with pytest.raises(ValueError, match="Conv1d"):
        SparseConv(layer)


KINDS = [
    (nn.LSTM, {}),
    (nn.LSTM, {"proj_size": 5}),
    (nn.GRU, {}),
    (nn.RNN, {}),
    (nn.RNN, {"nonlinearity": "relu"}),
]
OPTIONS = [
    {},
    {"num_layers": 2, "bias": False},
    {"bidirectional": True, "batch_first": True},
    {"num_layers": 3, "bidirectional": True},
]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(("kind", "extra"), KINDS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("sparsity", [0.0, 0.9, 1.0])
def test_recurrent_layers_equal_dense(
    kind: type[nn.RNNBase], extra: dict[str, Any], options: dict[str, Any], sparsity: float
) -> None:
    torch.manual_seed(0)
    layer = zeros_in(kind(6, 37, **options, **extra), sparsity)
    sparse = SparseRecurrent(layer)
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    for batch in (None, 1, 3, 16, 35):
        size = () if batch is None else (batch,)
        x = torch.randn(9, *size, 6) * 3
        if batch is not None and layer.batch_first:
            x = x.transpose(0, 1)
        h, c = torch.randn(count, *size, layer.proj_size or 37), torch.randn(count, *size, 37)
        for state in (None, (h, c) if kind is nn.LSTM else h):
            with torch.inference_mode():
                torch.testing.assert_close(sparse(x, state), layer(x, state), atol=1e-5, rtol=1e-5)


def test_saturated_gates_and_nan_behave_as_in_torch() -> None:
    layer, x = (
        nn.LSTM(1, 16),
        torch.tensor([-1e30, -100, -9.1, -8.9, 0, 8.9, 9.1, 100, 1e30, torch.nan])[:, None, None],
    )
    x = x.expand(-1, 20, -1)
    with torch.inference_mode():
        got, want = SparseRecurrent(layer)(x)[0], layer(x)[0]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0, equal_nan=True)


def test_two_threads_and_two_callers_give_the_same() -> None:
    sparse = SparseRecurrent(zeros_in(nn.LSTM(6, 40, 2), 0.9))
    x = torch.randn(12, 70, 6)
    sparse.threads = 1
    want = sparse(x)[0]
    with ThreadPoolExecutor(4) as pool:
        assert all(y.equal(want) for y in pool.map(lambda _: sparse(x)[0], range(8)))
    sparse.threads = 2
    torch.testing.assert_close(sparse(x)[0], want, atol=1e-6, rtol=0)


def modules() -> list[tuple[Inference, Tensor]]:
    return [
        (SparseLinear(zeros_in(nn.Linear(6, 5), 0.5)), torch.randn(20, 6)),
        (SparseConv(zeros_in(nn.Conv1d(6, 5, 3), 0.5)), torch.randn(2, 6, 9)),
        (SparseRecurrent(zeros_in(nn.GRU(6, 5), 0.5)), torch.randn(4, 3, 6)),
    ]


@pytest.mark.parametrize("number", range(3))
def test_copies_pickles_and_state_dicts(number: int) -> None:
    module, x = modules()[number]
    want = module(x)
    for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(again(x), want, atol=0, rtol=0)
    assert len(pickle.dumps(module)) < 20_000, "no kernel layouts in the pickle"
    assert all(isinstance(value, Tensor) for value in module.state_dict().values())


@pytest.mark.parametrize("number", range(3))
def test_training_is_refused(number: int) -> None:
    module, x = modules()[number]
    with pytest.raises(RuntimeError, match="keep the original model for training"):
        module(x.requires_grad_())
    with pytest.raises(RuntimeError, match="for inference only"):
        nn.Sequential(module).train()
    with torch.no_grad():
        module(x)
    module.eval()
    with pytest.raises(TypeError, match="float32"):
        module(x.detach().double())


def test_wrong_shapes_are_named() -> None:
    linear, conv, recurrent = (module for module, _ in modules())
    with pytest.raises(ValueError, match="6, not 7"):
        linear(torch.randn(2, 7))
    with pytest.raises(ValueError, match="6"):
        conv(torch.randn(2, 7, 9))
    with pytest.raises(ValueError, match="6 features"):
        recurrent(torch.randn(4, 3, 7))
    with pytest.raises(ValueError, match=r"\(1, 3, 5\)"):
        recurrent(torch.randn(4, 3, 6), torch.randn(1, 2, 5))
    with pytest.raises(TypeError, match="packed"):
        recurrent(pack_sequence([torch.randn(4, 6)]))
    with pytest.raises(ValueError, match="float32"):
        SparseMatrix(torch.zeros(2, 2).double())

import copy
import pickle
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from synaptic_pruning.export import ShrinkReport, shrink


def sparse(model: nn.Module, sparsity: float, biases_too: bool = False) -> nn.Module:
    """Zeros at random places; float64; ready for evaluation."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 or biases_too:
                parameter *= torch.rand_like(parameter) >= sparsity
    return model.double().eval()


def check(model: nn.Module, *inputs: Tensor) -> tuple[nn.Module, ShrinkReport]:
    """Shrink, compare outputs on fresh inputs, return the smaller network."""
    model = model.double().eval()
    inputs = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    before = copy.deepcopy(model.state_dict())
    small = shrink(model, inputs)
    for name, value in model.state_dict().items():
        assert value.equal(before[name]), f"{name} of the original changed"
    fresh = [torch.randn_like(x) if x.is_floating_point() else x for x in inputs]
    with torch.no_grad():
        torch.testing.assert_close(small(*fresh), model(*fresh), atol=1e-10, rtol=0)
    assert isinstance(small.report, ShrinkReport)
    return small, small.report


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], state: bool = False, **options: Any) -> None:
        super().__init__()
        self.body = kind(4, 10, batch_first=True, **options)
        width = options.get("proj_size", 0) or 10
        self.state = state
        self.head = nn.Linear(width * (2 if options.get("bidirectional") and not state else 1), 2)

    def forward(self, x: Tensor) -> Tensor:
        y, last = self.body(x)
        if self.state:
            h = last[0] if isinstance(self.body, nn.LSTM) else last
            return self.head(h[-1])
        return self.head(y[:, -1])


recurrent_options = st.fixed_dictionaries(
    {
        "num_layers": st.integers(1, 3),
        "bidirectional": st.booleans(),
        "bias": st.booleans(),
        "state": st.booleans(),
    }
)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([nn.LSTM, nn.GRU, nn.RNN]),
    recurrent_options,
    st.sampled_from([0.0, 0.5, 0.9, 0.97, 1.0]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 1000),
)
def test_recurrent_outputs_stay(
    kind: type[nn.RNNBase],
    options: dict[str, Any],
    sparsity: float,
    biases: bool,
    alternative: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    if alternative and kind is nn.LSTM:
        options = options | {"proj_size": 5}
    if alternative and kind is nn.RNN:
        options = options | {"nonlinearity": "relu"}
    model = sparse(Recurrent(kind, **options), sparsity, biases)
    check(model, torch.randn(3, 6, 4))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.sampled_from([nn.ReLU, nn.GELU, nn.Tanh, nn.Sigmoid]),
    st.booleans(),
    st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    st.integers(0, 1000),
)
def test_chains_of_linear_layers(
    widths: list[int], activation: type[nn.Module], bias: bool, sparsity: float, seed: int
) -> None:
    torch.manual_seed(seed)
    sizes = [3, *widths, 2]
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        parts += [nn.Linear(inputs, outputs, bias=bias), activation()]
    check(sparse(nn.Sequential(*parts), sparsity), torch.randn(5, 3))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([0, 1, "same"]), st.sampled_from([0.5, 0.9, 1.0]), st.booleans(), st.integers(0, 1000))
def test_convolutions_with_batchnorm(padding: Any, sparsity: float, pool: bool, seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(
            nn.Conv1d(3, 8, 3, padding=padding),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.Conv1d(8, 6, 3, padding=padding),
        ),
        *(nn.Sigmoid(), nn.AvgPool1d(2) if pool else nn.Identity(), nn.AdaptiveMaxPool1d(3), nn.Flatten()),
        nn.Linear(18, 2),
    )
    with torch.no_grad():
        model[1].running_mean.normal_()
        model[1].running_var.uniform_(0.5, 2)
    check(sparse(model, sparsity), torch.randn(2, 3, 12))


def test_linear_keeps_exactly_what_is_read() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    with torch.no_grad():
        model[2].weight[:, 1] = 0  # unit 1: nobody reads it
        model[0].weight[3] = 0  # unit 3: constant, relu(0.7)
        model[0].bias[3] = 0.7
    small, report = check(model, torch.randn(4, 3))
    assert small[0].weight.equal(model[0].weight[[0, 2, 4]])
    torch.testing.assert_close(small[2].bias, model[2].bias + 0.7 * model[2].weight[:, 3])
    assert [(row.layer, row.before, row.after) for row in report.rows] == [("0", 5, 3), ("2", 2, 2)]
    assert "the model returns it" in str(report)


def test_lstm_keeps_exactly_the_units_that_matter() -> None:
    model = Recurrent(nn.LSTM, num_layers=2).double()
    with torch.no_grad():
        model.body.weight_ih_l1[:, [0, 1]] = 0  # layer 0: units 0 and 1 are not read above ...
        model.body.weight_hh_l0[:, 0] = 0
        model.body.weight_hh_l0[0::10, 0] = 0.5  # ... unit 0 only reads itself, unit 1 is read by its own layer
        for w in (
            model.body.weight_ih_l1,
            model.body.weight_hh_l1,
            model.body.bias_ih_l1,
            model.body.bias_hh_l1,
        ):
            w[20 + 7] = 0  # layer 1: the candidate gate of unit 7 is zero, so it stays 0
    small, report = check(model, torch.randn(3, 6, 4))
    assert report.rows[0].before == 20
    assert report.rows[0].after == 18
    assert [layer[0].hidden_size for layer in small.body.layers] == [9, 9]


def test_a_unit_with_a_bias_does_not_stay_zero() -> None:
    model = Recurrent(nn.LSTM).double()
    with torch.no_grad():
        model.body.weight_ih_l0[27] = 0
        model.body.weight_hh_l0[27] = 0
    assert check(model, torch.randn(3, 6, 4))[1].rows[0].after == 10


class Residual(nn.Module):
    """Two branches added, a learned position, and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 16), nn.Linear(16, 16)
        self.position = nn.Parameter(torch.randn(7, 16))
        self.side, self.last = nn.Linear(5, 4), nn.Linear(20, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x) + self.position)
        h = h + torch.tanh(self.second(h))
        return self.last(torch.cat([h, self.side(x)], -1)).mean(1)


def test_residual_sums_go_together() -> None:
    model = Residual()
    with torch.no_grad():
        model.last.weight[:, [1, 2, 17]] = 0
        model.second.weight[:, 1] = 0
        model.second.weight[3:, 2] = 0  # unit 2 still read by rows 0 to 2 of `second`
    small, _ = check(model, torch.randn(2, 7, 5))
    assert small.first.out_features == small.second.out_features == small.position.shape[-1] == 15
    assert small.side.out_features == 3
    assert small.last.in_features == 18


@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder_loses_heads_and_hidden_units(norm_first: bool) -> None:
    torch.manual_seed(3)
    layer = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, norm_first=norm_first, dropout=0)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).double()
    with torch.no_grad():
        attention = model.layers[0].self_attn
        attention.out_proj.weight[:, 4:8] = 0  # the second head is not read
        attention.in_proj_weight[[0, 8]] = 0  # one query dimension each of the other two heads is 0
        attention.in_proj_bias.zero_()
        model.layers[0].linear2.weight[:, :6] = 0
    small, report = check(model, torch.randn(2, 5, 12))
    slim = small.layers[0].self_attn
    assert (slim.num_heads, slim.query.out_features, slim.value.out_features) == (2, 6, 8)
    assert small.layers[0].linear1.out_features == 14
    assert type(small.layers[1]) is nn.TransformerEncoderLayer, "what did not change keeps its fast form"
    assert {row.layer: row.after for row in report.rows}["layers.0.self_attn"] == 8


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        before = a
        self.relu(a)
        a += b
        return self.c(a) + self.c.bias[:1] + before.sum(-1, keepdim=True) * 0 + self.c(before)


def test_values_changed_in_place() -> None:
    torch.manual_seed(5)
    model = InPlace()
    with torch.no_grad():
        for layer in (model.a, model.b):
            layer.weight[2:5] = 0
    check(model, torch.randn(3, 4))
    chain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Dropout(inplace=True), nn.Linear(8, 2))
    with torch.no_grad():
        chain[0].weight[1:3] = 0
        chain[0].bias[1:3] = torch.tensor([-1.0, 1.0])
    assert check(chain, torch.randn(3, 4))[1].rows[0].after == 6


def test_embedding_columns_go() -> None:
    model = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 2))
    with torch.no_grad():
        model[1].weight[:, [0, 5]] = 0
    small, _ = check(model, torch.randint(0, 9, (3, 4)))
    assert small[0].embedding_dim == small[1].in_features == 4


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))])
        self.tail = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            return x
        return self.tail(self.blocks[0](x))


def test_what_cannot_be_traced_stays_and_says_so() -> None:
    model = Branching()
    with torch.no_grad():
        model.blocks[0][2].weight[:, 0] = 0
        model.tail.weight[:, 1] = 0
    small, report = check(model, torch.randn(3, 4))
    assert small.blocks[0][0].out_features == 7, "the block on its own can be traced"
    assert small.blocks[0][2].out_features == 4, "its outputs can't"
    assert "the model can't be traced as a whole" in str(report)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 1)), "mixes or hides its features"),
        (nn.Sequential(nn.Softmax(-1), nn.Linear(6, 1)), "mixes or hides its features"),
        (
            nn.Sequential(nn.Unflatten(-1, (2, 3)), nn.Flatten(), nn.Linear(6, 1)),
            "mixes or hides its features",
        ),
    ],
)
def test_reasons_are_given(head: nn.Module, reason: str) -> None:
    model = nn.Sequential(nn.Linear(3, 6), head)
    with torch.no_grad():
        head[-1].weight[:, :3] = 0
    _, report = check(model, torch.randn(4, 3))
    assert report.rows[0].after == 6
    assert reason in report.rows[0].note


def test_shared_layers_and_tied_weights_stay() -> None:
    shared = nn.Linear(4, 4)
    twice = nn.Sequential(shared, nn.ReLU(), shared)
    tied = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    tied[2].weight = tied[0].weight
    for model in (twice, tied):
        with torch.no_grad():
            model[0].weight[:, 2] = 0
        small, _ = check(model, torch.randn(2, 4))
        assert count(small) == count(model)


class Scaled(nn.Module):
    """Uses the width itself as a number, which shrinking would change."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(h / h.shape[-1])


def test_a_width_used_as_a_number_is_respected() -> None:
    model = Scaled()
    with torch.no_grad():
        model.b.weight[:, :4] = 0
    check(model, torch.randn(2, 4))


def test_the_smaller_network_can_be_copied_and_pickled() -> None:
    model = sparse(Recurrent(nn.LSTM, num_layers=2, bidirectional=True), 0.95)
    small = shrink(model, torch.randn(2, 5, 4).double())
    x = torch.randn(2, 5, 4).double()
    for again in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert again(x).equal(small(x))

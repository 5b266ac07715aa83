import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import synaptic_pruning as sp
from synaptic_pruning.export import shrink

HALF = sp.one_shot(0.5)


def _masks(model: nn.Module, schedule: sp.Schedule = HALF, exclude: tuple[str, ...] = ()) -> dict[str, Tensor]:
    synapses = sp.Synapses(model, exclude=exclude, biases=True)
    rule = sp.Units(schedule)
    synapses.set_masks(rule.attach(model, synapses))
    synapses.set_masks(rule.update(synapses, 1.0))
    return synapses.masks()


def _zeroed(model: nn.Module, masks: dict[str, Tensor]) -> nn.Module:
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_parameter(name).mul_(mask)
    return model


def test_linear_by_hand():
    layer = nn.Linear(2, 4)
    layer.weight.data = torch.tensor([[3.0, 4.0], [0.0, 4.9], [-2.0, 0.0], [0.0, 6.0]])  # norms 5, 4.9, 2, 6
    masks = _masks(layer)
    assert masks["weight"].tolist() == [[True, True], [False, False], [False, False], [True, True]]
    assert masks["bias"].tolist() == [True, False, False, True]


def test_ties_go_to_the_first_and_the_pruned_count():
    layer = nn.Linear(2, 5, bias=False)
    layer.weight.data.fill_(1.0)
    synapses, rule = sp.Synapses(layer), sp.Units(sp.linear(0.6, begin=0.0, end=1.0))
    synapses.set_masks(rule.attach(layer, synapses))
    for progress, alive in ((0.5, [False, False, True, True, True]), (1.0, [False, False, False, True, True])):
        synapses.set_masks(rule.update(synapses, progress))  # round(0.3 · 5) = 2, then 3 units
        assert synapses.masks()["weight"].all(1).tolist() == alive


def test_channels_by_hand():
    plain, transposed = nn.Conv1d(2, 2, 3), nn.ConvTranspose1d(2, 2, 3)
    plain.weight.data[0] *= 0.01
    transposed.weight.data[:, 1] *= 0.01
    masks = _masks(nn.Sequential(plain, transposed))
    assert masks["0.weight"].flatten(1).any(1).tolist() == masks["0.bias"].tolist() == [False, True]
    assert masks["1.weight"].transpose(0, 1).flatten(1).any(1).tolist() == masks["1.bias"].tolist() == [True, False]
    assert all(mask.all() for name, mask in _masks(_with_group()).items() if name.startswith("0"))


def _with_group() -> nn.Module:
    return nn.Sequential(nn.ConvTranspose1d(4, 4, 3, groups=2), nn.Conv1d(4, 2, 1))


def test_lstm_by_hand():
    layer = nn.LSTM(1, 2, num_layers=2)
    for name, weight in layer.named_parameters():
        weight.data.fill_(1.0)
        if name.startswith("weight") and name.endswith("l0"):
            weight.data[1::2] = 0.1  # unit 1, in each of its four gates
    masks = _masks(layer)
    rows, columns = [True, False] * 4, [True, False]
    assert masks["weight_ih_l0"].tolist() == [[row] for row in rows]
    assert masks["bias_ih_l0"].tolist() == masks["bias_hh_l0"].tolist() == rows
    assert masks["weight_hh_l0"].tolist() == [[row and column for column in columns] for row in rows]
    tied = [False, True] * 4  # above both units are as strong, and the first of them goes
    assert masks["weight_ih_l1"].tolist() == [[row and column for column in columns] for row in tied]
    assert masks["bias_hh_l1"].tolist() == tied


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN, lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k)])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}, {"bias": False}, {"proj_size": 3}])
def test_recurrent_units_that_died_are_exactly_silent(kind: Callable[..., nn.RNNBase], options: dict):
    if "proj_size" in options and kind is not nn.LSTM:
        return
    layer = kind(3, 8, **options)
    masks = _masks(layer)
    _zeroed(layer, masks)
    y, state = layer(torch.randn(7, 2, 3))
    if "proj_size" in options:
        assert int((state[1] == 0).all(1).sum()) == 4
        assert int(masks["weight_hr_l0"].any(0).sum()) == 4
        return
    sides = ("", "_reverse") if layer.bidirectional else ("",)
    alive = {(n, s): masks[f"weight_ih_l{n}{s}"].any(1).view(-1, 8) for n in range(layer.num_layers) for s in sides}
    assert all(gates.equal(gates[:1].expand_as(gates)) and int(gates[0].sum()) == 4 for gates in alive.values())
    assert (y[..., ~torch.cat([alive[layer.num_layers - 1, s][0] for s in sides])] == 0).all()
    for (n, s), gates in alive.items():
        heard = torch.cat([alive[n - 1, below][0] for below in sides]) if n else torch.ones(3, dtype=torch.bool)
        assert masks[f"weight_ih_l{n}{s}"].equal(gates.flatten()[:, None] & heard)
        assert masks[f"weight_hh_l{n}{s}"].equal(gates.flatten()[:, None] & gates[0])


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells(cell: type[nn.RNNCellBase]):
    layer = cell(3, 6)
    _zeroed(layer, _masks(layer))
    state = None
    for x in torch.randn(5, 2, 3):
        state = layer(x, state)
    hidden = state[0] if isinstance(state, tuple) else state
    assert int((hidden == 0).all(0).sum()) == 3


@pytest.mark.parametrize("own_sizes", [{}, {"kdim": 5, "vdim": 7}])
def test_attention_loses_whole_heads(own_sizes: dict[str, int]):
    layer = nn.MultiheadAttention(8, 4, batch_first=True, **own_sizes)
    nn.init.normal_(layer.in_proj_bias)
    masks = _masks(layer)
    columns = masks["out_proj.weight"].any(0).view(4, 2)
    assert columns.all(1).equal(columns.any(1))
    assert int(columns.any(1).sum()) == 2
    assert masks["out_proj.bias"].all()
    query, key, value = torch.randn(1, 3, 8), torch.randn(1, 3, layer.kdim), torch.randn(1, 3, layer.vdim)
    before = copy.deepcopy(layer)
    with torch.no_grad():  # what dies is what the output projection would have to ignore anyway, and nothing else
        before.out_proj.weight.mul_(masks["out_proj.weight"])
    _zeroed(layer, masks)
    torch.testing.assert_close(layer(query, key, value)[0], before(query, key, value)[0])


def test_every_layer_keeps_a_unit_and_the_excluded_all():
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1), nn.Linear(1, 5))
    masks = _masks(model, sp.one_shot(0.99), exclude=("3.*",))
    assert [int(masks[f"{i}.weight"].any(1).sum()) for i in (0, 2)] == [1, 1]
    assert "3.weight" not in masks


def test_refusals():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))
    with pytest.raises(ValueError, match="no units to prune"):
        sp.Units(HALF).attach(model, sp.Synapses(model, include=["*.bias"]))
    model[0].weight.data[1, 1] = torch.nan
    with pytest.raises(ValueError, match=r"a weight of 0\.weight is NaN"):
        _masks(model)


class Last(nn.Module):
    def __init__(self, recurrent: nn.RNNBase) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.head = nn.Linear(recurrent.hidden_size * (2 if recurrent.bidirectional else 1), 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x)[0][:, -1])


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 4, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x).mean(1))


def _cnn() -> nn.Module:
    body = [nn.Conv1d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 6, 3, padding=1), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(60, 2))


NARROW: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...], dict[str, int]]] = {
    "mlp": (
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(40, 16), nn.Sigmoid(), nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 2)
        ),
        ("5.*",),
        {"1": 8, "3": 4, "5": 2},
    ),
    "cnn": (_cnn, ("5.*",), {"0": 4, "2": 3, "5": 2}),
    "lstm": (lambda: Last(nn.LSTM(4, 8, 2, batch_first=True)), ("head.*",), {"recurrent": 8, "head": 2}),
    "gru": (lambda: Last(nn.GRU(4, 8, bidirectional=True, batch_first=True)), ("head.*",), {"recurrent": 8, "head": 2}),
    "rnn": (lambda: Last(nn.RNN(4, 8, batch_first=True)), ("head.*",), {"recurrent": 4, "head": 2}),
    "transformer": (
        Encoder,
        ("head.*", "layer.linear2.*"),
        {"layer.self_attn": 4, "layer.linear1": 8, "layer.linear2": 8, "head": 2},
    ),
}


@pytest.mark.parametrize("name", NARROW)
def test_after_training_layers_are_half_as_wide(name: str):
    build, exclude, want = NARROW[name]
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rule = sp.Units(sp.cubic(0.5, begin=0.1, end=0.6))
    pruner = sp.SynapticPruner(model, optimizer, rule, total_steps=30, every=2, exclude=exclude)
    for _ in range(30):
        x = torch.randn(8, *{"cnn": (4, 10), "transformer": (10, 8)}.get(name, (10, 4)))
        optimizer.zero_grad()
        (model(x) - x.flatten(1)[:, :2]).square().mean().backward()
        optimizer.step()
    assert pruner.finished
    model.eval().double()
    small = shrink(model, x.double())
    assert {row.layer: row.after for row in small.report.rows} == want
    again = torch.randn(5, *x.shape[1:]).double()
    with torch.inference_mode():
        torch.testing.assert_close(small(again), model(again), atol=1e-10, rtol=0)
    alive = sum(p.numel() for p in small.parameters())
    assert alive < 0.7 * sum(p.numel() for p in model.parameters())

"""ActivityMonitor against a reference that runs every layer by hand and stores all that each connection sees."""

import copy
import itertools
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

import synaptic_pruning as sp
from synaptic_pruning.core.activity import ActivityMonitor, usage


def _observed(model: nn.Module, *calls) -> dict[str, Tensor]:
    """What the activity says each weight's connections see, spread out to the weight's shape."""
    synapses = sp.Synapses(model)
    activity = ActivityMonitor(model, synapses)
    for call in calls:
        call(model)
    means = activity.end_window()
    return {
        layer.name: usage(torch.ones_like(layer.parameter), mean)
        for layer, mean in zip(synapses.layers, means, strict=True)
    }


def _mean(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1, part.shape[-1]) for part in parts]).abs().mean(0)


def _close(ours: dict[str, Tensor], theirs: dict[str, Tensor], dtype=torch.float32) -> None:
    assert ours.keys() == theirs.keys()
    for name, mean in theirs.items():
        torch.testing.assert_close(ours[name], mean.expand_as(ours[name]).to(dtype), rtol=1e-4, atol=1e-6)


def test_linear_over_several_calls_of_different_size():
    x, y = torch.randn(3, 7, 5), torch.randn(2, 5)
    _close(_observed(nn.Linear(5, 4), lambda m: m(x), lambda m: m(input=y)), {"weight": _mean([x, y])})


def test_half_precision_is_summed_in_float32():
    x = torch.full((5000, 2), 1.001, dtype=torch.bfloat16)
    assert torch.equal(_observed(nn.Linear(2, 1).bfloat16(), lambda m: m(x))["weight"], torch.full((1, 2), 1.0))
    _close(_observed(nn.Linear(2, 1).double(), lambda m: m(x.double())), {"weight": _mean([x.double()])}, torch.float64)


def test_bilinear():
    x, y = torch.randn(6, 3), torch.randn(6, 4)
    pairs = torch.stack([torch.outer(a, b) for a, b in zip(x, y, strict=True)])
    _close(_observed(nn.Bilinear(3, 4, 2), lambda m: m(x, y)), {"weight": pairs.abs().mean(0)})


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv1d(4, 6, 3, stride=2, groups=2, padding=1),
        nn.Conv2d(3, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=3),
        nn.Conv2d(2, 3, 3, padding="same", padding_mode="circular"),
        nn.Conv2d(2, 3, 1, stride=2),
        nn.Conv3d(2, 2, 2, stride=2),
    ],
    ids=str,
)
def test_convolutions_tap_by_tap(conv):
    """A tap sees what the convolution with only that tap set to one gives out, of |x|."""
    x = torch.randn(5, conv.in_channels, *[9] * len(conv.kernel_size))
    ours = _observed(conv, lambda m: m(x), lambda m: m(x[0]))
    probe = copy.deepcopy(conv).requires_grad_(False)
    probe.bias.zero_()
    expected = torch.empty_like(conv.weight)
    for place in itertools.product(*map(range, conv.weight.shape)):
        probe.weight.zero_()[place] = 1
        expected[place] = probe(torch.cat([x, x[:1]]).abs())[:, place[0]].mean()
    _close(ours, {"weight": expected})


def test_transposed_convolution_sees_its_channels():
    x = torch.randn(5, 4, 6, 6)
    means = x.abs().mean((0, 2, 3)).view(4, 1, 1, 1)
    _close(_observed(nn.ConvTranspose2d(4, 6, 3, groups=2, stride=2), lambda m: m(x)), {"weight": means})


def _by_hand(net: nn.RNNBase, x: Tensor, h0: Tensor, c0: Tensor) -> dict[str, list[Tensor]]:
    """Run one sequence (time, features) step by step from the equations; return all inputs of every weight."""
    seen: dict[str, list[Tensor]] = {}
    ways = 2 if net.bidirectional else 1
    for layer in range(net.num_layers):
        outs = []
        for way in range(ways):
            suffix = f"_l{layer}" + "_reverse" * way
            w_ih, w_hh, b_ih, b_hh = (
                getattr(net, f"{kind}{suffix}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            h, c = h0[layer * ways + way], c0[layer * ways + way]
            states = []
            for value in reversed(x) if way else x:
                seen.setdefault(f"weight_ih{suffix}", []).append(value)
                seen.setdefault(f"weight_hh{suffix}", []).append(h)
                a, b = w_ih @ value + b_ih, w_hh @ h + b_hh
                if net.mode == "LSTM":
                    i, f, g, o = (a + b).chunk(4)
                    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                    h = o.sigmoid() * c.tanh()
                    if net.proj_size:
                        seen.setdefault(f"weight_hr{suffix}", []).append(h)
                        h = getattr(net, f"weight_hr{suffix}") @ h
                elif net.mode == "GRU":
                    (ar, az, an), (br, bz, bn) = a.chunk(3), b.chunk(3)
                    z = (az + bz).sigmoid()
                    h = (1 - z) * (an + (ar + br).sigmoid() * bn).tanh() + z * h
                else:
                    h = (a + b).tanh() if net.mode == "RNN_TANH" else (a + b).relu()
                states.append(h)
            outs.append(torch.stack(states[::-1] if way else states))
        x = torch.cat(outs, -1)
    return seen


RECURRENT = {
    "rnn": lambda: nn.RNN(3, 5, batch_first=True),
    "relu": lambda: nn.RNN(3, 5, 2, nonlinearity="relu", batch_first=True),
    "gru": lambda: nn.GRU(3, 5, 3, bidirectional=True, batch_first=True),
    "lstm": lambda: nn.LSTM(3, 5, 2, bidirectional=True, batch_first=True),
    "lstm-time-first": lambda: nn.LSTM(3, 5, 2),
    "lstm-projected": lambda: nn.LSTM(3, 5, 2, bidirectional=True, proj_size=2, batch_first=True),
    "lstm-one-layer": lambda: nn.LSTM(3, 5, 1, batch_first=True),
}


@pytest.mark.parametrize("form", ["batch", "states", "single", "packed", "unsorted"])
@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_layers_and_directions_step_by_step(kind, form):
    net = RECURRENT[kind]()
    ways = 2 if net.bidirectional else 1
    depth, hidden = net.num_layers * ways, net.proj_size or net.hidden_size
    lengths = {"batch": [6] * 4, "states": [6] * 4, "single": [6], "packed": [6, 4, 1], "unsorted": [2, 6, 4]}[form]
    sequences = [torch.randn(n, 3) for n in lengths]
    h0, c0 = torch.zeros(depth, len(lengths), hidden), torch.zeros(depth, len(lengths), net.hidden_size)
    given = form in ("states", "unsorted")
    if given:
        h0, c0 = torch.randn_like(h0), torch.randn_like(c0)
    state = ((h0, c0) if net.mode == "LSTM" else h0) if given else None
    if form in ("batch", "states"):
        x = torch.stack(sequences, 0 if net.batch_first else 1)
    elif form == "single":
        x = sequences[0]
    else:
        x = pack_sequence(sequences, enforce_sorted=form == "packed")
    runs = [_by_hand(net, s, h0[:, i], c0[:, i]) for i, s in enumerate(sequences)]
    expected = {name: _mean([torch.stack(run[name]) for run in runs]) for name in runs[0]}
    with torch.enable_grad():
        _close(_observed(net, lambda m: m(x, state)), expected)


def test_packed_padding_is_not_seen():
    net, x = nn.GRU(2, 3, batch_first=True), torch.randn(2, 5, 2)
    packed = pack_padded_sequence(x, torch.tensor([5, 2]), batch_first=True)
    _close(
        {"weight_ih_l0": _observed(net, lambda m: m(packed))["weight_ih_l0"]},
        {"weight_ih_l0": _mean([x[0], x[1, :2]])},
    )


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_cells(cell):
    x, h = torch.randn(4, 3), torch.randn(4, 5)
    state = (h, torch.randn(4, 5)) if cell is nn.LSTMCell else h
    both = _observed(cell(3, 5), lambda m: m(x, state), lambda m: m(x))
    _close(both, {"weight_ih": _mean([x]), "weight_hh": _mean([h, torch.zeros_like(h)])})


@pytest.mark.parametrize("same_sizes", [True, False])
def test_attention_by_hand(same_sizes):
    """Two heads over query (5 long) and key/value (7 long), a mask, dropout left out of the observation."""
    sizes = {} if same_sizes else {"kdim": 6, "vdim": 2}
    net = nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True, **sizes)
    net.in_proj_bias.data.normal_()
    q, k, v = torch.randn(3, 5, 4), torch.randn(3, 7, sizes.get("kdim", 4)), torch.randn(3, 7, sizes.get("vdim", 4))
    mask = torch.zeros(5, 7, dtype=torch.bool)
    mask[:, 5:] = True
    weights = net.in_proj_weight.chunk(3) if same_sizes else (net.q_proj_weight, net.k_proj_weight, net.v_proj_weight)
    heads = [
        (x @ w.T + b).unflatten(-1, (2, 2)).transpose(1, 2)
        for x, w, b in zip((q, k, v), weights, net.in_proj_bias.chunk(3), strict=True)
    ]
    scores = (heads[0] @ heads[1].mT / 2**0.5).masked_fill(mask, float("-inf"))
    mixed = (scores.softmax(-1) @ heads[2]).transpose(1, 2).flatten(2)
    before = torch.random.get_rng_state()
    net(q, k, v, attn_mask=mask)
    after = torch.random.get_rng_state()
    torch.random.set_rng_state(before)
    ours = _observed(net, lambda m: m(q, k, v, attn_mask=mask))
    assert torch.equal(torch.random.get_rng_state(), after)  # to observe draws no random number
    assert net.dropout == 0.5
    expected = {"out_proj.weight": _mean([mixed])}
    if same_sizes:
        expected["in_proj_weight"] = torch.cat([_mean([x]).expand(4, 4) for x in (q, k, v)])
    else:
        expected |= {f"{name}_proj_weight": _mean([x]) for name, x in (("q", q), ("k", k), ("v", v))}
    _close(ours, expected)


def test_transformer_layers_reach_their_attention():
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    x = torch.randn(2, 3, 4)
    ours = _observed(layer, lambda m: m(x))
    _close({"self_attn.in_proj_weight": ours["self_attn.in_proj_weight"]}, {"self_attn.in_proj_weight": _mean([x])})
    assert ours["self_attn.out_proj.weight"].min() > 0


def test_shared_weight_counts_both_uses():
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    net[2].weight = net[0].weight
    x = torch.randn(4, 3)
    inner = torch.tanh(net[0](x))
    _close(_observed(net, lambda m: m(x)), {"0.weight": _mean([x, inner])})


def test_only_training_with_gradients_is_observed_and_only_one_step_in_sample():
    net = nn.Linear(2, 1)
    activity = ActivityMonitor(net, sp.Synapses(net), sample=3)
    for step in range(5):
        net(torch.full((1, 2), 10.0**step))
        net.eval()(torch.full((1, 2), 1e9))
        with torch.no_grad():
            net.train()(torch.full((1, 2), 1e9))
        activity.step()
    assert activity.end_window() == [pytest.approx(torch.full((1, 2), (1 + 1000) / 2))]
    net(torch.full((1, 2), 7.0))  # a window begins with a watched step
    assert activity.end_window()[0].tolist() == [[7, 7]]
    assert activity.end_window() == [None]
    net(torch.tensor([[1.0, float("inf")]]))
    assert activity.end_window() == [None]
    activity.remove()
    net(torch.ones(1, 2))
    assert activity.end_window() == [None]


def test_copies_are_not_observed():
    net = nn.Sequential(nn.Linear(2, 1))
    activity = ActivityMonitor(net, sp.Synapses(net))
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        twin(torch.ones(1, 2))
    assert activity.end_window() == [None]


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_without_a_graph_break(backend):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(32, 4))
    activity = ActivityMonitor(net, sp.Synapses(net), sample=2)
    plain = copy.deepcopy(net)
    compiled = torch.compile(net, backend=backend, fullgraph=True)
    batches = torch.randn(6, 5, 1, 6, 6)
    for x in batches:
        compiled(x).sum().backward()
        activity.step()
    expected = _observed(plain, *[lambda m, x=x: m(x) for x in batches[::2]])
    for layer, mean in zip(sp.Synapses(net).layers, activity.end_window(), strict=True):
        torch.testing.assert_close(usage(torch.ones_like(layer.parameter), mean), expected[layer.name])


def test_a_weight_no_layer_uses_is_refused():
    net = nn.Sequential(nn.Embedding(4, 2), nn.Linear(2, 1))
    with pytest.raises(ValueError, match=r"0\.weight belongs to no layer .*exclude="):
        ActivityMonitor(net, sp.Synapses(net, include=["*weight"]))
    assert not net[1]._forward_hooks

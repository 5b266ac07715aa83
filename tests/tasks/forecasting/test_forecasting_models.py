"""Shapes, determinism in eval, dropout in training, and what each network may look at."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from synaptic_pruning.dropout import monte_carlo_dropout, set_dropout
from synaptic_pruning.tasks.forecasting import MODELS, LSTMForecaster, build_model

every_model = pytest.mark.parametrize("name", MODELS)


def build(name, length=30, horizon=1, channels=3, **options):
    torch.manual_seed(0)
    return build_model(name, channels=channels, length=length, horizon=horizon, **options)


@every_model
@pytest.mark.parametrize("length", [1, 2, 3, 7, 10, 13, 14, 30, 60, 61])
@pytest.mark.parametrize("horizon", [1, 5])
def test_shapes(name, length, horizon):
    assert build(name, length, horizon)(torch.randn(4, length, 3)).shape == (4, horizon)


@every_model
def test_dropout_acts_in_training_only(name):
    model, inputs = build(name, dropout=0.5), torch.randn(8, 30, 3)
    assert not torch.equal(model(inputs), model(inputs))
    model.eval()
    assert torch.equal(model(inputs), model(inputs))


@every_model
def test_without_dropout_training_is_deterministic(name):
    model, inputs = build(name), torch.randn(8, 30, 3)
    assert torch.equal(model(inputs), model(inputs))


@every_model
def test_monte_carlo_dropout_works_by_switching_the_dropout_modules(name):
    model, inputs = build(name, dropout=0.5).eval(), torch.randn(8, 30, 3)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    with torch.no_grad():
        assert not torch.equal(model(inputs), model(inputs))


@every_model
def test_every_parameter_is_trained(name):
    model = build(name)
    model(torch.randn(8, 30, 3)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_sizes_are_those_compared_with():
    assert build("lstm").recurrent.weight_hh_l0.shape == (256, 64)
    assert build("rnn").recurrent.weight_hh_l0.shape == (64, 64)
    patchtst = build("patchtst")
    assert [block.attention.num_heads for block in patchtst.blocks] == [4, 4]
    assert patchtst.blocks[0].widen.weight.shape == (256, 64)
    assert [build("patchtst", length).patch for length in (7, 8, 14, 15, 30, 31)] == [1, 2, 2, 3, 3, 4]


@every_model
def test_every_channel_and_row_counts(name):
    inputs = torch.randn(4, 30, 3, requires_grad=True)
    build(name).eval()(inputs).sum().backward()
    assert (inputs.grad.abs().sum(0) > 0).all()


def test_a_token_of_patchtst_is_the_patch_of_every_channel():
    """A window of 31 rows in patches of 4: its first row comes twice, then every row once, all channels of each."""
    model = build("patchtst", 31).double().eval()
    seen = []
    model.embedding.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    inputs = torch.randn(5, 31, 3, dtype=torch.float64)
    model(inputs)
    history = inputs[..., 0].numpy()
    target = (history - history.mean(1, keepdims=True)) / history.std(1, keepdims=True)
    for token in range(8):
        rows = [max(0, 4 * token + row - 1) for row in range(4)]
        want = np.stack([np.column_stack([target[:, row], inputs[:, row, 1:].numpy()]) for row in rows], 1)
        np.testing.assert_allclose(seen[0][:, token].numpy(), want.reshape(5, 12), atol=1e-8)


@pytest.mark.parametrize("length", [1, 14, 31])
@pytest.mark.parametrize("predict", ["delta", "level"])
def test_patchtst_that_gives_other_channels_no_weight_is_the_one_of_one_channel(length, predict):
    many = build("patchtst", length, predict=predict, unit=0.5).double().eval()
    one = build("patchtst", length, channels=1, predict=predict, unit=0.5).double().eval()
    state = many.state_dict()
    with torch.no_grad():
        weight = many.embedding.weight.view(64, many.patch, 3)
        weight[..., 1:] = 0
        one.load_state_dict(state | {"embedding.weight": weight[..., 0]})
    inputs = torch.randn(6, length, 3, dtype=torch.float64)
    torch.testing.assert_close(many(inputs), one(inputs[..., :1]))


def test_mlp_by_plain_products():
    model = build("mlp", length=5, horizon=2, dropout=0.5).double().eval()
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    inputs = np.random.default_rng(0).standard_normal((7, 5, 3))
    hidden, place = inputs.reshape(7, 15), 1
    for place in (1, 4):
        hidden = np.maximum(hidden @ state[f"layers.{place}.weight"].T + state[f"layers.{place}.bias"], 0)
    want = hidden @ state["layers.7.weight"].T + state["layers.7.bias"]
    assert state["layers.1.weight"].shape == (64, 15)
    assert state["layers.4.weight"].shape == (64, 64)
    np.testing.assert_allclose(model(torch.from_numpy(inputs)).detach().numpy(), want, atol=1e-12)


def weights(model):
    return sum(parameter.numel() for parameter in model.parameters() if parameter.dim() > 1)


def at_width(name, width, **sizes):
    size = {"width": width, "feedforward": 4 * width} if name == "patchtst" else {"hidden": width}
    with torch.device("meta"):
        return weights(MODELS[name](**sizes, **size))


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(list(MODELS)),
    keep=st.one_of(st.floats(0.05, 0.99), st.floats(1.01, 8.0)),
    channels=st.sampled_from([1, 3, 80]),
    length=st.sampled_from([1, 24]),
    horizon=st.sampled_from([1, 24]),
)
def test_weights_are_within_one_step_of_the_wanted(name, keep, channels, length, horizon):
    sizes = {"channels": channels, "length": length, "horizon": horizon}
    with torch.device("meta"):
        wanted = keep * weights(build_model(name, **sizes))
        model = build_model(name, **sizes, keep=keep)
    step = 4 if name == "patchtst" else 1
    width = {
        "rnn": lambda: model.recurrent.hidden_size,
        "lstm": lambda: model.recurrent.hidden_size,
        "patchtst": lambda: model.embedding.out_features,
        "mlp": lambda: model.layers[1].out_features,
    }[name]()
    assert at_width(name, width, **sizes) == weights(model)
    if keep > 1:
        assert at_width(name, width - step, **sizes) < wanted <= weights(model)
    else:
        assert weights(model) <= wanted < at_width(name, width + step, **sizes)


def by_hand(model, inputs, masks):
    """Forecasts of a recurrent network, gate by gate, with the same masks of inputs and states in every row."""
    w_in, w_on, b_in, b_on = (parameter.detach() for parameter in model.recurrent.parameters())
    hidden = model.recurrent.hidden_size
    on_inputs, on_state = masks[:, :-hidden], masks[:, -hidden:]
    state = cell = torch.zeros(len(inputs), hidden, dtype=inputs.dtype)
    for row in range(inputs.shape[1]):
        now = inputs[:, row] * on_inputs if on_inputs.numel() else inputs[:, row]
        gates = now @ w_in.T + b_in + (state * on_state) @ w_on.T + b_on
        if gates.shape[1] == hidden:
            state = gates.tanh()
            continue
        into, forget, new, out = gates.chunk(4, 1)
        cell = forget.sigmoid() * cell + into.sigmoid() * new.tanh()
        state = out.sigmoid() * cell.tanh()
    return state @ model.head.weight.T + model.head.bias


@pytest.mark.parametrize("name", ["rnn", "lstm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_locked_dropout_by_hand(name, channels):
    model = build(name, channels=channels, dropout=0.4, locked=True, horizon=2).double()
    model.dropout.p = 0.0  # the last state's own dropout, for which every other test is
    inputs = torch.randn(6, 30, channels, dtype=torch.float64)
    masks = []
    model.locked.register_forward_hook(lambda module, args, output: masks.append(output))
    forecasts = model(inputs)
    (mask,) = masks
    assert mask.shape == (6, 64 + (channels if channels > 1 else 0))
    assert set(mask.flatten().tolist()) == {0.0, 1 / 0.6}
    assert len({tuple(row) for row in mask.tolist()}) == 6  # every sequence has its own
    torch.testing.assert_close(forecasts, by_hand(model, inputs, mask))
    torch.testing.assert_close(model.eval()(inputs), by_hand(model, inputs, torch.ones_like(mask)))
    assert len(masks) == 1


@pytest.mark.parametrize("name", ["rnn", "lstm"])
def test_locked_dropout_is_switched_as_any_dropout(name):
    inputs = torch.randn(6, 30, 3)
    model, plain = build(name, dropout=0.4, locked=True).eval(), build(name, dropout=0.4).eval()
    assert list(model.state_dict()) == list(plain.state_dict())
    assert torch.equal(model(inputs), plain(inputs))  # the same start weights
    assert set_dropout(model, {"dropout": 0.0}) == {"dropout": 0.4}
    with monte_carlo_dropout(model), torch.no_grad():
        assert not torch.equal(model(inputs), model(inputs))
    assert set_dropout(model, 0.0) == {"locked": 0.4, "dropout": 0.0}
    torch.testing.assert_close(model.train()(inputs), plain(inputs))


def test_locked_dropout_trains_every_weight():
    model = build("lstm", dropout=0.4, locked=True)
    model(torch.randn(8, 30, 3)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_patchtst_follows_shift_and_scale_of_its_window():
    inputs = torch.randn(4, 30, 1, dtype=torch.float64)
    level = build("patchtst", channels=1, predict="level").double().eval()
    torch.testing.assert_close(level(3 * inputs + 5), 3 * level(inputs) + 5)
    delta = build("patchtst", channels=1, predict="delta", unit=0.5).double().eval()
    torch.testing.assert_close(delta(3 * inputs + 5), 3 * delta(inputs))
    window = inputs[..., 0]
    deviation, mean = window.std(1, correction=0, keepdim=True), window.mean(1, keepdim=True)
    torch.testing.assert_close(level(inputs), delta(inputs) * 0.5 + mean)  # same weights, other target form
    assert deviation.min() > 0


def test_patchtst_pads_the_old_end():
    """A window of 10 rows in patches of 2 needs none; of 13, its first value is repeated once."""
    model = build("patchtst", 13, channels=1).double().eval()
    assert model.padding == 1
    seen = []
    model.embedding.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model(torch.arange(13.0, dtype=torch.float64)[None, :, None])
    tokens = seen[0][0]
    assert tokens[0, 0] == tokens[0, 1]
    torch.testing.assert_close(tokens.flatten().diff()[1:], tokens.flatten().diff()[1].expand(12))


BAD = {
    "unknown": ({"name": "gru"}, "model 'gru' is unknown; choose from rnn, lstm, patchtst, mlp"),
    "size": ({"name": "rnn", "length": 0}, "length=0"),
    "dropout": ({"name": "rnn", "dropout": 1.0}, r"dropout=1.0 is outside \[0, 1\)"),
    "keep": ({"name": "rnn", "keep": 0.0}, "keep=0.0 must be above 0"),
    "keep, not a number": ({"name": "rnn", "keep": float("nan")}, "keep=nan must be above 0"),
    "locked": ({"name": "mlp", "locked": True}, "needs a recurrent model, not 'mlp'; choose from rnn, lstm"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_locked_dropout_is_of_one_layer():
    with pytest.raises(ValueError, match="locked=True with layers=2"):
        LSTMForecaster(channels=1, length=3, horizon=1, layers=2, locked=True)

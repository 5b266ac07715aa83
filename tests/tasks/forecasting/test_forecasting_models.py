"""Shapes, determinism in eval, dropout in training, and what each network may look at."""

import pytest
import torch
from torch import nn

from synaptic_pruning.tasks.forecasting import MODELS, build_model

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


def test_patchtst_sees_the_target_channel_only_and_recurrent_networks_all():
    inputs = torch.randn(4, 30, 3)
    other = inputs.clone()
    other[..., 1:] += 1
    for name in MODELS:
        model = build(name).eval()
        assert torch.equal(model(inputs), model(other)) == (name == "patchtst")


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
    "unknown": ({"name": "gru"}, "model 'gru' is unknown; choose from rnn, lstm, patchtst"),
    "size": ({"name": "rnn", "length": 0}, "length=0"),
    "dropout": ({"name": "rnn", "dropout": 1.0}, r"dropout=1.0 is outside \[0, 1\)"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)

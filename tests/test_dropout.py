import pytest
import torch
from torch import nn

import synaptic_pruning as sp


class _Net(nn.Module):
    def __init__(self, layers: int = 2, p: float = 0.3) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(4, 4, 1), nn.BatchNorm1d(4), nn.Dropout1d(p))
        self.rnn = nn.LSTM(4, 4, num_layers=layers, dropout=p if layers > 1 else 0.0, batch_first=True)
        self.attention = nn.MultiheadAttention(4, 2, dropout=p, batch_first=True)

    def forward(self, x):
        x = self.rnn(self.conv(x).transpose(1, 2))[0]
        return self.attention(x, x, x)[0]


def test_set_dropout_finds_all_kinds_and_gives_back_what_it_changed():
    net = _Net()
    before = sp.set_dropout(net, 0.0)
    assert before == {"conv.2": 0.3, "rnn": 0.3, "attention": 0.3}
    assert (net.conv[2].p, net.rnn.dropout, net.attention.dropout) == (0, 0, 0)
    net.train()
    net.conv[1].eval()
    x = torch.randn(2, 4, 6)
    assert torch.equal(net(x), net(x))
    assert sp.set_dropout(net, before) == {"conv.2": 0, "rnn": 0, "attention": 0}
    assert (net.conv[2].p, net.rnn.dropout, net.attention.dropout) == (0.3, 0.3, 0.3)


def test_heavy_dropout_hurts():
    """The rate that is set is the rate that acts."""
    net, x = _Net().train(), torch.randn(2, 4, 6)
    sp.set_dropout(net, 0.0)
    clean = net(x)
    sp.set_dropout(net, 0.99)
    assert (net(x) - clean).abs().mean() > 0.01


def test_each_kind_alone_makes_monte_carlo_passes_differ():
    x = torch.randn(2, 4, 6)
    for kind in ("conv.2", "rnn", "attention"):
        net = _Net(p=0.0)
        sp.set_dropout(net, {kind: 0.5})
        with sp.monte_carlo_dropout(net):
            assert not torch.equal(net(x), net(x)), kind


def test_modes_and_statistics_are_restored_also_after_an_error():
    net = _Net().eval()
    net.rnn.train()
    modes = [module.training for module in net.modules()]
    statistics = net.conv[1].running_mean.clone()
    x = torch.randn(2, 4, 6)
    with pytest.raises(RuntimeError, match="stop"), sp.monte_carlo_dropout(net):  # noqa: PT012
        assert not net.conv[1].training
        net(x)
        raise RuntimeError("stop")
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(net.conv[1].running_mean, statistics)


def test_the_mean_of_passes_estimates_the_mean():
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 1, bias=False)).eval()
    x = torch.ones(1, 8)
    with sp.monte_carlo_dropout(net), torch.no_grad():
        passes = torch.stack([net(x) for _ in range(4000)])
    # Inverted dropout keeps the mean; the variance of one pass is Σw²·p/(1−p) = Σw².
    spread = net[1].weight.square().sum().sqrt().item()
    assert abs(passes.mean().item() - net(x).item()) < 4 * spread / 4000**0.5
    assert passes.std().item() == pytest.approx(spread, rel=0.1)


def test_a_model_without_dropout_is_told():
    one_layer = nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4))
    with pytest.raises(ValueError, match=r"p=0\.3 would do nothing: .* one-layer LSTM has none"):
        sp.set_dropout(one_layer, 0.3)
    assert sp.set_dropout(one_layer, 0.0) == {}
    with pytest.warns(UserWarning, match="no dropout that can act"), sp.monte_carlo_dropout(one_layer):
        pass
    silent = _Net(p=0.0)
    with pytest.warns(UserWarning, match="no dropout that can act"), sp.monte_carlo_dropout(silent):
        pass


@pytest.mark.parametrize(("p", "message"), [(1.0, r"p=1\.0 .* \[0, 1\)"), (-0.1, "p=-0.1"), ({"x": 0.1}, "names 'x'")])
def test_bad_rates_change_nothing(p, message):
    net = _Net()
    with pytest.raises(ValueError, match=message):
        sp.set_dropout(net, p)
    assert net.conv[2].p == 0.3


def test_transformer_fast_path_does_not_swallow_dropout():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True)
    net = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval()
    x = torch.randn(2, 3, 8)
    with torch.no_grad(), sp.monte_carlo_dropout(net):
        assert not torch.equal(net(x), net(x))
    with torch.no_grad():
        assert torch.equal(net(x), net(x))


def test_functional_dropout_acts_too():
    class Functional(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.5, self.training)

    net = nn.Sequential(Functional(), nn.Dropout(0.1)).eval()
    with sp.monte_carlo_dropout(net):
        assert (net[0](torch.ones(100)) == 0).any()

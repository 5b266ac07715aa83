"""Which weights of a network are prunable, also those of other libraries' layers and under parametrizations."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

import synaptic_pruning as sp

CUBIC = sp.ToSparsity(sp.cubic(0.8, end=0.5))


def _trained(net: nn.Module, x: torch.Tensor, rule: sp.Rule = CUBIC, steps: int = 60, **choice) -> sp.SynapticPruner:
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=steps, **choice)
    for _ in range(steps):
        optimizer.zero_grad()
        (net(x) - 1).square().mean().backward()
        optimizer.step()
    return pruner


def test_the_matrices_of_gpt2_are_pruned():
    config = GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=50, n_positions=16, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    pruner = sp.SynapticPruner(model, optimizer, CUBIC, total_steps=10)
    tokens = torch.randint(0, 50, (2, 8))
    for _ in range(10):
        optimizer.zero_grad()
        model(tokens, labels=tokens).loss.backward()
        optimizer.step()
    block = 12 * 32 * 32  # queries, keys, values and their output, 4 times; two of 4 times the width
    zeros = sum(int((p == 0).sum()) for name, p in model.named_parameters() if ".h." in name and p.dim() == 2)
    assert zeros == round(0.8 * 2 * block)
    assert pruner.summary().total.weights == 2 * block
    assert pruner.summary().others == {"transformer.wte.weight": 50 * 32, "transformer.wpe.weight": 16 * 32}


class _Conv1DNet(nn.Module):
    """Two Conv1D beside the same two Linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Conv1D(5, 3), Conv1D(2, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x)))


@pytest.mark.parametrize(
    "rule",
    [
        lambda: CUBIC,
        lambda: sp.ToSparsity(sp.cubic(0.6, end=0.5), score="usage"),
        lambda: sp.Units(sp.linear(0.4, end=0.5)),
        lambda: sp.Disuse(window=3, threshold=0.5),
    ],
    ids=["magnitude", "usage", "units", "disuse"],
)
def test_a_conv1d_is_pruned_as_the_linear_layer_of_the_transposed_weight(rule: Callable[[], sp.Rule]):
    torch.manual_seed(0)
    theirs = _Conv1DNet()
    for layer in (theirs.first, theirs.second):
        nn.init.normal_(layer.weight)
    ours = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    with torch.no_grad():
        for mine, layer in ((ours[0], theirs.first), (ours[2], theirs.second)):
            mine.weight.copy_(layer.weight.T)
            mine.bias.copy_(layer.bias)
    x = torch.randn(7, 3)
    pruners = [_trained(net, x, rule()) for net in (theirs, ours)]
    masks, wanted = (pruner.masks() for pruner in pruners)
    assert 0 < pruners[1].sparsity() < 1
    assert torch.equal(masks["first.weight"].T, wanted["0.weight"])
    assert torch.equal(masks["second.weight"].T, wanted["2.weight"])
    rows, wanted_rows = (pruner.summary().rows for pruner in pruners)
    assert [row.unreached_units for row in rows] == [row.unreached_units for row in wanted_rows]


class _Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def _hand_made(layer: nn.Module) -> nn.Module:
    parametrize.register_parametrization(layer, "weight", _Doubled())
    return layer


BREAKS_ZEROS = {
    "parametrizations.weight_norm": parametrizations.weight_norm,
    "weight_norm": lambda layer: _quiet(lambda: nn.utils.weight_norm(layer)),
    "parametrizations.orthogonal": parametrizations.orthogonal,
    "one's own": _hand_made,
}


def _quiet(make: Callable[[], nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old form is deprecated
        return make()


@pytest.mark.parametrize("layer", [lambda: nn.Linear(8, 8), lambda: nn.Conv1d(8, 8, 3)], ids=["linear", "conv"])
@pytest.mark.parametrize("name", BREAKS_ZEROS)
def test_weights_made_by_something_that_keeps_no_zeros_are_refused_by_name(name: str, layer: Callable[[], nn.Module]):
    net = nn.Sequential(BREAKS_ZEROS[name](layer()), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(net.parameters())
    with pytest.raises(ValueError, match=r"0\.(parametrizations\.)?weight.* cannot be pruned"):
        sp.SynapticPruner(net, optimizer, CUBIC, total_steps=10)
    pruner = sp.SynapticPruner(net, optimizer, CUBIC, total_steps=10, exclude=["0.*"])
    assert list(pruner.masks()) == ["1.weight"]
    assert pruner.summary().others


@pytest.mark.parametrize(
    "norm", [parametrizations.spectral_norm, nn.utils.spectral_norm], ids=["parametrization", "hook"]
)
@pytest.mark.parametrize("score", ["magnitude", "usage"])
def test_spectral_norm_keeps_the_zeros(norm: Callable[[nn.Module], nn.Module], score: str):
    torch.manual_seed(0)
    net = nn.Sequential(norm(nn.Linear(6, 20)), nn.Tanh(), nn.Linear(20, 1))
    pruner = _trained(net, torch.randn(9, 6), sp.ToSparsity(sp.cubic(0.8, end=0.5), score=score))
    net(torch.randn(9, 6))
    zeros = int((net[0].weight == 0).sum()) + int((net[2].weight == 0).sum())
    assert zeros == round(0.8 * 140)
    assert pruner.sparsity() == 0.8
    assert sp.Units(sp.linear(0.5)).attach(net, sp.Synapses(net))


class _Own(nn.Module):
    """A layer that nobody knows."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(size, size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.matrix


def test_much_in_layers_of_no_known_type_is_said():
    net = nn.Sequential(_Own(10), nn.Linear(10, 10))
    optimizer = torch.optim.Adam(net.parameters())
    with pytest.warns(UserWarning, match=r"50% of the network's weights, most in 0\.matrix") as caught:
        sp.SynapticPruner(net, optimizer, CUBIC, total_steps=10).remove()
    assert len(caught) == 1
    sp.SynapticPruner(net, optimizer, CUBIC, total_steps=10, exclude=["0.*"]).remove()
    sp.SynapticPruner(net, optimizer, CUBIC, total_steps=10, include=["0.matrix", "1.weight"]).remove()
    little = nn.Sequential(_Own(3), nn.Linear(3, 40))
    sp.SynapticPruner(little, torch.optim.Adam(little.parameters()), CUBIC, total_steps=10)

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.core import pack, unpack
from synaptic_pruning.pruner.enforcement import MaskEnforcer
from synaptic_pruning.pruner.optimizer_state import reset_pruned_state


def _names(model: nn.Module, **arguments) -> list[str]:
    return [layer.name for layer in sp.Synapses(model, **arguments).layers]


class _Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 4)
        self.conv = nn.Conv1d(4, 4, 3)
        self.norm = nn.BatchNorm1d(4)
        self.rnn = nn.LSTM(4, 4, proj_size=2, bidirectional=True)
        self.cell = nn.GRUCell(4, 4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.out = nn.Linear(4, 5)
        self.out.weight = self.words.weight
        self.scale = nn.Parameter(torch.ones(3, 3))


def test_what_is_prunable_by_default():
    assert _names(_Everything()) == [
        "conv.weight",
        "rnn.weight_ih_l0",
        "rnn.weight_hh_l0",
        "rnn.weight_hr_l0",
        "rnn.weight_ih_l0_reverse",
        "rnn.weight_hh_l0_reverse",
        "rnn.weight_hr_l0_reverse",
        "cell.weight_ih",
        "cell.weight_hh",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
    ]


def test_include_and_exclude():
    net = _Everything()
    assert _names(net, include=["words.*", "scale"]) == ["scale", "words.weight"]
    assert _names(net, include=["*weight*"], exclude=["rnn.*", "attention*", "norm*", "words.*", "cell.*"]) == [
        "conv.weight"
    ]
    with pytest.raises(ValueError, match="'convolution' in include= or exclude= matches no parameter"):
        _names(net, exclude=["convolution"])
    with pytest.raises(ValueError, match=r"exclude='conv' must be a list of name patterns; write \['conv'\]"):
        _names(net, exclude="conv")


def test_nothing_to_prune():
    with pytest.raises(ValueError, match="no prunable weight"):
        sp.Synapses(nn.LayerNorm(3))
    with pytest.raises(ValueError, match="weight has no shape yet; run one batch"):
        sp.Synapses(nn.LazyLinear(3))


def test_wrappers_are_seen_through():
    net = nn.Linear(2, 2)
    assert _names(torch.compile(net, backend="eager")) == _names(nn.DataParallel(net)) == ["weight"]


def test_unreached_units():
    lstm = sp.Synapses(nn.LSTM(2, 3)).layers[0]
    lstm.alive[torch.tensor([1, 4, 7, 10])] = False  # all four gates of unit 1
    lstm.alive[0] = False  # one gate of unit 0
    assert lstm.unreached_units() == 1
    transposed = sp.Synapses(nn.ConvTranspose1d(4, 6, 2, groups=2)).layers[0]  # weight (4, 3, 2)
    transposed.alive[:2, 1] = False  # output channel 1 of the first group
    transposed.alive[3, 2] = False  # half of output channel 2 of the second
    assert transposed.unreached_units() == 1


@given(st.lists(st.booleans(), max_size=70))
def test_packing_is_numpys_little_endian_packing(bits):
    mask = torch.tensor(bits, dtype=torch.bool)
    assert pack(mask).tolist() == np.packbits(np.array(bits, dtype=bool), bitorder="little").tolist()
    assert torch.equal(unpack(pack(mask), mask.shape), mask)


def test_damaged_masks():
    with pytest.raises(ValueError, match=r"2 torch.uint8 entries does not fit shape \(3, 3\), which takes 2|takes 2"):
        unpack(torch.zeros(3, dtype=torch.uint8), (3, 3))
    with pytest.raises(ValueError, match=r"torch\.float32"):
        unpack(torch.zeros(1), (3,))


def test_codes_of_eight_bits_mean_zero_where_weights_are_pruned():
    """As bitsandbytes keeps them (a table beside the codes) and as torchao does (one object with both), by hand."""
    net = nn.Linear(3, 2, bias=False)
    synapses = sp.Synapses(net)
    alive = torch.tensor([[True, False, True], [False, True, True]])
    synapses.set_masks([alive])
    table = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])  # code 2 stands for zero, code 0 for the largest negative number
    codes = lambda: torch.tensor([[0, 1, 2], [3, 4, 0]], dtype=torch.uint8)  # noqa: E731

    class Coded(torch.Tensor):
        pass

    both = torch.zeros(2, 3).as_subclass(Coded)
    both.codes, both.qmap = codes(), table
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    optimizer.state[net.weight] = {
        "state1": codes(),
        "qmap1": table,
        "exp_avg": both,
        "plain": torch.ones(2, 3),
        "step": 3,
        "unrelated": torch.ones(5),
    }
    reset_pruned_state([optimizer], synapses.layers, MaskEnforcer(synapses.layers), grows=True)
    state = optimizer.state[net.weight]
    for kept in (state["state1"], both.codes):
        assert kept.tolist() == [[0, 2, 2], [2, 4, 0]]
    assert state["plain"].tolist() == [[1, 0, 1], [0, 1, 1]]
    assert torch.equal(state["qmap1"], table)
    assert torch.equal(state["unrelated"], torch.ones(5))

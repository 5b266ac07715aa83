import torch
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.core import History


def test_table_by_hand():
    synapses = sp.Synapses(nn.Sequential(nn.Linear(1000, 3), nn.Linear(3, 2)))
    first = torch.zeros(3, 1000, dtype=torch.bool)
    first[0, :30] = True
    synapses.set_masks([first, torch.ones(2, 3, dtype=torch.bool)])
    summary = sp.Summary.of(synapses)
    no_life = {"grown": 0, "pruned": 0, "mean_age": 0.0}
    assert summary.to_dict() == {
        "layers": [
            {"name": "0.weight", "weights": 3000, "alive": 30, "unreached_units": 2, "sparsity": 0.99, **no_life},
            {"name": "1.weight", "weights": 6, "alive": 6, "unreached_units": 0, "sparsity": 0.0, **no_life},
        ],
        "total": {
            "name": "total", "weights": 3006, "alive": 36, "unreached_units": 2, "sparsity": 1 - 36 / 3006, **no_life,
        },
        "survival": [],
        "others": {},
    }  # fmt: skip
    assert str(summary).splitlines() == [
        "parameter  weights  alive  sparsity  unreached units",
        "0.weight     3,000     30    99.0 %                2",
        "1.weight         6      6     0.0 %                0",
        "total        3,006     36    98.8 %                2",
    ]


def test_the_bias_of_a_transposed_convolution_has_a_unit_an_entry():
    synapses = sp.Synapses(nn.ConvTranspose1d(2, 6, 3, groups=2), biases=True)
    synapses.set_masks([torch.ones(2, 3, 3, dtype=torch.bool), torch.tensor([True, False, False, True, True, True])])
    assert [row.unreached_units for row in sp.Summary.of(synapses).rows] == [0, 2]


def test_weights_that_are_not_prunable_are_counted_and_the_largest_is_named():
    frozen = nn.Linear(10, 10).requires_grad_(False)
    net = nn.Sequential(nn.Embedding(20, 10), frozen, nn.LayerNorm(10), nn.Linear(10, 10), nn.Linear(10, 2))
    summary = sp.Summary.of(sp.Synapses(net, exclude=["3.*"]))
    assert summary.total.weights == 20
    assert summary.others == {"0.weight": 200, "1.weight": 100, "3.weight": 100}
    assert str(summary).splitlines()[-1] == "not prunable: 400 weights (95.2 % of the network), most in 0.weight"


def test_grown_pruned_ages_and_generations_by_hand():
    synapses = sp.Synapses(nn.Sequential(nn.Linear(4, 1), nn.Linear(1, 2)))
    synapses.set_masks([torch.tensor([[True, True, True, False]]), torch.ones(2, 1, dtype=torch.bool)])
    history = History(synapses, grows=True)
    for step, first in ((10, [1, 0, 1, 1]), (30, [1, 1, 0, 0]), (40, [1, 0, 0, 1])):
        masks = [torch.tensor([first]).bool(), torch.ones(2, 1, dtype=torch.bool)]
        marks = [mask & ~layer.alive for layer, mask in zip(synapses.layers, masks, strict=True)]
        history.record(step, masks, marks, synapses.count_true(marks, masks))
        synapses.set_masks(masks)
    summary = sp.Summary.of(synapses, history, step=50)
    first, second = summary.rows
    assert (first.grown, first.pruned, first.mean_age) == (3, 4, (50 + 10) / 2)  # grown at 0 and at 40
    assert (second.grown, second.pruned, second.mean_age) == (0, 0, 50)
    assert summary.total.mean_age == (50 + 10 + 50 + 50) / 4
    assert summary.to_dict()["survival"] == [
        {"grown_at": 0, "size": 5, "steps": [0, 10, 30, 40], "alive": [1.0, 0.8, 0.6, 0.6]},
        {"grown_at": 10, "size": 1, "steps": [10, 30, 40], "alive": [1.0, 0.0, 0.0]},
        {"grown_at": 30, "size": 1, "steps": [30, 40], "alive": [1.0, 0.0]},
        {"grown_at": 40, "size": 1, "steps": [40], "alive": [1.0]},
    ]
    assert str(summary).splitlines()[1].split() == ["0.weight", "4", "2", "50.0", "%", "0", "3", "4", "30"]

    import matplotlib

    matplotlib.use("agg")
    lines = summary.plot_survival().get_lines()
    assert [line.get_xydata().tolist() for line in lines][2] == [[0.0, 1.0], [10.0, 0.0]]

import torch
from torch import nn

import synaptic_pruning as sp


def test_table_by_hand():
    synapses = sp.Synapses(nn.Sequential(nn.Linear(1000, 3), nn.Linear(3, 2)))
    first = torch.zeros(3, 1000, dtype=torch.bool)
    first[0, :30] = True
    synapses.keep([first, torch.ones(2, 3, dtype=torch.bool)])
    summary = sp.Summary.of(synapses)
    assert summary.to_dict() == {
        "layers": [
            {"name": "0.weight", "weights": 3000, "alive": 30, "dead_units": 2, "sparsity": 0.99},
            {"name": "1.weight", "weights": 6, "alive": 6, "dead_units": 0, "sparsity": 0.0},
        ],
        "total": {"name": "total", "weights": 3006, "alive": 36, "dead_units": 2, "sparsity": 1 - 36 / 3006},
    }
    assert str(summary).splitlines() == [
        "parameter  weights  alive  sparsity  dead units",
        "0.weight     3,000     30    99.0 %           2",
        "1.weight         6      6     0.0 %           0",
        "total        3,006     36    98.8 %           2",
    ]

"""The networks and optimizers that every rule must work with.

A factory of `NETWORKS` gives a model and a function to its loss.
"""

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn

DEVICE = torch.device(os.environ.get("TEST_DEVICE", "cpu"))  # `make test-cuda` puts the contract on a GPU
if DEVICE.type == "cuda":  # runs are compared bit for bit
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)

Loss = Callable[[nn.Module], Tensor]
Factory = Callable[[], tuple[nn.Module, Loss]]


def _regression(net: nn.Module, *shape: int, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Loss]:
    generator = torch.Generator().manual_seed(1)

    def loss(model: nn.Module) -> Tensor:
        x = torch.randn(4, *shape, generator=generator).to(DEVICE, dtype)
        return (model(x) - x.flatten(1).mean(1, keepdim=True)).square().mean()

    return net.to(DEVICE, dtype), loss


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.LayerNorm(16), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))


class _Last(nn.Module):
    """A recurrent network and a linear head on its last output."""

    def __init__(self, recurrent: nn.RNNBase, features: int) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.head = nn.Linear(features, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x)[0][:, -1])


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


class _Tied(nn.Module):
    """Two linear layers that share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 1)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


def _frozen() -> nn.Module:
    net = _mlp()
    net[0].weight.requires_grad_(False)
    return net


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(32, 1),
    )  # fmt: skip


NETWORKS: dict[str, Factory] = {
    "mlp": lambda: _regression(_mlp(), 8),
    "cnn": lambda: _regression(_cnn(), 2, 6, 6),
    "rnn": lambda: _regression(_Last(nn.RNN(3, 8, batch_first=True), 8), 5, 3),
    "lstm": lambda: _regression(
        _Last(nn.LSTM(3, 8, num_layers=2, bidirectional=True, proj_size=4, batch_first=True), 8), 5, 3
    ),
    "gru": lambda: _regression(_Last(nn.GRU(3, 8, batch_first=True), 8), 5, 3),
    "transformer": lambda: _regression(_Attention(), 5, 8),
    "tied": lambda: _regression(_Tied(), 8),
    "frozen": lambda: _regression(_frozen(), 8),
    "float64": lambda: _regression(_mlp(), 8, dtype=torch.float64),
    "bfloat16": lambda: _regression(_mlp(), 8, dtype=torch.bfloat16),
}

OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd-momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=1e-3, amsgrad=True),
    "adamw-foreach": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=True),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-2, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2, initial_accumulator_value=0.1),
    "nadam": lambda p: torch.optim.NAdam(p, lr=1e-2),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2),
}

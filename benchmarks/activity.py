"""Training time with activity observed for `Disuse` against the same loop with a pruner that observes nothing.

The two loops take turns, a few steps each, so whatever else the machine does falls on both. Neither removes anything,
so the difference is what observing and the counting at the end of windows cost.
Run: OMP_NUM_THREADS=1 python benchmarks/activity.py
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import synaptic_pruning as sp
from synaptic_pruning.tasks.classification import build_model

STEPS, BLOCK, WINDOW = 240, 20, 20  # a window ends every 20 steps: a training of 1,000 with the default 50 events


class _Last(nn.Module):
    """The mean of a sequence model's outputs."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Return one vector a sequence."""
        out = self.inner(x)
        return (out[0] if isinstance(out, tuple) else out).mean(1)


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True)
    return _Last(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "MLP 784-300-100-10": (lambda: build_model("mlp", (1, 28, 28), seed=0), (64, 1, 28, 28)),
    "CNN, 2 convolutions": (lambda: build_model("cnn", (1, 28, 28), seed=0), (64, 1, 28, 28)),
    "VGG style": (lambda: build_model("vgg", (3, 32, 32), seed=0, channels=(16, 32, 64)), (64, 3, 32, 32)),
    "LSTM 64, 1 layer": (lambda: _Last(nn.LSTM(8, 64, batch_first=True)), (64, 30, 8)),
    "LSTM 64, 2 layers": (lambda: _Last(nn.LSTM(8, 64, 2, batch_first=True)), (64, 30, 8)),
    "GRU 64, 2 layers, both ways": (lambda: _Last(nn.GRU(8, 64, 2, bidirectional=True, batch_first=True)), (64, 30, 8)),
    "Transformer 64, 2 layers": (_encoder, (64, 30, 64)),
}


def _loop(make: Callable[[], nn.Module], shape: tuple[int, ...], watched: bool) -> Callable[[int], float]:
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    rule = sp.Disuse(threshold=0.0, patience=255) if watched else sp.ToSparsity(sp.one_shot(0.5, at=0.99))
    sp.SynapticPruner(model, optimizer, rule, total_steps=50 * WINDOW, every=WINDOW)
    x = torch.rand(shape)

    def steps(count: int) -> float:
        start = time.process_time()
        for _ in range(count):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        return time.process_time() - start

    return steps


def main() -> None:
    """Print the extra processor time a step for each network."""
    torch.set_num_threads(1)
    for name, (make, shape) in NETWORKS.items():
        plain, watched = _loop(make, shape, False), _loop(make, shape, True)
        plain(BLOCK)
        watched(BLOCK)
        ratios = []
        for block in range(STEPS // BLOCK):
            first, second = (plain, watched) if block % 2 else (watched, plain)
            pair = first(BLOCK), second(BLOCK)
            ratios.append(pair[1] / pair[0] if block % 2 else pair[0] / pair[1])
        low, middle, high = (q - 1 for q in statistics.quantiles(ratios, n=4))
        print(f"{name:30} {middle:+.1%} (middle half {low:+.1%} to {high:+.1%})")


if __name__ == "__main__":
    main()

"""Time a training step with activity observed for `Disuse` against loops that observe nothing.

Side by side with a pruner that observes nothing and with no pruner at all; two loops of each kind take turns, a
few steps each (`turns`). No pruner removes anything, so against the idle one the difference is what observing and the
counting at the end of windows cost.
Run: OMP_NUM_THREADS=1 python benchmarks/activity.py
"""

import statistics
from collections.abc import Callable

import torch
from interleaved import alternate, cost, mean
from torch import Tensor, nn

import synaptic_pruning as sp
from synaptic_pruning.tasks.classification import build_model

STEPS, WINDOW = 240, 20  # a window ends every 20 steps: a training of 1,000 with the default 50 events


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


def _loop(make: Callable[[], nn.Module], shape: tuple[int, ...], rule: sp.Rule | None) -> Callable[[], None]:
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    if rule is not None:
        sp.SynapticPruner(model, optimizer, rule, total_steps=50 * WINDOW, every=WINDOW)
    x = torch.rand(shape)

    def step() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return step


def main() -> None:
    """Print the extra processor time a step for each network."""
    torch.set_num_threads(1)
    print(f"a window every {WINDOW} steps; ± 2 standard errors; last, one without a pruner against another")
    for name, (make, shape) in NETWORKS.items():
        kinds: list[Callable[[], sp.Rule | None]] = [
            lambda: None,
            lambda: sp.ToSparsity(sp.one_shot(0.5, at=0.99)),
            lambda: sp.Disuse(threshold=0.0, patience=255),
        ]
        loops = [_loop(make, shape, kind()) for kind in kinds * 2]
        alternate(loops, WINDOW)
        none, idle, watched, *again = alternate(loops, STEPS)
        without, resting, observing = (mean(*pair) for pair in zip((none, idle, watched), again, strict=True))
        print(
            f"{name:28} {1e3 * statistics.fmean(without):6.2f} ms   "
            f"against idle {cost(observing, resting, WINDOW)}   against none {cost(observing, without, WINDOW)}   "
            f"({cost(again[0], none, WINDOW)})",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""On a GPU: time a training step with the pruner against the same loop without it, and without any waiting in between.

Two loops without it and two with it take turns of twenty steps, one event each, the device waited for at the end of a
turn only. Wall time, median over the turns; two loops that do the same tell how far it can be trusted.
Run: python benchmarks/gpu.py [network ...]
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from interleaved import RAMP, alternate, mean
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.tasks.classification.models import build_model as classifier
from synaptic_pruning.tasks.forecasting.models import build_model as forecaster

STEPS, EVENT, WARM = 1000, 20, 5


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True, dropout=0.0)
    return nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "LSTM-64": (lambda: forecaster("lstm", channels=1, length=30, horizon=1), (64, 30, 1)),
    "PatchTST": (lambda: forecaster("patchtst", channels=1, length=30, horizon=1), (64, 30, 1)),
    "VGG style, 32 × 32": (lambda: classifier("vgg", (3, 32, 32), seed=0), (128, 3, 32, 32)),
    "encoder of 19 M weights": (_encoder, (32, 128, 512)),
    "MLP of 100 M weights": (
        lambda: nn.Sequential(nn.Linear(4096, 8192), nn.ReLU(), nn.Linear(8192, 8192), nn.Linear(8192, 16)),
        (1024, 4096),
    ),
}


def _loop(name: str, pruned: bool) -> Callable[[], None]:
    """Return a turn of a training."""
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    model = make().cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    if pruned:
        sp.SynapticPruner(model, optimizer, RAMP, total_steps=STEPS, every=EVENT)
    x = torch.randn(shape, device="cuda")

    def turn() -> None:
        for _ in range(EVENT):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        torch.cuda.synchronize()

    return turn


def main() -> None:
    """Print a line for each network."""
    torch.set_float32_matmul_precision("high")
    print(
        f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, the ramp of docs/recipe.md, {STEPS} steps, AdamW"
    )
    for name in sys.argv[1:] or NETWORKS:
        loops = [_loop(name, place % 2 == 1) for place in range(4)]
        seconds = alternate(loops, STEPS // EVENT, turn=1, now=time.perf_counter)
        a, b, c, d = (taken[WARM:] for taken in seconds)
        without, pruned = mean(a, c), mean(b, d)
        same = statistics.median(y / x for x, y in zip(a, c, strict=True)) - 1
        extra = statistics.median(y / x for x, y in zip(without, pruned, strict=True)) - 1
        print(
            f"{name}: {1e3 * statistics.median(without) / EVENT:.2f} ms a step, with the pruner {extra:+.1%} "
            f"(of the same: {same:+.1%})",
            flush=True,
        )


if __name__ == "__main__":
    main()

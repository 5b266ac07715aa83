"""The global threshold against torch.nn.utils.prune.global_unstructured: time, memory, and the same masks.

Each side runs in a process of its own, so that its peak memory is its own. Run: python benchmarks/threshold.py
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

TENSORS, SIZE, SPARSITY = 20, 2_500_000, 0.9


def _weights() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    # Standard normal times a scale of its own for each, as layers have; all magnitudes differ but for chance.
    return [torch.randn(SIZE, generator=generator) * (0.5 + 0.05 * i) for i in range(TENSORS)]


def _peak_bytes() -> int:
    """Return the highest resident size since the last reset (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _ours(weights: list[torch.Tensor]) -> list[torch.Tensor]:
    from synaptic_pruning.core.topk import LazyScores, smallest_k

    scores = [
        LazyScores(str(i), w.numel(), lambda start, stop, w=w: w[start:stop].abs(), w.dtype, w.device)
        for i, w in enumerate(weights)
    ]
    return [mask.logical_not_() for mask in smallest_k(scores, round(SPARSITY * TENSORS * SIZE))]


def _theirs(weights: list[torch.Tensor]) -> list[torch.Tensor]:
    modules = []
    for weight in weights:
        module = nn.Module()
        module.weight = nn.Parameter(weight)
        modules.append(module)
    prune.global_unstructured([(m, "weight") for m in modules], prune.L1Unstructured, amount=SPARSITY)
    return [m.weight_mask for m in modules]


def _measure(side: str) -> None:
    weights = _weights()
    run = {"ours": _ours, "theirs": _theirs}[side]
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident now
    before = _peak_bytes()
    start = time.perf_counter()
    masks = run(weights)
    seconds = time.perf_counter() - start
    extra = _peak_bytes() - before
    digest = [int((mask.bool().int() * torch.arange(1, SIZE + 1)).sum()) for mask in masks]
    print(json.dumps({"seconds": seconds, "extra": extra, "digest": digest}))


def _in_its_own_process(side: str) -> dict[str, Any]:
    return json.loads(subprocess.run([sys.executable, __file__, side], stdout=subprocess.PIPE, check=True).stdout)


def main() -> None:
    """Print both sides and their ratio."""
    rounds = [[_in_its_own_process(side) for side in ("ours", "theirs")] for _ in range(3)]
    size = TENSORS * SIZE * 4
    assert all(ours["digest"] == theirs["digest"] for ours, theirs in rounds), "the masks differ"
    ours, theirs = (sorted(r[i]["seconds"] for r in rounds)[1] for i in (0, 1))
    our_extra, their_extra = (max(r[i]["extra"] for r in rounds) / size for i in (0, 1))
    count = TENSORS * SIZE / 1e6
    print(
        f"{count:.0f} M float32 weights in {TENSORS} tensors to {SPARSITY:.0%}, CPU, same masks as torch.nn.utils.prune"
    )
    print(f"one cold call (median of 3): {theirs / ours:.0f}x faster ({ours:.2f} s against {theirs:.2f} s)")
    print(f"extra peak memory, in sizes of the weights (masks included): {our_extra:.2f} against {their_extra:.2f}")


if __name__ == "__main__":
    _measure(sys.argv[1]) if len(sys.argv) > 1 else main()

"""What the default recipe costs a network that is trained already: images, a multilayer perceptron.

A dense network is trained; then it is trained on, dense or losing so many of its weights by the default's ramp, all at
the same learning rate. Printed: test accuracy, and the difference from training on dense, paired by seed, with 95 %
t-intervals.
Run: OMP_NUM_THREADS=1 python experiments/trained.py fashion-mnist --seeds 5
"""

import argparse
import copy
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

import synaptic_pruning as sp
from rules import interval
from synaptic_pruning.tasks.classification import accuracy, build_model, make_task, train

SPARSITIES = (0.5, 0.8, 0.9)


def compared(seed: int, options: argparse.Namespace) -> list[float]:
    """Return test accuracies: before, trained on dense, trained on and pruned to each sparsity."""
    torch.set_num_threads(1)
    task = make_task(options.data, options.data_dir)
    model = build_model("mlp", task.shape, seed=seed)
    train(model, task, epochs=options.epochs, seed=seed)
    found = [accuracy(model, task.test)]
    for sparsity in (None, *SPARSITIES):

        def attach(net: nn.Module, optimizer: Optimizer, steps: int, sparsity: float = sparsity or 0.0):
            return sp.SynapticPruner(net, optimizer, sparsity, total_steps=steps)

        again = copy.deepcopy(model)
        train(again, task, epochs=options.more, seed=seed, attach=attach if sparsity else None)
        found.append(accuracy(again, task.test))
    return found


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", choices=["mnist", "fashion-mnist"])
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--more", type=int, default=5, help="epochs of training on")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = 100 * np.array(list(pool.map(partial(compared, options=options), range(options.seeds))))
    print("| network | test accuracy | minus trained on dense (points) |\n|---|---|---|")
    names = ["before", "trained on dense", *(f"trained on, {sparsity:.0%} pruned" for sparsity in SPARSITIES)]
    for name, values in zip(names, found.T, strict=True):
        change, half = interval(values - found[:, 1])
        told = "" if name == "trained on dense" else f"{change:+.2f} ± {half:.2f}"
        print(f"| {name} | {values.mean():.2f} % | {told} |")


if __name__ == "__main__":
    main()

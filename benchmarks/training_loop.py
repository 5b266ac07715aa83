"""Time of a training step through `train` against a bare loop on batches made beforehand, side by side.

Run: python benchmarks/training_loop.py
"""

import statistics
import time

import numpy as np
import torch
from torch import nn

from synaptic_pruning.tasks.forecasting import MODELS, Series, build_model, make_task, train

LENGTH, BATCH, ROUNDS = 30, 64, 9


def model(name):
    torch.manual_seed(0)
    return build_model(name, channels=1, length=LENGTH, horizon=1)


def through_train(name, task):
    run = train(model(name), task, epochs=1, seed=0, batch_size=BATCH)
    return run.train_seconds / run.steps


def bare(name, task):
    network = model(name)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    inputs = [batch.contiguous() for batch in torch.split(task.train.inputs, BATCH)]
    targets = torch.split(task.train.targets, BATCH)
    started = time.perf_counter()
    for batch, target in zip(inputs, targets, strict=True):
        optimizer.zero_grad()
        nn.functional.mse_loss(network(batch), target).backward()
        optimizer.step()
    return (time.perf_counter() - started) / len(inputs)


def main():
    values = np.random.default_rng(0).standard_normal((10_000, 1)).cumsum(0)
    task = make_task(Series("walk", "y", ("y",), np.arange(len(values)), values, 1), length=LENGTH)
    print(f"batch {BATCH}, window {LENGTH}, median of {ROUNDS} rounds, {torch.get_num_threads()} thread(s)")
    for name in MODELS:
        through_train(name, task), bare(name, task)  # warm-up
        pairs = [(through_train(name, task), bare(name, task)) for _ in range(ROUNDS)]
        ours, plain = (statistics.median(column) * 1e3 for column in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        print(f"{name:9} train() {ours:7.3f} ms a step, bare loop {plain:7.3f} ms, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()

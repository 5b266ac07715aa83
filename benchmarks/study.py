"""The study engine against the plain loop of the scripts released with arXiv 2508.09330; several seeds side by side.

Both sides train an LSTM (hidden 64) on weekly CO2, window 30, Adam 1e-3, batch 64, 20 epochs without early stopping,
plain, with dropout 0.3 and pruned from 30 % to 70 %, in turns, on one core. The loop is written anew from what is known
of theirs: a target an epoch, a mask update every other batch that pools the active weights in a Python list and sorts
it. What the engine's wall time holds beside training steps is told in two parts: the task's own work, which the loop
does too (validation errors, forecasts of the test windows), and the engine's own, which is all the rest: a process a
cell, its start and end, validation forecasts of the best weights, baselines, files, the record, the runner. What the
first epoch of a fresh process takes longer than the others counts as the engine's, too. The first lines train RNNs of
several seeds one by one and with `train_together`, plain, with dropout and sparse throughout (the standard study's
window and batch, CPU time); and three LSTMs one by one with PyTorch's layer and stacked with `torch.bmm`, where one
optimizer steps them all.

Run: OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/study.py
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import synaptic_pruning as sp
from synaptic_pruning.study.engine import Processes, run
from synaptic_pruning.study.forecasting import Plan, cases, chosen_options, expand_chosen, run_job
from synaptic_pruning.tasks.forecasting import (
    Attach,
    ForecastingTask,
    Settings,
    build_model,
    embedded,
    make_task,
    train,
    train_together,
)

WINDOW, BATCH, EPOCHS, ROUNDS = 30, 64, 20, 3
ARMS = ("none", "dropout", "vos2025")
LOWEST, HIGHEST, WARMUP, EVERY = 0.3, 0.7, 2, 2
STACKED, STEPS, BLOCK = 3, 150, 5
SEEDS, TURNS = (3, 5), 5


def update_masks(weights: dict[str, nn.Parameter], masks: dict[str, Tensor], epoch: int) -> None:
    """Prune up to the epoch's target, as released: one pool of all active weights, in Python."""
    if epoch < WARMUP:
        return
    target = LOWEST + (HIGHEST - LOWEST) * ((epoch - WARMUP) / (EPOCHS - WARMUP)) ** 3
    pool: list[float] = []
    gone = count = 0
    for name, weight in weights.items():
        for value, active in zip(weight.detach().abs().flatten().tolist(), masks[name].flatten().tolist(), strict=True):
            count += 1
            if active:
                pool.append(value)
            else:
                gone += 1
    more = max(0, int(target * count) - gone)
    if more:
        threshold = sorted(pool)[more - 1]
        for name, weight in weights.items():
            masks[name] &= weight.detach().abs() >= threshold


def train_plainly(task: ForecastingTask, arm: str, seed: int) -> None:
    """Train and forecast one network as a script does, in this process."""
    torch.manual_seed(seed)
    model = build_model("lstm", channels=1, length=WINDOW, horizon=1, dropout=0.3 if arm == "dropout" else 0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    weights = {name: p for name, p in model.named_parameters() if p.dim() > 1}
    masks = {name: torch.ones_like(p, dtype=torch.bool) for name, p in weights.items()}
    parts = {
        name: DataLoader(TensorDataset(part.inputs, part.targets), BATCH, shuffle=name == "train")
        for name, part in (("train", task.train), ("validation", task.validation), ("test", task.test))
    }
    for epoch in range(EPOCHS):
        model.train()
        for number, (x, y) in enumerate(parts["train"]):
            optimizer.zero_grad()
            known = ~y.isnan()
            nn.functional.mse_loss(model(x)[known], y[known]).backward()
            if arm == "vos2025" and number % EVERY == 0:
                update_masks(weights, masks, epoch)
            optimizer.step()
            if arm == "vos2025":
                with torch.no_grad():
                    for name, weight in weights.items():
                        weight.mul_(masks[name])
        model.eval()
        with torch.no_grad():
            sum(nn.functional.mse_loss(model(x), y).item() for x, y in parts["validation"])
    with torch.no_grad():
        torch.cat([model(x) for x, _ in parts["test"]])


def compare_engines() -> None:
    """Print cells per minute of both, their ratio, and what the engine's wall time holds beside training."""
    co2 = next(series for series in embedded() if series.name == "co2")
    task = make_task(co2, length=WINDOW)
    plain = dict.fromkeys(ARMS, 0.0)
    engine, executor = dict.fromkeys(ARMS, 0.0), Processes(1, run_job)
    training = validation = forecasts = slow_start = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(-1, ROUNDS):  # the first round, with one epoch, warms up imports and the fork server
            for arm in ARMS:
                plan = Plan(("lstm",), (arm,), (WINDOW,), (1,), seeds=1, epochs=EPOCHS if seed >= 0 else 5)
                compared = cases(plan, [co2])
                (cell,) = expand_chosen(plan, compared, chosen_options(plan, compared, Path(folder)))
                start = time.perf_counter()
                (record,) = run([replace(cell, seed=seed % 1000)], {cell.data: co2}, Path(folder), executor)
                middle = time.perf_counter()
                assert record["status"] == "ok", record["status"]
                if seed < 0:
                    continue
                train_plainly(task, arm, seed)
                plain[arm] += time.perf_counter() - middle
                engine[arm] += middle - start
                training += record["train_seconds"]
                validation += record["validation_seconds"]
                forecasts += sum(answer["predict_seconds"] for answer in record["answers"].values())
                first, *others = (epoch["seconds"] for epoch in record["history"])
                slow_start += first - statistics.median(others)
    for arm in ARMS:
        print(f"{arm:8} loop {plain[arm] / ROUNDS:6.2f} s a cell, engine {engine[arm] / ROUNDS:6.2f} s")
    loops, engines, cells = sum(plain.values()), sum(engine.values()), ROUNDS * len(ARMS)
    print(f"loop {60 * cells / loops:.1f} cells a minute, engine {60 * cells / engines:.1f}: × {loops / engines:.2f}")
    own = engines - training - validation - forecasts
    print(f"engine: {training / cells:.2f} s of training a cell; beside them, as shares of them,")
    print(f"  the task's own work: validation errors {validation / training:.1%}, forecasts {forecasts / training:.1%}")
    print(
        f"  the engine's own: process, files, runner {own / training:.1%}, "
        f"slower first epochs {slow_start / training:.1%}; together {(own + slow_start) / training:.1%}"
    )


def compare_together(count: int, dropout: float, rule: Callable[[int], sp.Rule | None]) -> float:
    """Return the time of RNNs of so many seeds trained one by one over that of all trained side by side."""
    task = make_task(next(series for series in embedded() if series.name == "co2"), length=24)

    def attach(seed: int) -> Attach | None:
        if rule(seed) is None:
            return None
        return lambda model, optimizer, steps: sp.SynapticPruner(model, optimizer, rule(seed), total_steps=steps)

    def networks() -> list[Any]:
        return [build_model("rnn", channels=1, length=24, horizon=1, dropout=dropout) for _ in range(count)]

    ratios = []
    for _ in range(TURNS):
        start = time.process_time()
        for seed, model in enumerate(networks()):
            train(model, task, epochs=5, seed=seed, batch_size=32, attach=attach(seed))
        middle = time.process_time()
        seeds = range(count)
        train_together(networks(), task, Settings(5, batch_size=32), seeds=seeds, attach=[attach(s) for s in seeds])
        ratios.append((middle - start) / (time.process_time() - middle))
    return statistics.median(ratios)


def recurrent(x: Tensor, w_in: Tensor, w_hidden: Tensor, bias: Tensor) -> Tensor:
    """Last output of stacked LSTMs: x (n, batch, time, 1), weights (n, gates, ·), bias (n, 1, gates)."""
    count, batch, length, _ = x.shape
    projected = torch.baddbmm(bias, x.reshape(count, batch * length, -1), w_in.transpose(1, 2))
    steps = projected.view(count, batch, length, -1).unbind(2)
    hidden = torch.zeros(count, batch, w_hidden.shape[2])
    cell, backwards = torch.zeros_like(hidden), w_hidden.transpose(1, 2)
    for step in steps:
        into, forget, new, out = torch.baddbmm(step, hidden, backwards).chunk(4, -1)
        cell = forget.sigmoid() * cell + into.sigmoid() * new.tanh()
        hidden = out.sigmoid() * cell.tanh()
    return hidden


def compare_stacking() -> float:
    """Return the time of three LSTMs one by one over that of the three stacked."""
    models = [build_model("lstm", channels=1, length=WINDOW, horizon=1) for _ in range(STACKED)]
    layers = [(model.recurrent, model.head) for model in models]
    copies = [
        torch.stack([pick(layer, head).detach() for layer, head in layers]).requires_grad_()
        for pick in (
            lambda layer, _: layer.weight_ih_l0,
            lambda layer, _: layer.weight_hh_l0,
            lambda layer, _: (layer.bias_ih_l0 + layer.bias_hh_l0)[None],
            lambda _, head: head.weight,
            lambda _, head: head.bias[None],
        )
    ]
    w_in, w_hidden, bias, w_head, b_head = copies
    x, y = torch.randn(STACKED, BATCH, WINDOW, 1), torch.randn(STACKED, BATCH, 1)

    def stacked() -> Tensor:
        return torch.baddbmm(b_head, recurrent(x, w_in, w_hidden, bias), w_head.transpose(1, 2))

    for number, model in enumerate(models):
        torch.testing.assert_close(stacked()[number], model(x[number]), atol=1e-5, rtol=1e-4)
    optimizers = [torch.optim.Adam(model.parameters(), lr=1e-3) for model in models]
    together = torch.optim.Adam(copies, lr=1e-3)

    def one_by_one() -> None:
        for number, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x[number]), y[number]).backward()
            optimizer.step()

    def at_once() -> None:
        together.zero_grad()
        (nn.functional.mse_loss(stacked(), y) * STACKED).backward()
        together.step()

    ratios = []
    for _ in range(STEPS // BLOCK):
        seconds = []
        for step in (one_by_one, at_once):
            start = time.process_time()
            for _ in range(BLOCK):
                step()
            seconds.append(time.process_time() - start)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


def main() -> None:
    """Print all comparisons."""
    torch.set_num_threads(1)
    rules: dict[str, tuple[float, Callable[[int], sp.Rule | None]]] = {
        "plain": (0.0, lambda seed: None),
        "dropout": (0.3, lambda seed: None),
        "sparse": (0.0, lambda seed: sp.SET(0.8, seed=seed, scaled_start=True)),
    }
    for count in SEEDS:
        for name, (dropout, rule) in rules.items():
            print(f"{count} RNNs, {name}: side by side × {compare_together(count, dropout, rule):.2f} the speed")
    print(f"{STACKED} LSTMs, stacked: × {compare_stacking():.2f} the speed of one by one")
    compare_engines()


if __name__ == "__main__":
    main()

"""Rules side by side on images: dense, Disuse, and every other rule brought to the sparsity that Disuse reached.

Survival ends where its costs lead it, as Disuse does. All rules leave the layers of --exclude alone; sparsities and
connections are of all layers. With --rates every rule, dense and dropout among them, first chooses a learning rate by
validation accuracy, on a seed that is not used again. Each network meets the test part once, at the end. Seeds that the
result file holds are not trained again.
Run: OMP_NUM_THREADS=1 python experiments/rules.py mnist mlp --epochs 10 --out docs/results/mnist-mlp.json
"""

import argparse
import json
import math
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn
from torch.optim import Optimizer

import synaptic_pruning as sp
from synaptic_pruning.tasks.classification import ClassificationTask, accuracy, build_model, epochs_to, make_task, train

EVENTS = 50  # the pruner's default, and so the windows of a training

CHOICE = 1000  # the seed on which learning rates are chosen

OTHERS: dict[str, Callable[[sp.Schedule, int], sp.Rule | float]] = {
    "synaptic": lambda ramp, seed: ramp.final,
    "magnitude": lambda ramp, seed: sp.ToSparsity(ramp),
    "rigl": lambda ramp, seed: sp.RigL(ramp.final, seed=seed, scaled_start=True),
    "set": lambda ramp, seed: sp.SET(ramp.final, seed=seed, scaled_start=True),
    "granet": lambda ramp, seed: sp.GraNet(ramp.final, begin=ramp.begin, ramp_end=ramp.end, end=max(ramp.end, 0.75)),
    "random": lambda ramp, seed: sp.ToSparsity(ramp, score=sp.scores.random(seed)),
    "survival": lambda ramp, seed: sp.Survival(),
}
"""Rules beside Disuse, given a ramp to the sparsity that it reached, over its time, and the seed.

"synaptic" is the library's default at that sparsity, which has a ramp of its own. It alone is compensated.
"""


def trained(
    task: ClassificationTask,
    rule: sp.Rule | float | None,
    seed: int,
    options: argparse.Namespace,
    *,
    rate: float = 1e-3,
    dropout: float = 0.0,
) -> dict[str, Any]:
    """Train one network and return its figures."""
    sizes = {} if options.width is None else {"widths": (options.width, max(1, options.width // 3))}
    model = build_model(options.model, task.shape, seed=seed, dropout=dropout, **sizes).to(options.device)
    compensate = {} if isinstance(rule, float) else {"compensate": 1.0}

    def attach(net: nn.Module, optimizer: Optimizer, steps: int) -> sp.SynapticPruner:
        return sp.SynapticPruner(net, optimizer, rule, total_steps=steps, exclude=options.exclude, **compensate)

    synapses = sp.Synapses(model)

    def price(net: nn.Module, progress: float) -> torch.Tensor:
        sizes = [layer.parameter.abs().sum() for layer in synapses.layers if progress < options.end]
        return options.l1 * sum(sizes, torch.zeros((), device=options.device))

    run = train(
        model,
        task,
        epochs=options.epochs,
        seed=seed,
        learning_rate=rate,
        weight_decay=options.weight_decay,
        penalty=price if options.l1 else None,
        attach=attach if rule else None,
    )
    alive = {layer.name: int((layer.parameter != 0).sum()) for layer in synapses.layers}
    return {
        "seed": seed,
        "rate": rate,
        "status": run.status,
        "test": accuracy(model, task.test),
        "validation": [round(row["validation_accuracy"], 5) for row in run.history],
        "sparsity": 1 - sum(alive.values()) / synapses.total,
        "pruned": run.sparsity,
        "sparsities": [round(row["sparsity"], 4) for row in run.history],
        "weights": synapses.total,
        "alive": alive,
        "seconds": round(run.seconds, 2),
    }


def of_one_seed(seed: int, options: argparse.Namespace, rates: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Train one network of every rule; where there are several tables of rates, the best run by validation of each."""
    torch.set_num_threads(1)
    task = make_task(options.data, options.data_dir, rows=options.rows).to(options.device)

    def best(name: str, rule: Callable[[], sp.Rule | float | None]) -> dict[str, Any]:
        dropout = options.dropout if name == "dropout" else 0.0
        own = sorted({table[name] for table in rates})
        runs = [trained(task, rule(), seed, options, rate=rate, dropout=dropout) for rate in own]
        return max(runs, key=lambda run: max(run["validation"]))

    found = {"dense": best("dense", lambda: None)}
    if options.dropout:
        found["dropout"] = best("dropout", lambda: None)
    found["disuse"] = best(
        "disuse", lambda: sp.Disuse(patience=options.patience, threshold=options.threshold, end=options.end)
    )
    ramp = sp.cubic(found["disuse"]["pruned"], begin=options.patience / EVENTS, end=options.end)
    for name in options.others:
        found[name] = best(name, lambda name=name: OTHERS[name](ramp, seed))
    return found


def chosen_rates(options: argparse.Namespace) -> dict[str, float]:
    """Return the learning rate of every rule: the best of --rates by validation accuracy, on a seed of its own."""
    names = ["dense", "dropout", "disuse", *options.others]
    if len(options.rates) == 1:
        return dict.fromkeys(names, options.rates[0])
    found = of_one_seed(CHOICE, options, [dict.fromkeys(names, rate) for rate in options.rates])
    return {name: run["rate"] for name, run in found.items()}


def kept(out: Path, command: str) -> dict[str, Any]:
    """Return what the result file holds of this command, to go on with; empty where there is none."""
    if not out.exists():
        return {}
    found: dict[str, Any] = json.loads(out.read_text())
    return found if found["command"] == command else {}


def write(found: dict[str, Any], out: Path) -> None:
    """Keep what there is, and the command that it came from."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    partial.write_text(json.dumps(found, indent=1))
    partial.replace(out)


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return the comparison as a table: means over seeds, differences to dense paired by seed, 95 % t-intervals."""
    dense = results["dense"]
    lines = [
        "| rule | sparsity | connections left | test accuracy | minus dense (points) | epochs to dense's end |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in results.items():
        test = np.array([run["test"] for run in runs])
        gain, half = interval(100 * (test - np.array([run["test"] for run in dense[: len(runs)]])))
        goals = [run["validation"][-1] for run in dense[: len(runs)]]
        rows = [[{"epoch": i + 1, "validation_accuracy": v} for i, v in enumerate(run["validation"])] for run in runs]
        speeds = [epochs_to(history, goal) for history, goal in zip(rows, goals, strict=True)]
        reached = [speed for speed in speeds if speed is not None]
        speed = f"{np.mean(reached):.1f} ({len(reached)} of {len(speeds)})" if reached else "never"
        left = np.mean([sum(run["alive"].values()) for run in runs])
        lines.append(
            f"| {name} | {np.mean([run['sparsity'] for run in runs]):.1%} | {left:,.0f} | {test.mean():.2%} "
            f"± {test.std(ddof=1):.2%} | {f'{gain:+.2f} ± {half:.2f}' if name != 'dense' else ''} | {speed} |"
        )
    return "\n".join(lines).replace("%", " %")


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Return the mean and the half-width of its 95 % t-interval."""
    n = len(differences)
    return float(differences.mean()), float(stats.t.ppf(0.975, n - 1) * differences.std(ddof=1) / math.sqrt(n))


def main() -> None:
    """Train what is missing in the result file, seed by seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("model")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--rows", type=int, help="training images, validation included")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--patience", type=int, default=5)
    parser.add_argument("--end", type=float, default=0.5, help="progress from which nothing dies any more")
    parser.add_argument("--exclude", type=lambda names: names.split(","), default=[], help="layers left alone")
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--l1", type=float, default=0.0, help="price of a weight's size in the loss, until --end")
    parser.add_argument("--width", type=int, help="of the MLP's first hidden layer; the second has a third of it")
    parser.add_argument("--others", default=",".join(OTHERS), help="rules beside Disuse; '' for none")
    parser.add_argument("--dropout", type=float, default=0.0, help="of a dense network with dropout; 0 for none")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3], help="learning rates to choose from")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at once, a process each")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.others = list(filter(None, options.others.split(",")))
    command = f"python experiments/rules.py {' '.join(sys.argv[1:])}"
    found = kept(options.out, command) or {"command": command, "torch": torch.__version__, "results": {}}
    if "rates" not in found:
        found["rates"] = chosen_rates(options)
    results, rates = found["results"], found["rates"]
    write(found, options.out)
    done = {run["seed"] for run in results.get("dense", [])}
    seeds = [s for s in range(options.first_seed, options.first_seed + options.seeds) if s not in done]
    count = len(seeds)
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        for seed, runs in zip(seeds, pool.map(of_one_seed, seeds, [options] * count, [[rates]] * count), strict=True):
            for name, run in runs.items():
                results.setdefault(name, []).append(run)
            write(found, options.out)
            print(f"seed {seed} done", file=sys.stderr)
    print(table(results))
    if len(options.rates) > 1:
        print(f"\nLearning rates: {', '.join(f'{name} {rate:g}' for name, rate in rates.items())}.")


if __name__ == "__main__":
    main()

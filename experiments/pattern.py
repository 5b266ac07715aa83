"""What k of every 32 inputs costs against pruning that is free to choose, at the same sparsity.

Both keep as many weights of the network: the free one is pruned to the sparsity that the pattern reached, on the same
ramp, with the defaults of the pruner. Images: the MLP on part of Fashion-MNIST. Forecasts: an RNN of 64 on ten of the
development series, all inputs. A training that the result file holds is not done again.
Run: OMP_NUM_THREADS=1 python experiments/pattern.py --data ../shared/data --out docs/results/pattern.json
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.study.forecasting import count_alive
from synaptic_pruning.tasks import classification as images
from synaptic_pruning.tasks import forecasting as series

BLOCK = 32
KEPT = (6, 3)
NAMES = (
    "air-quality", "bitcoin", "ecg", "eu-stock-indices", "heart-rate", "london-weather", "melbourne-min-temperature",
    "nyc-taxi", "solar-radiation", "treering",
)  # fmt: skip
"""Every second of the development series, the first ten; named before any was trained."""
LENGTH, STEPS, BATCH, ROWS = 14, 300, 32, 2000
IMAGES, EPOCHS = 12_000, 10
Attach = Callable[[nn.Module, torch.optim.Optimizer, int], sp.SynapticPruner]


def rule_of(arm: str, model: nn.Module) -> sp.Rule:
    """Return the rule of an arm: "pattern" or "free", and what a block keeps."""
    kind, _, kept = arm.partition(" ")
    k = int(kept)
    pattern = sp.ToSparsity(sp.cubic(1 - k / BLOCK, end=0.15), pattern=(k, BLOCK))
    if kind == "pattern":
        return pattern
    masks = pattern.update(sp.Synapses(model), 1.0)
    alive, total = sum(int(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks)
    return sp.ToSparsity(sp.cubic(1 - alive / total, end=0.15))


def attached(rule: sp.Rule) -> Attach:
    """Return what puts a pruner with this rule on."""
    return lambda model, optimizer, steps: sp.SynapticPruner(model, optimizer, rule, total_steps=steps)


Key = tuple[str, int]  # an arm and a seed


def on_images(data: Path, keys: list[Key]) -> Iterator[dict[str, Any]]:
    """Train on images one by one; the error is the share of the test images that are taken for another thing."""
    task = images.make_task("fashion-mnist", data, rows=IMAGES)
    for arm, seed in keys:
        model = images.build_model("mlp", task.shape, seed=seed)
        images.train(model, task, epochs=EPOCHS, seed=seed, attach=attached(rule_of(arm, model)))
        yield told("fashion-mnist", arm, seed, model, 1 - images.accuracy(model, task.test))


def on_series(data: Path, name: str, keys: list[Key]) -> Iterator[dict[str, Any]]:
    """Train on a series side by side; the error is the mean absolute error of the test part."""
    task = series.make_task(series.load(name, data_dir=data, rows=ROWS, inputs="all"), length=LENGTH)
    sizes = {"channels": task.filled.shape[1], "length": LENGTH, "horizon": task.horizon}
    models = []
    for _, seed in keys:
        torch.manual_seed(seed)
        models.append(series.RNNForecaster(**sizes))
    epochs = round(STEPS / math.ceil(len(task.train) / BATCH))
    series.train_together(
        models,
        task,
        series.Settings(epochs, learning_rate=3e-3, batch_size=BATCH, schedule="cosine"),
        seeds=[seed for _, seed in keys],
        attach=[attached(rule_of(arm, model)) for (arm, _), model in zip(keys, models, strict=True)],
    )
    for (arm, seed), model in zip(keys, models, strict=True):
        forecasts = np.asarray(task.to_units(series.predict(model, task.test), task.test))
        yield told(name, arm, seed, model, series.mean_absolute_error(task.truth(task.test), forecasts))


def told(name: str, arm: str, seed: int, model: nn.Module, error: float) -> dict[str, Any]:
    """Return what is kept of a training."""
    alive, prunable = count_alive(model)
    sparsity = round(1 - alive / prunable, 5)
    return {"data": name, "arm": arm, "seed": seed, "sparsity": sparsity, "error": float(f"{error:.7g}")}


def interval(changes: np.ndarray) -> str:
    """Return the mean and the half-width of its 95 % t-interval."""
    half = stats.t.ppf(0.975, len(changes) - 1) * changes.std(ddof=1) / math.sqrt(len(changes))
    return f"{changes.mean():+.2f} ± {half:.2f}"


def table(runs: list[dict[str, Any]]) -> str:
    """Return differences of all series and images, then of each series, with 95 % t-intervals."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        found.setdefault((run["data"], run["arm"]), []).append(run)
    errors = {key: np.array([run["error"] for run in some]) for key, some in found.items()}
    lines = ["| pattern | sparsity | accuracy, free | pattern | difference |", "|---|---|---|---|---|"]
    for kept in KEPT:
        free, pattern = f"free {kept}", f"pattern {kept}"
        right = [100 - 100 * errors["fashion-mnist", arm] for arm in (free, pattern)]
        lines.append(
            f"| {kept} of {BLOCK} | {sparsity(found['fashion-mnist', pattern])} | {right[0].mean():.2f} % | "
            f"{right[1].mean():.2f} % | {interval(right[1] - right[0])} points |"
        )
    changes = {
        (name, kept): 100 * np.log(errors[name, f"pattern {kept}"] / errors[name, f"free {kept}"])
        for name in NAMES
        for kept in KEPT
    }
    heads = [f"{kept} of {BLOCK}: sparsity | MAE, 100 · ln(pattern / free)" for kept in KEPT]
    lines += ["", f"| series | {' | '.join(heads)} |", "|---|---|---|---|---|"]
    for name in NAMES:
        cells = [f"{sparsity(found[name, f'pattern {kept}'])} | {interval(changes[name, kept])}" for kept in KEPT]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    means = [np.array([changes[name, kept].mean() for name in NAMES]) for kept in KEPT]
    lines.append(f"| mean, and its interval over series | | {' | | '.join(map(interval, means))} |")
    lines.append(f"| median | | {' | | '.join(f'{np.median(values):+.2f}' for values in means)} |")
    return "\n".join(lines)


def sparsity(runs: list[dict[str, Any]]) -> str:
    """Return the mean sparsity."""
    return f"{100 * np.mean([run['sparsity'] for run in runs]):.1f} %"


def main() -> None:
    """Train what is missing in the result file and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/pattern.json"))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs: list[dict[str, Any]] = json.loads(options.out.read_text())["runs"] if options.out.exists() else []
    done = {(run["data"], run["arm"], run["seed"]) for run in runs}
    arms = [f"{kind} {kept}" for kept in KEPT for kind in ("free", "pattern")]
    for name in (*NAMES, "fashion-mnist"):
        keys = [(arm, seed) for seed in range(options.seeds) for arm in arms if (name, arm, seed) not in done]
        if not keys:
            continue
        found = on_images(options.data, keys) if name == "fashion-mnist" else on_series(options.data, name, keys)
        for run in found:
            runs.append(run)
            lines = ",\n".join(json.dumps(one) for one in runs)
            partial = options.out.with_suffix(".partial")
            partial.write_text(f'{{"torch": "{torch.__version__}", "runs": [\n{lines}\n]}}\n')
            partial.replace(options.out)
    print(table(runs))


if __name__ == "__main__":
    main()

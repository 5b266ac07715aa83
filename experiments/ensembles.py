"""Sparse ensembles from one run and from separate seeds, against MC dropout and a dense network, on forecasting.

An ensemble of five networks at 80 % sparsity has the weights and multiplications of one dense network, as one pass of
MC dropout has; fifty passes cost fifty times that. Separate networks cost five trainings, all others one. Dropout takes
the rate of 0.1 and 0.3 with the smaller validation error. Trained as in the standard study, but for the networks from
one run, which need a learning rate that does not fall to zero before the last of them.
Run: python experiments/ensembles.py --data ../shared/data --epochs 20 --out docs/results/ensembles.json
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.tasks.forecasting import build_model, load, make_task, predict, train
from synaptic_pruning.tasks.forecasting.windows import ForecastingTask

SERIES = ("air-quality", "household-hourly", "etth1", "melbourne-pedestrians", "pjm-east-load", "montreal-discharge")
LENGTH, MEMBERS, SPARSITY = 24, 5, 0.8
Samples = NDArray[np.float64]  # shape (members or passes, forecasts)


def trained(
    task: ForecastingTask, rule: sp.Rule | None, dropout: float, seed: int, epochs: int
) -> tuple[nn.Module, float]:
    """Train one network; the best epoch is chosen on the validation part at full sparsity; return its error too."""
    torch.manual_seed(seed)
    model = build_model("lstm", channels=1, length=LENGTH, horizon=1, dropout=dropout, unit=task.unit)

    cycles = isinstance(rule, sp.Cycles)

    def attach(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> sp.SynapticPruner:
        return sp.SynapticPruner(net, optimizer, rule, total_steps=steps, compensate=1)

    run = train(
        model,
        task,
        epochs=epochs,
        seed=seed,
        learning_rate=3e-3 if cycles else 1e-2,
        batch_size=32,
        schedule="constant" if cycles else "cosine",
        attach=attach if rule else None,
    )
    return model, min(row["validation_mae"] for row in run.history)


def forecast(model: nn.Module, task: ForecastingTask) -> Samples:
    """Return the test forecasts in original units, shape (1, n)."""
    return np.asarray(task.to_units(predict(model, task.test), task.test)).reshape(1, -1)


def samples(task: ForecastingTask, seed: int, epochs: int, pool: dict[int, Samples]) -> dict[str, Samples]:
    """Return each arm's forecasts; ``pool`` keeps the separately trained sparse networks by seed."""
    dropped, _ = min((trained(task, None, rate, seed, epochs) for rate in (0.1, 0.3)), key=lambda found: found[1])
    arms = {"dense": forecast(trained(task, None, 0.0, seed, epochs)[0], task), "dropout": forecast(dropped, task)}
    torch.manual_seed(seed)
    with sp.monte_carlo_dropout(dropped):
        passes = np.concatenate([forecast(dropped, task) for _ in range(50)])
    arms |= {"MC dropout, 1 pass": passes[:1], "MC dropout, 50 passes": passes}
    cycles = sp.Cycles(SPARSITY, MEMBERS)
    model, _ = trained(task, cycles, 0.0, seed, epochs)
    members = []
    for state in cycles.states:
        model.load_state_dict(state)
        members.append(forecast(model, task))
    arms["one run, 5 sparse"] = np.concatenate(members)
    for other in range(seed, seed + MEMBERS):
        if other not in pool:
            rule = sp.SET(SPARSITY, seed=other, scaled_start=True)
            pool[other] = forecast(trained(task, rule, 0.0, other, epochs)[0], task)
    arms["one sparse"] = pool[seed]
    arms["5 seeds, sparse"] = np.concatenate([pool[other] for other in range(seed, seed + MEMBERS)])
    return arms


def figures(forecasts: Samples, truth: NDArray[np.float64]) -> dict[str, float]:
    """Return MAE of the mean, CRPS of the samples and, for several, the coverage of mean ± 1.645 deviations."""
    mean = forecasts.mean(0)
    crps = np.abs(forecasts - truth).mean(0)
    for sample in forecasts:
        crps -= np.abs(forecasts - sample).mean(0) / (2 * len(forecasts))
    found = {"mae": float(np.abs(mean - truth).mean()), "crps": float(crps.mean())}
    if len(forecasts) > 1:
        inside = np.abs(mean - truth) <= stats.norm.ppf(0.95) * forecasts.std(0, ddof=1)
        found["coverage90"] = float(inside.mean())
    return found


def table(results: list[dict[str, Any]]) -> str:
    """Return mean ranks by MAE over series and seeds, and ratios to dense with 95 % t-intervals over series."""
    arms = list(results[0]["arms"])
    maes = np.array([[cell["arms"][arm]["mae"] for arm in arms] for cell in results])
    crps = np.array([[cell["arms"][arm]["crps"] for arm in arms] for cell in results])
    ranks = stats.rankdata(maes, axis=1).mean(0)
    names = [cell["series"] for cell in results]
    lines = ["| arm | mean rank | MAE / dense | CRPS / dense | coverage of 90 % |", "|---|---|---|---|---|"]
    for i in np.argsort(ranks):
        cells = []
        for figure in (maes, crps):
            ratios = figure[:, i] / figure[:, 0]
            series = np.array([ratios[[n == name for n in names]].mean() for name in dict.fromkeys(names)])
            half = stats.t.ppf(0.975, len(series) - 1) * series.std(ddof=1) / len(series) ** 0.5
            cells.append(f"{series.mean():.3f} ± {half:.3f}")
        inside = [cell["arms"][arms[i]].get("coverage90") for cell in results]
        covered = "" if inside[0] is None else f"{np.mean(inside):.1%}".replace("%", " %")
        lines.append(f"| {arms[i]} | {ranks[i]:.2f} | {cells[0]} | {cells[1]} | {covered} |")
    return "\n".join(lines)


def main() -> None:
    """Train everything, write the figures of every network, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: list[dict[str, Any]] = []
    for name in SERIES:
        task = make_task(load(name, data_dir=options.data, rows=options.rows), length=LENGTH)
        truth = np.asarray(task.truth(task.test)).reshape(-1)
        known = ~np.isnan(truth)
        pool: dict[int, Samples] = {}
        for seed in range(options.seeds):
            arms = samples(task, seed, options.epochs, pool)
            cell = {arm: figures(found[:, known], truth[known]) for arm, found in arms.items()}
            results.append({"series": name, "seed": seed, "arms": cell})
        command = f"python experiments/ensembles.py {' '.join(sys.argv[1:])}"
        options.out.parent.mkdir(parents=True, exist_ok=True)
        partial = options.out.with_suffix(".partial")
        partial.write_text(json.dumps({"command": command, "torch": torch.__version__, "results": results}, indent=1))
        partial.replace(options.out)
        print(f"{name} done", file=sys.stderr)
    print(table(results))


if __name__ == "__main__":
    main()

"""What the default recipe was chosen on: forecast error of one network under different schedules, leak-free.

Prints MAE relative to persistence (below 1 beats it) on the test part, mean over seeds, for each series. Every network
is chosen on validation error after its ramp has ended. Needs the shared data directory (default ../shared/data).
Run: OMP_NUM_THREADS=1 python benchmarks/recipe.py [--data DIR] [--model lstm] [--seeds 3] [--epochs 30] [--jobs 2]
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.tasks.forecasting.metrics import score
from synaptic_pruning.tasks.forecasting.models import build_model
from synaptic_pruning.tasks.forecasting.readers import read_csv
from synaptic_pruning.tasks.forecasting.series import Series
from synaptic_pruning.tasks.forecasting.training import predict, train
from synaptic_pruning.tasks.forecasting.windows import make_task

ROWS, LENGTH = 4000, 24
SERIES: dict[str, tuple[str, str, dict[str, object]]] = {
    "air quality": (
        "AirQualityUCI.csv",
        "CO(GT)",
        {"time": "Date,Time", "separator": ";", "decimal": ",", "missing": ("-200",), "columns": ("CO(GT)",)},
    ),
    "household": ("household_power_hourly_2006-2010.csv.xz", "Global_active_power", {"time": "datetime"}),
    "ETTh1": ("ett/ETTh1.csv.xz", "OT", {"time": "date"}),
    "pedestrians": ("series/melbourne_pedestrians_hourly.csv.gz", "Southern Cross Station", {}),
    "PJM load": ("series/pjm_east_load_hourly.csv.gz", "PJME_MW", {}),
    "river": ("series/montreal_discharge_daily.csv.gz", "Discharge", {}),
}
RULES: dict[str, Callable[[int], sp.Rule] | None] = {
    "none": None,
    "dropout 0.3": None,
    "vos2025 .3 to .7": lambda epochs: sp.vos2025(epochs=epochs),
    "one-shot 90 % at 20 %": lambda _: sp.ToSparsity(sp.one_shot(0.9, at=0.2)),
    "cubic 50 %": lambda _: sp.ToSparsity(sp.cubic(0.5, begin=0.05, end=0.5)),
    "cubic 70 %": lambda _: sp.ToSparsity(sp.cubic(0.7, begin=0.05, end=0.5)),
    "cubic 80 %": lambda _: sp.ToSparsity(sp.cubic(0.8, begin=0.05, end=0.5)),
    "cubic 90 %": lambda _: sp.ToSparsity(sp.cubic(0.9, begin=0.05, end=0.5)),
    "cubic 95 %": lambda _: sp.ToSparsity(sp.cubic(0.95, begin=0.05, end=0.5)),
    "cubic 90 % to the end": lambda _: sp.ToSparsity(sp.cubic(0.9, begin=0.05, end=0.95)),
    "ease-in 90 %": lambda _: sp.ToSparsity(sp.cubic_ease_in(0.9, begin=0.05, end=0.5)),
    "random 90 %": lambda _: sp.ToSparsity(sp.cubic(0.9, begin=0.05, end=0.5), score="random"),
}


def load(data: Path, name: str) -> Series:
    """Read the first rows of a series."""
    file, target, options = SERIES[name]
    whole = read_csv(data / file, target, gaps="ignore", **{"columns": (target,), **options})[0]
    return Series(name, target, whole.columns, whole.times[:ROWS], whole.values[:ROWS], season=whole.season)


def run(cell: tuple[Path, str, str, str, int, int]) -> float:
    """Train one network and return its test MAE relative to persistence."""
    data, series, model_name, arm, seed, epochs = cell
    torch.set_num_threads(1)
    task = make_task(load(data, series), length=LENGTH)
    torch.manual_seed(seed)
    dropout = 0.3 if arm.startswith("dropout") else 0.0
    model = build_model(model_name, channels=1, length=LENGTH, horizon=1, dropout=dropout, unit=task.unit)
    rule = RULES[arm]

    def attach(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> sp.SynapticPruner:
        assert rule is not None
        return sp.SynapticPruner(net, optimizer, rule(epochs), total_steps=steps)

    train(model, task, epochs=epochs, seed=seed, attach=attach if rule else None)
    return 1 - score(task, task.to_units(predict(model, task.test), task.test))["skill"]


def main() -> None:
    """Run every cell and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="lstm")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    cells = list(product([args.data], SERIES, [args.model], RULES, range(args.seeds), [args.epochs]))
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        errors = np.array(list(pool.map(run, cells))).reshape(len(SERIES), len(RULES), args.seeds).mean(2)
    width = max(map(len, RULES))
    print(f"MAE over that of persistence: {args.model}, {ROWS} rows, {args.epochs} epochs, {args.seeds} seeds")
    print(" " * width, *(f"{name:>12}" for name in [*SERIES, "mean rank"]))
    ranks = errors.argsort(1).argsort(1).mean(0) + 1
    for arm, row, rank in zip(RULES, errors.T, ranks, strict=True):
        print(arm.ljust(width), *(f"{value:12.3f}" for value in row), f"{rank:12.1f}")


if __name__ == "__main__":
    main()

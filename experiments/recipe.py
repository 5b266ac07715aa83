"""Which rule loses least: rules side by side on the data sets that recipes are chosen on, none of the others.

Protocol of the archived standard study (docs/results/standard.toml): first 2,000 rows, window 24, Adam with a cosine
schedule, 600 steps, best validation weights once the ramp is finished. Printed: test MAE against none, in percent.
Run: python experiments/recipe.py --data ../shared/data --models rnn,lstm, and with --table rates for learning rates
"""

import argparse
import tomllib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.tasks.forecasting import build_model, load, make_task, predict, score, train
from synaptic_pruning.tasks.forecasting.training import Training

SPEC = tomllib.loads(
    Path(__file__).resolve().parents[1].joinpath("docs", "results", "standard.toml").read_text("utf-8")
)
_Make = Callable[[], sp.Rule]


class Trial(NamedTuple):
    """How a network is trained: pruned by a rule or with dropout, at so many times the study's learning rate."""

    make: _Make | None = None
    dropout: float = 0.0
    rate: float = 1.0


def ramp(kind: Callable[..., sp.Schedule], sparsity: float, begin: float, end: float) -> _Make:
    return lambda: sp.ToSparsity(kind(sparsity, begin=begin, end=end))


RULES: dict[str, Trial] = {
    "none": Trial(),
    "dropout 0.1": Trial(dropout=0.1),
    "dropout 0.3": Trial(dropout=0.3),
    **{
        f"{name} {target:.0%}, {begin} to {end}": Trial(ramp(kind, target, begin, end))
        for name, kind, target, begin, end in (
            ("cubic", sp.cubic, 0.5, 0.3, 0.8),
            ("cubic", sp.cubic, 0.7, 0.3, 0.8),
            ("cubic", sp.cubic, 0.8, 0.0, 0.2),
            ("cubic", sp.cubic, 0.8, 0.3, 0.8),
            ("cubic", sp.cubic, 0.9, 0.3, 0.8),
            ("linear", sp.linear, 0.8, 0.3, 0.8),
        )
    },
    "one-shot 80%, 0.3": Trial(lambda: sp.ToSparsity(sp.one_shot(0.8, at=0.3))),
    "random 80%, 0.3 to 0.8": Trial(lambda: sp.ToSparsity(sp.cubic(0.8, begin=0.3, end=0.8), score="random")),
    "RigL 80%": Trial(lambda: sp.RigL(0.8)),
    "RigL 70%, scaled start": Trial(lambda: sp.RigL(0.7, scaled_start=True)),
    "RigL 80%, scaled start": Trial(lambda: sp.RigL(0.8, scaled_start=True)),
    "RigL 90%, scaled start": Trial(lambda: sp.RigL(0.9, scaled_start=True)),
    "SET 80%, scaled start": Trial(lambda: sp.SET(0.8, scaled_start=True)),
    "GraNet 80%, 0.0 to 0.05": Trial(lambda: sp.GraNet(0.8, begin=0.0, ramp_end=0.05)),
}

RATES: dict[str, Trial] = {
    **{f"none × {rate}": Trial(rate=rate) for rate in (1, 0.5, 2, 4)},
    **{f"dropout 0.1 × {rate}": Trial(dropout=0.1, rate=rate) for rate in (1, 2)},
    "dropout 0.3 × 1": Trial(dropout=0.3),
    **{f"SET 50%, scaled start × {rate}": Trial(lambda: sp.SET(0.5, scaled_start=True), rate=rate) for rate in (1, 2)},
    **{
        f"SET 80%, scaled start × {rate}": Trial(lambda: sp.SET(0.8, scaled_start=True), rate=rate)
        for rate in (1, 2, 4, 8)
    },
}
TABLES = {"rules": RULES, "rates": RATES}


def fit(data: Path, dataset: str, model_name: str, trial: Trial, *, seed: int = 0) -> tuple[Training, float]:
    """Train one network under the standard study's protocol; return what happened and its test MAE."""
    torch.set_num_threads(1)
    (length,), batch_size = SPEC["lengths"], SPEC["batch_size"]
    task = make_task(load(dataset, data_dir=data, rows=SPEC["rows"]), length=length)
    torch.manual_seed(seed)
    sizes = {"channels": 1, "length": length, "horizon": 1, "unit": task.unit}
    model = build_model(model_name, **sizes, dropout=trial.dropout)  # type: ignore[arg-type]

    def attach(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> sp.SynapticPruner:
        assert trial.make is not None
        return sp.SynapticPruner(net, optimizer, trial.make(), total_steps=steps)

    training = train(
        model,
        task,
        epochs=round(SPEC["steps"] / -(-len(task.train) // batch_size)),
        seed=seed,
        learning_rate=trial.rate * SPEC["learning_rate"][model_name],
        batch_size=batch_size,
        schedule=SPEC["schedule"],
        attach=attach if trial.make else None,
    )
    return training, score(task, task.to_units(predict(model, task.test), task.test))["mae"]


def run(cell: tuple[Path, str, str, str, str, int]) -> float:
    """Train one network and return its test MAE."""
    data, table, dataset, model_name, arm, seed = cell
    return fit(data, dataset, model_name, TABLES[table][arm], seed=seed)[1]


def main() -> None:
    """Run every cell and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--table", choices=TABLES, default="rules")
    parser.add_argument("--models", default="rnn,lstm")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    keys = list(product(SPEC["development"], args.models.split(","), TABLES[args.table], range(args.seeds)))
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        errors = list(pool.map(run, [(args.data, args.table, *key) for key in keys]))
    table = pd.DataFrame(keys, columns=["dataset", "model", "arm", "seed"]).assign(error=np.log(errors))
    wide = table.pivot_table(index=["dataset", "model"], columns="arm", values="error", sort=False)
    change = 100 * np.expm1(wide.sub(wide.iloc[:, 0], axis=0))
    print(f"{args.models}: {len(wide)} pairs of data set and model, {args.seeds} seed(s); MAE against none in %")
    columns = {
        "median": change.median(),
        "mean": change.mean(),
        "worst": change.max(),
        "rank": wide.rank(axis=1).mean(),
    }
    print(pd.DataFrame({**columns, "wins": (change < 0).sum()}).round(2).to_string())


if __name__ == "__main__":
    main()

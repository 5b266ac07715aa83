"""NHITS of NeuralForecast in the setting of its long-horizon experiments, with its own dropout, without, and pruned.

    python experiments/field.py train --out FOLDER
    python experiments/field.py table docs/results/field.parquet

The setting is that of NeuralForecast's experiments/long_horizon (look-back of 7 horizons, three stacks of 512 × 512,
Huber loss, 256 windows a step, the first 20 months of the data, standardised by the first twelve, four months of
validation and four of test). Every arm chooses among the same three learning rates by validation error, on a seed of
its own, and is then trained on fresh seeds. Steps, pools and frequencies are one choice of those that are searched
there, and the validation part is not trained on. Needs NeuralForecast (`make .venv-hosts/.ready`). A training that is
done is not repeated.
"""

import argparse
import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HORIZON, TRAIN, VALIDATION, TEST = 96, 12 * 30 * 24, 4 * 30 * 24, 4 * 30 * 24
RATES, STEPS = (3e-4, 1e-3, 3e-3), 200
CHOICE, SEEDS = 100, (1, 2, 3)
ARMS: dict[str, dict[str, float]] = {
    "dropout": {"dropout": 0.5},
    "none": {},
    "synaptic 80 %": {"sparsity": 0.8},
    "synaptic 90 %": {"sparsity": 0.9},
}
PUBLISHED = {"ETTh1": (0.378, 0.393), "ETTh2": (0.274, 0.345)}


def read(path: Path) -> pd.DataFrame:
    """Return the series one below the other, standardised by the training part."""
    wide = pd.read_csv(path, parse_dates=["date"]).set_index("date").iloc[: TRAIN + VALIDATION + TEST]
    wide = (wide - wide[:TRAIN].mean()) / wide[:TRAIN].std(ddof=0)
    return wide.rename_axis("ds").reset_index().melt("ds", var_name="unique_id", value_name="y")


def trained(frame: pd.DataFrame, rate: float, seed: int, *, dropout: float = 0, sparsity: float = 0) -> dict[str, Any]:
    """Train one network and return its errors; the test part is forecast once, from every hour."""
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MAE, HuberLoss
    from neuralforecast.models import NHITS

    from synaptic_pruning.integrations.lightning import SynapticPruning, find_pruner

    model = NHITS(
        h=HORIZON,
        input_size=7 * HORIZON,
        loss=HuberLoss(delta=0.5),
        valid_loss=MAE(),
        learning_rate=rate,
        max_steps=STEPS,
        val_check_steps=STEPS,
        batch_size=7,
        windows_batch_size=256,
        inference_windows_batch_size=1024,
        n_pool_kernel_size=[16, 8, 1],
        n_freq_downsample=[168, 24, 1],
        mlp_units=3 * [[512, 512]],
        dropout_prob_theta=dropout,
        random_seed=seed,
        callbacks=[SynapticPruning(sparsity)] if sparsity else [],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    started = time.perf_counter()
    forecaster = NeuralForecast(models=[model], freq="h")
    found = forecaster.cross_validation(frame, val_size=VALIDATION, test_size=TEST, n_windows=None)
    errors = (found["NHITS"] - found["y"]).to_numpy()
    network = forecaster.models[0]
    return {
        "validation_mae": float(network.valid_trajectories[-1][1]),
        "mse": float(np.square(errors).mean()),
        "mae": float(np.abs(errors).mean()),
        "windows": len(errors) // HORIZON,
        "sparsity": find_pruner(network).sparsity() if sparsity else 0.0,
        "weights": sum(p.numel() for p in network.parameters()),
        "seconds": round(time.perf_counter() - started, 1),
    }


def cell(out: Path, frame: pd.DataFrame, dataset: str, arm: str, rate: float, seed: int) -> dict[str, Any]:
    """Return a training's figures, from the folder where it is done."""
    path = out / f"{dataset}.{arm.replace(' %', '').replace(' ', '-')}.{rate:g}.{seed}.json"
    if not path.exists():
        known = {"dataset": dataset, "model": "nhits", "horizon": HORIZON, "arm": arm, "seed": seed}
        known |= {"learning_rate": rate, "steps": STEPS, "fresh": seed != CHOICE}
        part = path.with_suffix(".part")
        part.write_text(json.dumps(known | trained(frame, rate, seed, **ARMS[arm])))
        part.rename(path)
        print(path.stem, flush=True)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def train(data: Path, out: Path, datasets: list[str]) -> None:
    """Train every arm: all options on one seed, then the best by validation error on fresh ones."""
    out.mkdir(parents=True, exist_ok=True)
    runs = []
    for dataset in datasets:
        frame = read(data / "ett" / f"{dataset}.csv.xz")
        for arm in ARMS:
            tried = [cell(out, frame, dataset, arm, rate, CHOICE) for rate in RATES]
            best = RATES[int(np.argmin([run["validation_mae"] for run in tried]))]
            runs += [*tried, *(cell(out, frame, dataset, arm, best, seed) for seed in SEEDS)]
    pd.DataFrame(runs).to_parquet(out / "field.parquet", compression="zstd")


def table(runs: pd.DataFrame) -> str:
    """Return test errors over every hour, means and standard deviations over fresh seeds."""
    lines = ["| data | arm | rate | weights left | MSE | MAE |", "|---|---|---|---|---|---|"]
    for (dataset, arm), part in runs[runs.fresh].groupby(["dataset", "arm"], sort=False):
        lines.append(
            f"| {dataset} | {arm} | {part.learning_rate.iloc[0]:g} | {100 * (1 - part.sparsity.mean()):.0f} % "
            f"| {part.mse.mean():.3f} ± {part.mse.std():.3f} | {part.mae.mean():.3f} ± {part.mae.std():.3f} |"
        )
    for dataset in runs.dataset.unique():
        mse, mae = PUBLISHED[dataset]
        lines.append(f"| {dataset} | as published, searched | | | {mse:.3f} | {mae:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("train")
    first.add_argument("--data", type=Path, default=Path("../shared/data"))
    first.add_argument("--out", type=Path, required=True)
    first.add_argument("--datasets", nargs="+", default=list(PUBLISHED))
    second = commands.add_parser("table")
    second.add_argument("found", type=Path)
    options = parser.parse_args()
    if options.command == "table":
        print(table(pd.read_parquet(options.found)))
        return
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    train(options.data, options.out, options.datasets)


if __name__ == "__main__":
    main()

"""What the callback costs a Hugging Face model that is fine-tuned: PatchTST, trained on ETTh2, then on ETTh1.

The model learns ETTh2 for some epochs. It is then fine-tuned on ETTh1 by the Trainer, dense or with
`SynapticPruning(sparsity)` as the only change, all at the same learning rate. Forecasts of 24 hours from 96, all seven
columns; a year of training, then four months left out, four months of test. Printed: errors of the test part, and the
difference from fine-tuning dense, paired by seed, with 95 % t-intervals.
Run: OMP_NUM_THREADS=1 python experiments/fine_tuned.py --seeds 3
"""

import argparse
import copy
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import PatchTSTConfig, PatchTSTForPrediction, Trainer, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from rules import interval
from synaptic_pruning.integrations.transformers import SynapticPruning

CONTEXT, HORIZON = 96, 24
TRAIN, BETWEEN, TEST = 12 * 30 * 24, 4 * 30 * 24, 4 * 30 * 24
SPARSITIES = (None, 0.5, 0.8)


def read(folder: Path, name: str) -> Tensor:
    """Return the first 20 months of all columns, scaled by the training part."""
    rows = pd.read_csv(folder / "ett" / f"{name}.csv.xz").iloc[: TRAIN + BETWEEN + TEST, 1:]
    scaled = (rows - rows[:TRAIN].mean()) / rows[:TRAIN].std(ddof=0)
    return torch.tensor(scaled.to_numpy(), dtype=torch.float32)


def windows(rows: Tensor) -> list[dict[str, Tensor]]:
    """Return every window and what follows it."""
    places = range(CONTEXT, len(rows) - HORIZON + 1)
    return [{"past_values": rows[at - CONTEXT : at], "future_values": rows[at : at + HORIZON]} for at in places]


def train(model: PatchTSTForPrediction, rows: Tensor, epochs: float, seed: int, sparsity: float | None = None) -> None:
    """Train by the Trainer; the callback is the only line that pruning adds."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=64,
            learning_rate=1e-3,
            lr_scheduler_type="cosine",
            seed=seed,
            save_strategy="no",
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
        )
        callbacks = [SynapticPruning(sparsity)] if sparsity else []
        trainer = Trainer(model, arguments, train_dataset=windows(rows), callbacks=callbacks)
        trainer.remove_callback(PrinterCallback)
        trainer.train()


@torch.no_grad()
def errors(model: PatchTSTForPrediction, rows: Tensor) -> tuple[float, float]:
    """Return MSE and MAE over all windows of the test part."""
    model.eval()
    found = windows(rows[TRAIN + BETWEEN - CONTEXT :])
    gaps = []
    for first in range(0, len(found), 256):
        part = found[first : first + 256]
        forecast = model(past_values=torch.stack([one["past_values"] for one in part])).prediction_outputs
        gaps.append(forecast - torch.stack([one["future_values"] for one in part]))
    gap = torch.cat(gaps)
    return float(gap.square().mean()), float(gap.abs().mean())


def compared(seed: int, options: argparse.Namespace) -> list[tuple[float, float]]:
    """Return the errors after fine-tuning, dense and at each sparsity, from one trained network."""
    set_seed(seed)
    config = PatchTSTConfig(
        num_input_channels=7,
        context_length=CONTEXT,
        prediction_length=HORIZON,
        patch_length=16,
        patch_stride=8,
        d_model=32,
        num_attention_heads=4,
        ffn_dim=64,
        num_hidden_layers=2,
    )
    first = PatchTSTForPrediction(config)
    train(first, read(options.data_dir, "ETTh2")[:TRAIN], options.epochs, seed)
    rows, found = read(options.data_dir, "ETTh1"), []
    for sparsity in SPARSITIES:
        model = copy.deepcopy(first)
        train(model, rows[:TRAIN], options.more, seed, sparsity)
        found.append(errors(model, rows))
    return found


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--more", type=float, default=3, help="epochs of fine-tuning")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = np.array([compared(seed, options) for seed in range(options.seeds)])
    print("| fine-tuned | test MSE | against dense | test MAE | against dense |\n|---|---|---|---|---|")
    for place, sparsity in enumerate(SPARSITIES):
        cells = []
        for metric in range(2):
            values, dense = found[:, place, metric], found[:, 0, metric]
            change, half = interval(100 * (values / dense - 1))
            cells += [f"{values.mean():.4f}", f"{change:+.2f} % ± {half:.2f}" if sparsity else ""]
        print(f"| {f'{sparsity:.0%} pruned' if sparsity else 'dense'} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

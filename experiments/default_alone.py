"""The default recipe as it comes, 80 % and nothing chosen, against arms that choose: no training, only counting.

The studies train every sparsity of their grid and publish the one that validation chose. docs/results/default.parquet
holds the errors of each; from it and the studies' tables the Markdown of docs/results.md is printed, p-values by SciPy.
Run: python experiments/default_alone.py, or with folders of finished studies (`standard unseen`) to gather them anew
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from synaptic_pruning.study.statistics import block_means

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
STUDIES = ("standard", "unseen")


def gather(folders: list[str]) -> pd.DataFrame:
    """Read the test error of every synaptic training of the studies' seeds; a folder is named as its study."""
    rows = []
    for folder in map(Path, folders):
        seeds = set(pd.read_parquet(RESULTS / f"{folder.name}.parquet")["seed"])
        for path in sorted((folder / "cells").glob("*.json")):
            record = json.loads(path.read_text())
            cell, regime = record["cell"], record["cell"]["regime"]
            if regime["recipe"] == "growing" and cell["seed"] in seeds:
                place = folder.name, cell["dataset"], cell["model"], regime["sparsity"], cell["seed"]
                rows.append((*place, record["answers"]["0"]["mae"]))
    return pd.DataFrame(rows, columns=["study", "dataset", "model", "sparsity", "seed", "mae"])


def table(trained: pd.DataFrame) -> list[str]:
    """Return Markdown: a row a study and rival, MAE of the fixed sparsities and of the chosen one against it."""
    lines = [
        "| rows | against | always 80 %: median, mean, won–lost, p | always 50 % | chosen by validation |",
        "|---|---|---|---|---|",
    ]
    for study, name in zip(STUDIES, ("first 2,000", "4,001 to 6,000"), strict=True):
        runs = pd.read_parquet(RESULTS / f"{study}.parquet")
        fixed = trained[trained["study"] == study].rename(columns={"sparsity": "arm"})
        fixed = fixed.assign(length=runs["length"].iloc[0], horizon=runs["horizon"].iloc[0])
        errors = np.log(block_means(pd.concat([runs, fixed])))
        for other in ("none", "dropout", "mc-dropout"):
            cells = [_against(errors[arm] - errors[other]) for arm in (0.8, 0.5, "synaptic")]
            lines.append(f"| {name} | {other} | {' | '.join(cells)} |")
    return lines


def _against(difference: pd.Series) -> str:
    median, mean = (f"{100 * np.expm1(x):+.2f} %" for x in (difference.median(), difference.mean()))
    won, lost = int((difference < 0).sum()), int((difference > 0).sum())
    return f"{median}, {mean}, {won}–{lost}, {wilcoxon(difference).pvalue:.4f}".replace("-", "−")


def main() -> None:
    """Print the table."""
    if sys.argv[1:]:
        gather(sys.argv[1:]).to_parquet(RESULTS / "default.parquet", index=False)
    print("\n".join(table(pd.read_parquet(RESULTS / "default.parquet"))))


if __name__ == "__main__":
    main()

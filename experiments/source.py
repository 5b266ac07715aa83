"""Print what is left of the source's claim without its leaks: pruning as published, cell by cell, and the default.

    python experiments/source.py docs/results/source.parquet docs/results/paper-reduced.parquet

A cell is a data set, a model and a window length. Differences are relative changes of the mean test error over seeds;
negative is better. The first file is of study C, the second of the released protocol with its leaks.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

ARMS = {"vos2025": "as published, 70 %", "synaptic": "the default, 70 %"}
OTHERS = {"none": "dense", "dropout": "dropout 0.3", "mc-dropout": "Monte-Carlo dropout"}


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """Return mean test errors, one row a cell, one column an arm."""
    runs = runs[runs["status"] == "ok"].astype({"arm": str, "model": str, "dataset": str})
    networks = runs[runs["model"] != ""]
    return networks.groupby(["model", "dataset", "length", "arm"])["mae"].mean().unstack("arm").astype(float)


def percent(logs: pd.Series) -> str:
    """Return the mean of logarithms of ratios as a change, and how many are below 0."""
    return f"{100 * np.expm1(logs.mean()):+.1f} % | {(logs < 0).sum()} of {len(logs)}".replace("-", "−")


def against(errors: pd.DataFrame) -> list[str]:
    """Return each pruned arm against each other arm: means over cells, cells that it wins, and the best cell."""
    lines = [
        "| model | pruned | against | test error | better in | best cell | worst cell |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, part in errors.groupby("model"):
        for arm, words in ARMS.items():
            for other, name in OTHERS.items():
                if arm not in part or part[arm].isna().all():
                    continue
                logs = np.log(part[arm] / part[other]).dropna()
                ends = [f"{100 * np.expm1(end):+.0f} %".replace("-", "−") for end in (logs.min(), logs.max())]
                lines.append(f"| {str(model).upper()} | {words} | {name} | {percent(logs)} | {ends[0]} | {ends[1]} |")
    return lines


def by_length(errors: pd.DataFrame) -> list[str]:
    """Return pruning as published against the dense network, each cell."""
    logs = np.log(errors["vos2025"] / errors["none"]).unstack("length")
    lines = [f"| model | data set | {' | '.join(map(str, logs.columns))} |", f"|---|---|{'---|' * logs.shape[1]}"]
    for (model, dataset), row in logs.iterrows():
        values = [f"{100 * np.expm1(value):+.1f}".replace("-", "−") for value in row]
        lines.append(f"| {str(model).upper()} | {dataset} | {' | '.join(values)} |")
    return lines


def skills(runs: pd.DataFrame) -> list[str]:
    """Return errors against persistence, geometric means over window lengths and models."""
    runs = runs[runs["status"] == "ok"].astype({"arm": str, "dataset": str})
    errors = np.log(1 - runs["skill"].astype(float)).groupby([runs["dataset"], runs["arm"]]).mean().unstack("arm")
    named = {**OTHERS, **ARMS, "ridge": "ridge"}
    arms = [arm for arm in named if arm in errors]
    lines = [f"| data set | {' | '.join(named[arm] for arm in arms)} |", f"|---|{'---|' * len(arms)}"]
    for dataset, row in errors.iterrows():
        values = [f"{100 * np.expm1(row[arm]):+.1f} %".replace("-", "−") for arm in arms]
        lines.append(f"| {dataset} | {' | '.join(values)} |")
    return lines


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("honest", type=Path)
    parser.add_argument("leaked", type=Path)
    arguments = parser.parse_args()
    honest, leaked = pd.read_parquet(arguments.honest), pd.read_parquet(arguments.leaked)
    print("\n".join(["Without leaks\n", *against(cells(honest))]))
    print(
        "\n".join(["\nAs published against dense, in %, by window length, without leaks\n", *by_length(cells(honest))])
    )
    print("\n".join(["\nAgainst persistence, without leaks\n", *skills(honest)]))
    print("\n".join(["\nWith the leaks of the released protocol\n", *against(cells(leaked))]))
    print("\n".join(["\nAgainst persistence, with the leaks\n", *skills(leaked)]))


if __name__ == "__main__":
    main()

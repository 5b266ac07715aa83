"""Whether one slow ramp chooses the final sparsity as well as a grid of full trainings does.

On the data sets that recipes are chosen on, under the protocol of the standard study: a grid of late cubic ramps, of
which the sparsest within 1 % of the best validation error is taken, and one linear ramp to 90 % whose `SparsityPath`
names a sparsity; what counts then is the network of the grid at, or next below, that sparsity. Printed: test MAE
against the network without pruning, in percent, and how far apart the two choices are.
Run: python experiments/sparsity_path.py --data ../shared/data --models rnn
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from recipe import SPEC, Trial, fit, ramp
from scipy import stats

import synaptic_pruning as sp

GRID = (0.5, 0.7, 0.8, 0.9)
RULES = {
    "none": Trial(),
    "path": Trial(ramp(sp.linear, 0.9, 0.3, 0.8)),
    **{f"{target:g}": Trial(ramp(sp.cubic, target, 0.3, 0.8)) for target in GRID},
}
TOLERANCES = (0.0, 0.01, 0.03)


class Trained(NamedTuple):
    """Errors of one network, and what its `SparsityPath` names for each tolerance."""

    validation: float
    test: float
    named: tuple[float, ...]


def run(cell: tuple[Path, str, str, str]) -> Trained:
    """Train one network."""
    data, dataset, model_name, arm = cell
    training, test = fit(data, dataset, model_name, RULES[arm])
    path = sp.SparsityPath()
    for epoch in training.history:
        path.report(epoch["sparsity"], epoch["validation_mae"])
    validation = training.history[training.best_epoch - 1]["validation_mae"]
    return Trained(validation, test, tuple(path.sparsest(tolerance) for tolerance in TOLERANCES))


def main() -> None:
    """Run every cell and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", default="rnn")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    pairs = list(product(SPEC.development, args.models.split(",")))
    keys = [(*pair, arm) for pair in pairs for arm in RULES]
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        found = dict(zip(keys, pool.map(run, [(args.data, *key) for key in keys]), strict=True))

    def by_grid(pair: tuple[str, str]) -> float:
        errors = {target: found[*pair, f"{target:g}"].validation for target in GRID}
        return max(target for target in GRID if errors[target] <= 1.01 * min(errors.values()))

    def by_path(pair: tuple[str, str], place: int) -> float:
        named = found[*pair, "path"].named[place]
        return max((target for target in GRID if target <= named + 1e-9), default=GRID[0])

    choices = {"grid, four trainings": [by_grid(pair) for pair in pairs]}
    for place, tolerance in enumerate(TOLERANCES):
        choices[f"path, tolerance {tolerance:.0%}"] = [by_path(pair, place) for pair in pairs]
    choices |= {f"always {target:.0%}": [target] * len(pairs) for target in GRID}

    def change(pair: tuple[str, str], target: float) -> float:
        return 100 * float(np.log(found[*pair, f"{target:g}"].test / found[*pair, "none"].test))

    loss = {
        name: np.array([change(pair, target) for pair, target in zip(pairs, chosen, strict=True)])
        for name, chosen in choices.items()
    }
    reference, chosen_by_grid = loss["grid, four trainings"], choices["grid, four trainings"]
    rows = {
        name: {
            "median": np.median(lost),
            "mean": lost.mean(),
            "sparsity": np.mean(choices[name]),
            "same as grid": np.mean(np.equal(choices[name], chosen_by_grid)),
            "p against grid": stats.wilcoxon(lost, reference).pvalue if (lost != reference).any() else 1.0,
        }
        for name, lost in loss.items()
    }
    print(f"{args.models}: {len(pairs)} pairs of data set and model, one seed; MAE against none in %")
    print(pd.DataFrame(rows).T.round(2).to_string())


if __name__ == "__main__":
    main()

"""Does what pruning changes remain when training goes on? The same networks at 600, 2,400 and 9,600 steps.

    python experiments/recipes.py train tasks.npz --out experiments/cells --models rnn --steps 9600 --seeds 0 \\
        --names air-quality beijing-pm25 ecg etth1 gefcom2014-price internet-traffic nyc-taxi pjm-east-load \\
        solar-radiation steel-energy \\
        --recipes none "dropout 0.3" "steps 80 comp^.5" "steps inputs 80" "set 80 comp^.5"
    python experiments/length.py gather docs/results/recipes.parquet experiments/cells --out docs/results/length.parquet
    python experiments/length.py table docs/results/length.parquet
    python experiments/length.py draw docs/results/length.parquet --out docs/results/length.svg

Development series, each recipe at the best of three learning rates by validation error, one seed. Differences are
relative changes of the test error, over all series the mean of their logarithms; negative is better. The first command
goes on where it was; it is not through, so no table is published yet.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from recipes import choose

DENSE = ("none", "dropout 0.3")
ARMS = {
    "dropout 0.3": "dropout 0.3",
    "steps 80 comp^.5": "the default, 80 %",
    "steps inputs 80": "`Inputs`, 80 % of the inputs",
    "set 80 comp^.5": "`SET`, 80 %",
}
STEPS = (600, 2400, 9600)
REGIMES = {"features": "many inputs", "univariate": "the target alone"}
COLOURS = {
    "dropout 0.3": "0.5",
    "steps 80 comp^.5": "#00798c",
    "steps inputs 80": "#d1682b",
    "set 80 comp^.5": "#8a5fa8",
}


def gather(recipes: Path, longer: Path, out: Path) -> None:
    """Keep the runs of these arms on the series that were trained at every length."""
    runs = pd.concat([pd.read_parquet(recipes), *map(pd.read_parquet, sorted(longer.glob("*.parquet")))])
    runs = runs.astype(dict.fromkeys(("dataset", "regime", "model", "recipe"), str))
    runs = runs[(runs.model == "rnn") & (runs.seed == 0) & runs.recipe.isin(["none", *ARMS]) & runs.steps.isin(STEPS)]
    combinations = runs[["dataset", "regime", "steps", "recipe"]].drop_duplicates().groupby("dataset").size()
    whole = combinations.index[combinations == len(REGIMES) * len(STEPS) * (1 + len(ARMS))]
    runs[runs.dataset.isin(whole)].reset_index(drop=True).to_parquet(out, compression="zstd")


def changes(runs: pd.DataFrame, against: str) -> pd.DataFrame:
    """Return logarithms of test errors over those of another arm, one column an arm.

    "Tuned" is the better of the dense networks by validation error.
    """
    found = {}
    for place, part in runs.groupby(["regime", "steps"]):
        validation, test, _ = choose(part)
        best = validation[list(DENSE)].idxmin(axis=1)
        test["tuned"] = [test.loc[name, arm] for name, arm in best.items()]
        found[place] = np.log(test[list(ARMS)]).sub(np.log(test[against]), axis=0)
    return pd.concat(found, names=["regime", "steps"])


def arms(regime: str) -> list[str]:
    """Return what is told of a regime: with the target alone there are no inputs to prune."""
    return [arm for arm in ARMS if regime == "features" or "inputs" not in arm]


def table(runs: pd.DataFrame) -> str:
    """Return, for every regime and length, each arm against the dense network and against the tuned one."""
    best = runs.loc[runs.groupby(["regime", "steps", "dataset", "recipe"]).validation_mae.idxmin()]
    late = (best.best_epoch > 0.9 * best.epochs).groupby([best.regime, best.steps, best.recipe]).mean().unstack()
    parts = []
    for regime, name in REGIMES.items():
        parts += [f"| {name} | {' | '.join(f'{steps:,} steps | won–lost' for steps in STEPS)} |"]
        parts += [f"|---|{'---|---|' * len(STEPS)}"]
        for against, words in (("none", "dense"), ("tuned", "the better of dense and dropout")):
            found = changes(runs, against).loc[regime]
            for arm in arms(regime):
                if against == "tuned" and arm in DENSE:
                    continue
                cells = []
                for steps in STEPS:
                    logs = found.loc[steps, arm]
                    percent = f"{100 * np.expm1(logs.mean()):+.1f} %".replace("-", "−")
                    cells.append(f"{percent} | {(logs < 0).sum()}–{(logs > 0).sum()}")
                parts.append(f"| {ARMS[arm]}, against {words} | {' | '.join(cells)} |")
        shares = [f"{100 * late.loc[(regime, steps), 'none']:.0f} %" for steps in STEPS]
        parts += [f"| dense networks whose best epoch lies in the last tenth | {' | | '.join(shares)} | |", ""]
    return "\n".join(parts)


def draw(runs: pd.DataFrame, out: Path) -> None:
    """Draw the change against the dense network over the length of training, its mean and its spread over series."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "length"
    from matplotlib import pyplot as plt

    found = changes(runs, "none")
    figure, places = plt.subplots(1, 2, figsize=(11, 4), sharey=True, layout="constrained")
    for axes, (regime, name) in zip(places, REGIMES.items(), strict=True):
        for place, arm in enumerate(arms(regime)):
            logs = found.loc[regime, arm].unstack("steps")
            at = np.array(logs.columns, float) * 1.04**place  # side by side
            middle = 100 * np.expm1(logs.mean())
            error = 100 * logs.std(ddof=1) / np.sqrt(len(logs))
            axes.errorbar(at, middle, error, marker="o", color=COLOURS[arm], lw=1.5, label=ARMS[arm].replace("`", ""))
        axes.axhline(0, color="0.2", lw=0.8)
        axes.set(xscale="log", title=f"{name.capitalize()}, {len(logs)} series", xlabel="steps of training")
        axes.set_xticks(list(logs.columns), [f"{steps:,}" for steps in logs.columns])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    places[0].set_ylabel("test error against the dense network (%)\nmean and its standard error over series")
    places[0].legend(frameon=False)
    figure.savefig(out, metadata={"Date": None})


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("gather")
    first.add_argument("recipes", type=Path)
    first.add_argument("longer", type=Path)
    first.add_argument("--out", type=Path, required=True)
    second = commands.add_parser("table")
    second.add_argument("runs", type=Path)
    third = commands.add_parser("draw")
    third.add_argument("runs", type=Path)
    third.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.command == "gather":
        gather(arguments.recipes, arguments.longer, arguments.out)
    elif arguments.command == "table":
        print(table(pd.read_parquet(arguments.runs)))
    else:
        draw(pd.read_parquet(arguments.runs), arguments.out)


if __name__ == "__main__":
    main()

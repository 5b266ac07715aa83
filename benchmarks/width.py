"""Draw what is left of networks that started 100, 300 and 1,000 units wide, from the result files of `rules.py`.

Run: python benchmarks/width.py docs/results
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
import numpy as np

FILES = {100: "mnist-width-100.json", 300: "mnist-mlp.json", 1000: "mnist-width-1000.json"}
DENSE, SPARSE = "#b5651d", "#0b7a75"


def main() -> None:
    """Write mnist-width.svg beside the result files."""
    folder = Path(sys.argv[1])
    results = {width: json.loads((folder / name).read_text())["results"] for width, name in FILES.items()}
    mpl.rcParams |= {"svg.hashsalt": "width", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    figure, (weights, accuracy) = plt.subplots(1, 2, figsize=(7.2, 2.9), layout="constrained")
    for arm, label, colour in (("dense", "dense", DENSE), ("disuse", "after Disuse", SPARSE)):
        alive = [np.mean([sum(run["alive"].values()) for run in found[arm]]) for found in results.values()]
        right = [100 * np.mean([run["test"] for run in found[arm]]) for found in results.values()]
        spread = [100 * np.std([run["test"] for run in found[arm]], ddof=1) for found in results.values()]
        weights.plot(list(results), alive, "o-", color=colour, label=label)
        accuracy.errorbar(list(results), right, spread, fmt="o-", color=colour, capsize=3)
        for width, count in zip(results, alive, strict=True):
            weights.annotate(f"{count:,.0f}", (width, count), (0, 6), textcoords="offset points", ha="center")
    for axes, title in ((weights, "connections"), (accuracy, "test accuracy, % (± SD over seeds)")):
        axes.set(xscale="log", title=title, xlabel="hidden units at the start", xticks=list(results))
        axes.set_xticklabels([f"{width:,}" for width in results])
        axes.minorticks_off()
    weights.set(yscale="log")
    weights.margins(0.15, 0.18)
    weights.legend(frameon=False, loc="upper left")
    figure.savefig(folder / "mnist-width.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()

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

WIDTHS = (100, 300, 1000)
FILES = {
    "": ("mnist-width-100.json", "mnist-mlp.json", "mnist-width-1000.json"),
    ", weight decay": tuple(f"mnist-width-decay-{width}.json" for width in WIDTHS),
}
ARMS = {"dense": ("dense", "#b5651d"), "disuse": ("after Disuse", "#0b7a75")}


def main() -> None:
    """Write mnist-width.svg beside the result files."""
    folder = Path(sys.argv[1])
    mpl.rcParams |= {"svg.hashsalt": "width", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    figure, (weights, accuracy) = plt.subplots(1, 2, figsize=(7.2, 3.2), layout="constrained")
    for (suffix, files), line in zip(FILES.items(), ("o-", "s--"), strict=True):
        results = [json.loads((folder / name).read_text())["results"] for name in files]
        for arm, (label, colour) in ARMS.items():
            alive = [np.mean([sum(run["alive"].values()) for run in found[arm]]) for found in results]
            right = [100 * np.mean([run["test"] for run in found[arm]]) for found in results]
            spread = [100 * np.std([run["test"] for run in found[arm]], ddof=1) for found in results]
            accuracy.errorbar(WIDTHS, right, spread, fmt=line, color=colour, capsize=3)
            if arm == "dense" and suffix:
                continue  # as many as without
            weights.plot(WIDTHS, alive, line, color=colour, label=label + suffix)
            below = -13 if suffix else 6
            for width, count in zip(WIDTHS, alive, strict=True):
                weights.annotate(f"{count:,.0f}", (width, count), (0, below), textcoords="offset points", ha="center")
    for axes, title in ((weights, "connections"), (accuracy, "test accuracy, % (± SD over seeds)")):
        axes.set(xscale="log", title=title, xlabel="hidden units at the start", xticks=WIDTHS)
        axes.set_xticklabels([f"{width:,}" for width in WIDTHS])
        axes.minorticks_off()
    weights.set(yscale="log")
    weights.margins(0.15, 0.18)
    weights.legend(frameon=False, loc="upper left", fontsize=7.5, borderaxespad=0)
    figure.savefig(folder / "mnist-width.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()

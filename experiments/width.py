"""Draw what is left of networks that started 100, 300 and 1,000 units wide, from the result files of `rules.py`.

Run: python experiments/width.py docs/results
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
    ", price on size": tuple(f"mnist-width-l1-{width}.json" for width in WIDTHS),
}
DENSE = "#b5651d"
DISUSE = ("#0b7a75", "#5b8c85", "#123c69")


def main() -> None:
    """Write mnist-width.svg beside the result files."""
    folder = Path(sys.argv[1])
    mpl.rcParams |= {"svg.hashsalt": "width", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    figure, (weights, accuracy) = plt.subplots(1, 2, figsize=(8.2, 3.6), layout="constrained")
    for (suffix, files), line, colour in zip(FILES.items(), ("o-", "s--", "^:"), DISUSE, strict=True):
        results = [json.loads((folder / name).read_text())["results"] for name in files]
        for arm, label, shade in (("dense", "dense", DENSE), ("disuse", "after Disuse", colour)):
            alive = [np.mean([sum(run["alive"].values()) for run in found[arm]]) for found in results]
            right = [100 * np.mean([run["test"] for run in found[arm]]) for found in results]
            spread = [100 * np.std([run["test"] for run in found[arm]], ddof=1) for found in results]
            accuracy.errorbar(WIDTHS, right, spread, fmt=line, color=shade, capsize=3, markersize=5)
            if arm == "dense" and suffix:
                continue  # as many as without
            weights.plot(WIDTHS, alive, line, color=shade, label=label + suffix, markersize=5)
            end = f"{alive[-1]:,.0f}"
            weights.annotate(end, (WIDTHS[-1], alive[-1]), (7, -3), textcoords="offset points", color=shade)
    for axes, title in ((weights, "connections"), (accuracy, "test accuracy, % (± SD over seeds)")):
        axes.set(xscale="log", title=title, xlabel="hidden units at the start", xticks=WIDTHS)
        axes.set_xticklabels([f"{width:,}" for width in WIDTHS])
        axes.minorticks_off()
    weights.set(yscale="log", xlim=(85, 2200))
    weights.margins(y=0.1)
    weights.legend(frameon=False, loc="upper left", fontsize=8, borderaxespad=0)
    figure.savefig(folder / "mnist-width.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()

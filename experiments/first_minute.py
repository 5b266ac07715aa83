"""Draw one training for the README: sixty weights of a small network, and its error beside the dense network's.

An illustration, not evidence: one series that ships with statsmodels, one seed.

Run: python experiments/first_minute.py docs/learn/training.svg
"""

import sys

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.study.plots.style import COLOURS
from synaptic_pruning.tasks.forecasting import build_model, make_task, train
from synaptic_pruning.tasks.forecasting.data import embedded

EPOCHS, WEIGHTS, LAYER = 40, 60, "recurrent.weight_hh_l0"


class Watched(sp.SynapticPruner):
    """A pruner that also remembers some weights whenever training asks for its summary, once an epoch."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, total_steps: int) -> None:
        super().__init__(model, optimizer, total_steps=total_steps)
        self._weight = model.get_parameter(LAYER)
        self._chosen = torch.randperm(self._weight.numel(), generator=torch.Generator().manual_seed(0))[:WEIGHTS]
        self.seen = [self._now()]

    def _now(self) -> np.ndarray:
        return self._weight.detach().flatten()[self._chosen].numpy().copy()

    def summary(self) -> sp.Summary:
        """Return the summary, and remember the weights."""
        self.seen.append(self._now())
        return super().summary()


def main() -> None:
    """Train the dense and the pruned network from the same initial weights, and write the picture."""
    series = next(one for one in embedded() if one.name == "elnino")
    task = make_task(series, length=24)
    pruners: list[Watched] = []

    def attach(*given: object) -> Watched:
        pruners.append(Watched(*given))  # type: ignore[arg-type]
        return pruners[-1]

    errors, density = {}, []
    for arm, on in (("none", None), ("synaptic", attach)):
        torch.manual_seed(0)
        model = build_model("rnn", channels=1, length=24, horizon=1, predict=task.predict)
        run = train(model, task, epochs=EPOCHS, seed=0, learning_rate=3e-3, batch_size=32, schedule="cosine", attach=on)
        errors[arm] = [epoch["validation_mae"] for epoch in run.history]
        density = [1.0, *(1 - epoch["sparsity"] for epoch in run.history)]
    seen = np.stack(pruners[0].seen)

    mpl.rcParams |= {"svg.hashsalt": "training", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
    mpl.rcParams |= {"axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left"}
    figure, (weights, error) = plt.subplots(1, 2, figsize=(8.2, 3), layout="constrained")
    for values in seen.T:
        alive = values[-1] != 0
        last = len(values) if alive else int(np.flatnonzero(values == 0)[0]) + 1
        colour, width = (COLOURS["synaptic"], 1.3) if alive else ("#968c82", 0.8)
        weights.plot(range(last), values[:last], color=colour, linewidth=width, zorder=2 if alive else 1)
    weights.set(title=f"{WEIGHTS} recurrent weights", xlabel="epoch", xlim=(0, EPOCHS))
    weights.plot([], [], color=COLOURS["synaptic"], label="stays, learns on")
    weights.plot([], [], color="#968c82", label="pruned: zero from there on")
    weights.legend(frameon=False, fontsize=8, loc="center right", bbox_to_anchor=(1, 0.57))
    for arm, name in (("none", "dense"), ("synaptic", "pruned: a fifth of the weights")):
        error.plot(range(1, EPOCHS + 1), errors[arm], color=COLOURS[arm], label=name, linewidth=1.6)
    full = next(epoch for epoch, part in enumerate(density) if part < 0.201)
    error.axvspan(0, full, color=COLOURS["synaptic"], alpha=0.1, linewidth=0)
    error.annotate("pruning", (full / 2, 0.97), xycoords=("data", "axes fraction"), ha="center", va="top", fontsize=8)
    error.set(title="validation error (°C)", xlabel="epoch", xlim=(0, EPOCHS), ylim=(0, None))
    error.legend(frameon=False, fontsize=8)
    figure.savefig(sys.argv[1], metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main()

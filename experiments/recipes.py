"""Try recipes of gradual pruning on development series, hundreds of recurrent networks in one batched product.

    python experiments/recipes.py prepare --data ../shared/data --out tasks.npz
    python experiments/recipes.py train tasks.npz --out FOLDER
    python experiments/recipes.py table docs/results/recipes.parquet
    python experiments/recipes.py series docs/results/recipes.parquet
    python experiments/recipes.py draw docs/results/recipes.parquet --out docs/results/recipes.svg

Every network is trained as the studies train theirs: AdamW, cosine rate, best epoch by validation error, none of them
before the final sparsity. Many share a batched product, which takes a fraction of their time apart and less on a GPU
(``--device cuda``). Each recipe is trained at three learning rates, and the best by validation error counts. A group
that is done is not trained again.
"""

import argparse
import math
import multiprocessing as mp
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from synaptic_pruning.tasks.forecasting.training import rate_at

RATES = (1e-3, 3e-3, 1e-2)
HIDDEN, LENGTH, BATCH = 64, 14, 32
DEVELOPMENT = [
    "air-quality", "beijing-pm25", "bitcoin", "co2-mauna-loa", "ecg", "etth1", "eu-stock-indices",
    "gefcom2014-price", "heart-rate", "internet-traffic", "london-weather", "m4-hourly",
    "melbourne-min-temperature", "montreal-discharge", "nyc-taxi", "pjm-east-load", "solar-radiation",
    "steel-energy", "treering", "us-flu", "vix", "wiki-peyton-manning", "wti-oil",
]  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """One way to train; the defaults are the plain dense network.

    Attributes:
        begin, end: Where the cubic ramp to ``sparsity`` begins and ends, as shares of training.
        least: The ramp ends after so many steps at the earliest.
        exponent, cap: The learning rate is multiplied by ``min(density ** -exponent, cap)``.
        factor: "all" parameters get the same factor, prunable "weights" alone, each "layer" its own, or "ramp": all
            until the ramp ends, then 1.
        score: What is ranked over the whole network: "magnitude", "normed" (over the layer's root mean square), "lamp",
            "uniform" and "erk" (magnitude within layers that share the density so), or "random".
        floor: A layer keeps at least as many weights as its larger side has units, times so many times the network's
            final density, at most 1; all layers together at most half of what stays. 0 sets no limit.
        inputs: Share of the input features that are pruned whole, on the same ramp.
        regrow: Share of the alive weights that are exchanged for random ones at the first event, falling to 0 at 75 %.
        sparse_start: Random masks at the final sparsity, and scaled weights, from the first step on.
        rescale: Survivors keep the norm of their layer at events.
        average: Validate and test an exponential average of the weights.
    """

    name: str
    sparsity: float = 0.0
    begin: float = 0.0
    end: float = 0.15
    least: int = 0
    exponent: float = 0.0
    cap: float = 4.0
    factor: str = "all"
    score: str = "magnitude"
    floor: float = 0.0
    inputs: float = 0.0
    regrow: float = 0.0
    sparse_start: bool = False
    rescale: bool = False
    average: bool = False
    dropout: float = 0.0
    decay: float = 0.0


def recipes() -> list[Recipe]:
    """Return what is tried; names say what differs from the early cubic ramp."""
    tried = [Recipe("none"), Recipe("none decay .01", decay=1e-2), Recipe("none decay .1", decay=1e-1)]
    tried += [Recipe(f"dropout {rate:g}", dropout=rate) for rate in (0.1, 0.3, 0.5)]
    for sparsity in (0.8, 0.9, 0.95):
        tag = f"{100 * sparsity:.0f}"
        tried += [
            Recipe(f"early {tag}", sparsity),
            Recipe(f"early {tag} comp", sparsity, exponent=1),
            Recipe(f"early {tag} comp^.5", sparsity, exponent=0.5),
        ]
    for sparsity in (0.8, 0.9):
        tag = f"{100 * sparsity:.0f}"
        tried += [
            Recipe(f"set {tag}", sparsity, sparse_start=True, regrow=0.3),
            Recipe(f"set {tag} comp", sparsity, sparse_start=True, regrow=0.3, exponent=1),
            Recipe(f"half {tag}", sparsity, end=0.5),
            Recipe(f"half {tag} comp", sparsity, end=0.5, exponent=1),
            Recipe(f"half {tag} comp^.5", sparsity, end=0.5, exponent=0.5),
            Recipe(f"third {tag}", sparsity, end=0.3),
            Recipe(f"third {tag} comp^.5", sparsity, end=0.3, exponent=0.5),
            Recipe(f"half {tag} comp regrow rescale", sparsity, end=0.5, exponent=1, regrow=0.3, rescale=True),
        ]
    tried += [
        Recipe("early 50", 0.5),
        Recipe("end .05 80", 0.8, end=0.05),
        Recipe("end .05 80 comp^.5", 0.8, end=0.05, exponent=0.5),
        Recipe("end .02 80 comp^.5", 0.8, end=0.02, exponent=0.5),
        Recipe("end .1 80 comp^.5", 0.8, end=0.1, exponent=0.5),
        Recipe("steps 80 comp^.5", 0.8, end=0.05, least=100, exponent=0.5),
        Recipe("steps 50 comp^.5", 0.5, end=0.05, least=100, exponent=0.5),
        Recipe("steps 90 comp^.5", 0.9, end=0.05, least=100, exponent=0.5),
        Recipe("floor 80 comp^.5", 0.8, end=0.05, least=100, exponent=0.5, floor=math.inf),
        Recipe("erk 80 comp^.5", 0.8, end=0.05, least=100, exponent=0.5, score="erk"),
        Recipe("lamp 80 comp^.5", 0.8, end=0.05, least=100, exponent=0.5, score="lamp"),
        Recipe("floor 2 80 comp^.5", 0.8, end=0.05, least=100, exponent=0.5, floor=2),
        Recipe("floor 1 80 comp^.5", 0.8, end=0.05, least=100, exponent=0.5, floor=1),
        Recipe("floor .25 80 comp^.5", 0.8, end=0.05, least=100, exponent=0.5, floor=0.25),
        Recipe("steps inputs 80", end=0.05, least=100, inputs=0.8),
        Recipe("set 80 comp^.5", 0.8, sparse_start=True, regrow=0.3, exponent=0.5),
        Recipe("early 90 comp cap 2", 0.9, exponent=1, cap=2),
        Recipe("early 90 comp layers", 0.9, exponent=1, factor="layer"),
        Recipe("early 90 comp weights", 0.9, exponent=1, factor="weights"),
        Recipe("early 90 comp ramp", 0.9, exponent=1, factor="ramp"),
        Recipe("half 90 comp ramp", 0.9, end=0.5, exponent=1, factor="ramp"),
        Recipe("early 90 dropout .1", 0.9, dropout=0.1),
        Recipe("early 90 dropout .3", 0.9, dropout=0.3),
        Recipe("early 90 rescale", 0.9, rescale=True),
        Recipe("early 90 normed", 0.9, score="normed"),
        Recipe("early 90 lamp", 0.9, score="lamp"),
        Recipe("early 90 uniform", 0.9, score="uniform"),
        Recipe("early 90 erk", 0.9, score="erk"),
        Recipe("early 90 erk comp^.5", 0.9, score="erk", exponent=0.5),
        Recipe("early 90 random", 0.9, score="random"),
        Recipe("early 90 regrow", 0.9, regrow=0.3),
        Recipe("early 90 average", 0.9, average=True),
        Recipe("none average", average=True),
        Recipe("early 90 decay .01", 0.9, decay=1e-2),
        Recipe("inputs 80", inputs=0.8),
        Recipe("inputs 80 dropout .1", inputs=0.8, dropout=0.1),
        Recipe("inputs 50 early 90", 0.9, inputs=0.5),
        Recipe("inputs 80 early 90", 0.9, inputs=0.8),
        Recipe("inputs 80 early 90 comp^.5", 0.9, inputs=0.8, exponent=0.5),
    ]
    return tried


@dataclass
class Data:
    """A series in one regime: scaled rows, and where windows of the three parts end, with their targets."""

    name: str
    regime: str
    rows: np.ndarray
    origins: dict[str, np.ndarray] = field(default_factory=dict)
    targets: dict[str, np.ndarray] = field(default_factory=dict)


PARTS = ("train", "validation", "test")


def prepare(folder: Path, out: Path, names: list[str], rows: int) -> None:
    """Cut the series as the studies do and keep what training needs."""
    from synaptic_pruning.study.forecasting.plan import in_regime
    from synaptic_pruning.tasks.forecasting import load, make_task

    kept: dict[str, np.ndarray] = {}
    for name in names:
        series = load(name, data_dir=folder, rows=rows, inputs="all")
        for regime in ("univariate", "features"):
            task = make_task(in_regime(series, regime), length=LENGTH)
            scaled = ((task.filled - task.scaler.mean) / task.scaler.scale).astype(np.float32)
            kept[f"{name}|{regime}|rows"] = scaled
            for part in PARTS:
                windows = getattr(task, part)
                kept[f"{name}|{regime}|{part}|origins"] = windows.origins
                kept[f"{name}|{regime}|{part}|targets"] = windows.targets.numpy()[:, 0]
    np.savez_compressed(out, **kept)


def read(path: Path) -> list[Data]:
    """Return what `prepare` has kept."""
    with np.load(path) as kept:
        found = [Data(*key.split("|")[:2], kept[key]) for key in kept.files if key.endswith("|rows")]
        for data in found:
            for part in PARTS:
                data.origins[part] = kept[f"{data.name}|{data.regime}|{part}|origins"]
                data.targets[part] = kept[f"{data.name}|{data.regime}|{part}|targets"]
    return found


class Networks:
    """Recurrent networks of one size and their optimizer, seeds × (recipes × rates), as stacked tensors.

    Args:
        kind: "rnn" or "lstm".
        settings: Recipe and rate of each network of a seed.
        seeds: Seeds; networks of one seed start alike and see the same batches.
    """

    PRUNABLE = ("ih", "hh", "head")

    def __init__(
        self, kind: str, channels: int, settings: list[tuple[Recipe, float]], seeds: list[int], device: str
    ) -> None:
        self.kind, self.seeds, self.count = kind, len(seeds), len(settings)
        self.device = torch.device(device)
        self.recipes = [recipe for _ in seeds for recipe, _ in settings]
        self.rate = self._column([rate for _ in seeds for _, rate in settings])
        self.generator = torch.Generator(self.device).manual_seed(seeds[0])
        self.weights: dict[str, Tensor] = {}
        module = nn.RNN if kind == "rnn" else nn.LSTM
        for seed in seeds:
            torch.manual_seed(seed)
            recurrent, head = module(channels, HIDDEN, batch_first=True), nn.Linear(HIDDEN, 1)
            own = {
                "ih": recurrent.weight_ih_l0, "hh": recurrent.weight_hh_l0, "b1": recurrent.bias_ih_l0,
                "b2": recurrent.bias_hh_l0, "head": head.weight, "b3": head.bias,
            }  # fmt: skip
            for name, value in own.items():
                stacked = value.detach().to(self.device)[None].expand(self.count, *value.shape)
                self.weights[name] = torch.cat([self.weights[name], stacked]) if name in self.weights else stacked
        self.weights = {name: value.clone().requires_grad_() for name, value in self.weights.items()}
        self.mean = {name: torch.zeros_like(value) for name, value in self.weights.items()}
        self.square = {name: torch.zeros_like(value) for name, value in self.weights.items()}
        self.average = {name: value.detach().clone() for name, value in self.weights.items()}
        self.alive = {name: torch.ones_like(self.weights[name], dtype=torch.bool) for name in self.PRUNABLE}
        self.steps, self._changed = 0, True
        self.final, self.begin, self.end = self._all("sparsity"), self._all("begin"), self._all("end")
        self.exponent, self.cap = self._all("exponent"), self._all("cap")
        self.dropout, self.decay = self._all("dropout"), self._all("decay")
        self.floor = self._all("floor")
        self.inputs, self.regrow = self._all("inputs"), self._all("regrow")
        self.flags = {name: self._all(name).bool() for name in ("sparse_start", "rescale", "average")}
        self.factors = {name: self._where("factor", name) for name in ("weights", "layer", "ramp")}
        self.scores = {name: self._where("score", name) for name in ("normed", "lamp", "uniform", "erk", "random")}
        self.dense = (self.final == 0) & (self.inputs == 0)
        self.ramp_end = torch.where(self.dense | self.flags["sparse_start"], 0.0, self.end)
        self._start_sparse()

    def _column(self, values: list[float]) -> Tensor:
        return torch.tensor(values, device=self.device, dtype=torch.float32)

    def _all(self, setting: str) -> Tensor:
        return self._column([float(getattr(recipe, setting)) for recipe in self.recipes])

    def _where(self, setting: str, value: str) -> Tensor:
        return torch.tensor([getattr(recipe, setting) == value for recipe in self.recipes], device=self.device)

    def forward(self, inputs: Tensor, weights: dict[str, Tensor], training: bool) -> Tensor:
        """Return forecasts (networks, batch) of windows (seeds, batch, rows, channels)."""
        shared, batch, length, channels = inputs.shape
        per = len(self.recipes) // shared
        into = weights["ih"].view(shared, per, -1, channels)
        projected = torch.matmul(
            inputs.reshape(shared, batch * length, channels), into.permute(0, 3, 1, 2).reshape(shared, channels, -1)
        )
        projected = projected.view(shared, batch, length, per, -1).permute(2, 0, 3, 1, 4)
        projected = projected.reshape(length, shared * per, batch, -1) + (weights["b1"] + weights["b2"])[:, None]
        onwards = weights["hh"].transpose(1, 2)
        hidden = projected.new_zeros(shared * per, batch, HIDDEN)
        cell = hidden
        for step in projected.unbind(0):
            gates = torch.baddbmm(step, hidden, onwards)
            if self.kind == "rnn":
                hidden = gates.tanh()
                continue
            enter, forget, new, out = gates.chunk(4, 2)
            cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
            hidden = out.sigmoid() * cell.tanh()
        if training:
            keep = 1 - self.dropout[:, None, None]
            drawn = torch.rand(hidden.shape, generator=self.generator, device=self.device)
            hidden = hidden * (drawn < keep) / keep
        return torch.baddbmm(weights["b3"][:, None], hidden, weights["head"].transpose(1, 2))[..., 0]

    def step(self, inputs: Tensor, targets: Tensor, rate: float, total: int) -> None:
        """Take an optimizer step, then prune where an event is due.

        Args:
            inputs: Windows, (seeds, batch, rows, channels).
            targets: (seeds, batch); all known.
            rate: The schedule's factor on the learning rate.
            total: Steps of the whole training.
        """
        forecasts = self.forward(inputs, self.weights, True)
        errors = (forecasts - targets.repeat_interleave(self.count, 0)).square().mean(1).sum()
        gradients = torch.autograd.grad(errors, list(self.weights.values()))
        self.steps += 1
        with torch.no_grad():
            factor = self._factor(self.steps / total)
            for (name, value), gradient in zip(self.weights.items(), gradients, strict=True):
                if name in self.alive:
                    gradient = gradient * self.alive[name]
                m, v = self.mean[name], self.square[name]
                m.lerp_(gradient, 0.1)
                v.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
                shape = (-1,) + (1,) * (value.dim() - 1)
                own = (self.rate * rate * factor[name]).view(shape)
                value.mul_(1 - own * self.decay.view(shape))
                size = own / (1 - 0.9**self.steps)
                value.sub_(size * m / (v.sqrt() / math.sqrt(1 - 0.999**self.steps) + 1e-8))
                if name in self.alive:
                    value.mul_(self.alive[name])
            every = max(1, total // 50)
            if self.steps % every == 0:
                self._event(self.steps / total)
                self._changed = True
            self._changed |= bool(self.factors["ramp"].any())
            if self.flags["average"].any():
                for name, value in self.weights.items():
                    self.average[name].lerp_(value, 0.02)
                    if name in self.alive:
                        self.average[name].mul_(self.alive[name])

    def _density(self) -> tuple[Tensor, dict[str, Tensor]]:
        own = {name: alive.flatten(1).float().mean(1).clamp_min(1e-6) for name, alive in self.alive.items()}
        sizes = {name: alive[0].numel() for name, alive in self.alive.items()}
        return sum(own[n] * sizes[n] for n in own) / sum(sizes.values()), own  # type: ignore[return-value]

    def _factor(self, progress: float) -> dict[str, Tensor]:
        if self._changed:
            self._changed = False
            density, own = self._density()
            same = (density**-self.exponent).minimum(self.cap)
            same = torch.where(self.factors["ramp"] & (progress > self.end), 1.0, same)
            self._known = {}
            for name in self.weights:
                self._known[name] = same
                if name in own:
                    layer = (own[name] ** -self.exponent).minimum(self.cap)
                    self._known[name] = torch.where(self.factors["layer"], layer, same)
                else:
                    self._known[name] = torch.where(self.factors["layer"] | self.factors["weights"], 1.0, same)
        return self._known

    def _flat(self, tensors: dict[str, Tensor]) -> Tensor:
        return torch.cat([tensors[name].detach().flatten(1) for name in self.PRUNABLE], 1)

    def _set_alive(self, flat: Tensor) -> None:
        """Enforce masks; survivors keep their layer's norm where the recipe says so."""
        place = 0
        for name in self.PRUNABLE:
            value = self.weights[name].detach()
            size = value[0].numel()
            self.alive[name] = flat[:, place : place + size].view_as(value)
            before = value.flatten(1).norm(dim=1)
            value.mul_(self.alive[name])
            after = value.flatten(1).norm(dim=1).clamp_min(1e-12)
            grown = torch.where(self.flags["rescale"], before / after, 1.0)
            value.mul_(grown.view(-1, 1, 1))
            self.mean[name].mul_(self.alive[name])
            self.square[name].mul_(self.alive[name])
            place += size

    @torch.no_grad()
    def _start_sparse(self) -> None:
        chosen = self.flags["sparse_start"]
        if not chosen.any():
            return
        flat = self._flat(self.weights)
        drawn = torch.rand(flat.shape, generator=self.generator, device=self.device)
        alive = (drawn >= self.final[:, None]) | ~chosen[:, None]
        scale = torch.where(chosen, (1 - self.final).clamp_min(1e-6).rsqrt(), 1.0)
        for name in self.PRUNABLE:
            self.weights[name].detach().mul_(scale.view(-1, 1, 1))
        self._set_alive(alive)

    @torch.no_grad()
    def _event(self, progress: float) -> None:
        ramp = ((progress - self.begin) / (self.end - self.begin).clamp_min(1e-9)).clamp(0, 1)
        done = 1 - (1 - ramp) ** 3
        wanted = torch.where(self.flags["sparse_start"], self.final, self.final * done)
        turning = bool((self.regrow > 0).any()) and progress < 0.75
        if progress > float(self.ramp_end.max()) + 0.03 and not turning:
            return
        alive = self._flat(self.alive)
        if (self.inputs > 0).any():
            norms = self.weights["ih"].detach().norm(dim=1)
            features = norms.shape[1]
            count = (self.inputs * done * features).round().clamp_max(features - 1)
            ranks = norms.argsort(1).argsort(1)
            columns = (ranks >= count[:, None])[:, None].expand_as(self.alive["ih"]).flatten(1)
            alive[:, : columns.shape[1]] &= columns
        total = alive.shape[1]
        pruned = (wanted * total).round()
        swap = torch.zeros_like(pruned)
        if turning:
            share = 0.5 * self.regrow * (1 + math.cos(math.pi * progress / 0.75))
            swap = (share * (total - pruned)).floor()
        scores = self._score(alive).masked_fill(~alive, -math.inf)
        # Ranks count from the smallest; ties go by position.
        order = scores.argsort(dim=1, stable=True)
        ranks = torch.empty_like(order).scatter_(1, order, torch.arange(total, device=self.device).expand_as(order))
        limit = (pruned + swap)[:, None]
        kept = alive & (ranks >= limit)
        if turning:
            drawn = torch.rand(alive.shape, generator=self.generator, device=self.device).masked_fill(kept, 2.0)
            places = drawn.argsort(1)
            drawn_rank = torch.empty_like(places).scatter_(
                1, places, torch.arange(total, device=self.device).expand_as(places)
            )
            grown = (total - pruned)[:, None] - kept.sum(1, keepdim=True)
            newly = (drawn_rank < grown) & (swap > 0)[:, None] & ~kept
            was = kept
            kept = kept | newly
            self._set_alive(was)
            self.alive = dict(zip(self.PRUNABLE, self._split(kept), strict=True))
            return
        self._set_alive(torch.where(self.dense[:, None], True, kept))

    def _split(self, flat: Tensor) -> list[Tensor]:
        sizes = [self.weights[name][0].numel() for name in self.PRUNABLE]
        return [part.view_as(self.weights[n]) for n, part in zip(self.PRUNABLE, flat.split(sizes, 1), strict=True)]

    def _score(self, alive: Tensor) -> Tensor:
        size = self._flat(self.weights).abs()
        sizes = [self.weights[name][0].numel() for name in self.PRUNABLE]
        if self.scores["random"].any():
            drawn = torch.rand(size.shape, generator=self.generator, device=self.device)
            size = torch.where(self.scores["random"][:, None], drawn, size)
        if self.scores["normed"].any():
            parts = []
            for part, left in zip(size.split(sizes, 1), alive.split(sizes, 1), strict=True):
                mean = part.square().sum(1, keepdim=True) / left.sum(1, keepdim=True).clamp_min(1)
                parts.append(part / mean.sqrt().clamp_min(1e-12))
            size = torch.where(self.scores["normed"][:, None], torch.cat(parts, 1), size)
        if (self.floor > 0).any():
            shapes = [self.weights[name][0].shape for name in self.PRUNABLE]
            left = 0.5 * sum(sizes) * (1 - self.final)
            share = (left / sum(max(shape) for shape in shapes)).minimum(self.floor * (1 - self.final)).clamp_max(1)
            parts = []
            for shape, part in zip(shapes, size.split(sizes, 1), strict=True):
                least = (share * max(shape)).floor().clamp_min(1)
                place = part.argsort(1, descending=True).argsort(1)
                parts.append(torch.where(place < least[:, None], part + 1e6, part))
            size = torch.where((self.floor > 0)[:, None], torch.cat(parts, 1), size)
        for name in ("uniform", "erk", "lamp"):
            chosen = self.scores[name]
            if not chosen.any():
                continue
            parts = []
            for layer, part in zip(self.PRUNABLE, size[chosen].split(sizes, 1), strict=True):
                order = part.argsort(1, descending=True)
                if name == "lamp":
                    ordered = part.gather(1, order).square()
                    own = ordered / ordered.cumsum(1).clamp_min(1e-20)
                else:
                    rows, columns = self.weights[layer][0].shape
                    share = 1.0 if name == "uniform" else (rows + columns) / (rows * columns)
                    place = (torch.arange(part.shape[1], device=self.device) + 1.0).expand_as(part)
                    own = -place / part.shape[1] / share
                parts.append(torch.empty_like(part).scatter_(1, order, own))
            size[chosen] = torch.cat(parts, 1)
        return size

    @torch.no_grad()
    def errors(self, windows: Tensor, targets: Tensor) -> Tensor:
        """Return mean absolute errors, (networks,), of windows (n, rows, channels) with known targets."""
        weights = {
            name: torch.where(self.flags["average"].view((-1,) + (1,) * (value.dim() - 1)), self.average[name], value)
            for name, value in self.weights.items()
        }
        found = [
            (self.forward(some[None], weights, False) - wanted).abs().sum(1)
            for some, wanted in zip(windows.split(128), targets.split(128), strict=True)
        ]
        return torch.stack(found).sum(0) / len(targets)

    def sparsity(self) -> Tensor:
        """Return the share of the prunable weights that are pruned, (networks,)."""
        return 1 - self._density()[0]


def train_group(data: Data, kind: str, steps: int, tried: list[Recipe], seeds: list[int], device: str) -> pd.DataFrame:
    """Train all recipes, rates and seeds on one series; one row a network."""
    windows = torch.from_numpy(data.rows).to(device).unfold(0, LENGTH, 1).transpose(1, 2)
    known = {p: np.flatnonzero(~np.isnan(data.targets[p])) for p in PARTS}
    starts = {p: torch.from_numpy(data.origins[p][known[p]] - LENGTH + 1).to(device) for p in PARTS}
    targets = {p: torch.from_numpy(data.targets[p][known[p]]).to(device) for p in PARTS}
    per_epoch = -(-len(known["train"]) // BATCH)
    epochs = max(1, round(steps / per_epoch))
    total = epochs * per_epoch
    sized = [replace(recipe, end=max(recipe.end, recipe.least / total)) for recipe in tried]
    settings = [(recipe, rate) for recipe in sized for rate in RATES]
    networks = Networks(kind, data.rows.shape[1], settings, seeds, device)
    orders = [torch.Generator().manual_seed(seed) for seed in seeds]
    best = torch.full((len(networks.recipes),), math.inf, device=device)
    test, best_epoch = best.clone(), torch.zeros_like(best)
    step = 0
    for epoch in range(1, epochs + 1):
        order = torch.stack([torch.randperm(len(known["train"]), generator=own) for own in orders]).to(device)
        for index in order.split(BATCH, 1):
            rate = rate_at("cosine", (step + 0.5) / total)
            networks.step(windows[starts["train"][index]], targets["train"][index], rate, total)
            step += 1
        found = networks.errors(windows[starts["validation"]], targets["validation"])
        finished = networks.ramp_end <= step / total + 1e-6
        better = finished & (found < best)
        best = torch.where(better, found, best)
        test = torch.where(better, networks.errors(windows[starts["test"]], targets["test"]), test)
        best_epoch = torch.where(better, float(epoch), best_epoch)
    return pd.DataFrame(
        {
            "dataset": data.name,
            "regime": data.regime,
            "model": kind,
            "steps": steps,
            "recipe": [recipe.name for recipe in networks.recipes],
            "rate": [rate for _ in seeds for _, rate in settings],
            "seed": [seed for seed in seeds for _ in settings],
            "validation_mae": best.cpu().numpy(),
            "mae": test.cpu().numpy(),
            "best_epoch": best_epoch.int().cpu().numpy(),
            "epochs": epochs,
            "sparsity": networks.sparsity().cpu().numpy().round(4),
            "channels": data.rows.shape[1],
        }
    )


def _work(task: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    path, *rest = task
    started = time.time()
    part = path.with_suffix(".part")
    train_group(*rest).to_parquet(part, compression="zstd")
    part.rename(path)
    print(f"{path.stem}: {time.time() - started:.0f} s", flush=True)


WORDS = {
    "none": "dense",
    "none decay .1": "dense, weight decay 0.1",
    "dropout 0.1": "dropout 0.1",
    "dropout 0.3": "dropout 0.3",
    "dropout 0.5": "dropout 0.5",
    "steps 80 comp^.5": "**the default: 80 %**",
    "steps 50 comp^.5": "the default at 50 %",
    "steps 90 comp^.5": "the default at 90 %",
    "floor 80 comp^.5": "the default, layers keep 1 weight a unit",
    "floor 2 80 comp^.5": "the default, layers keep 0.4 weights a unit",
    "floor 1 80 comp^.5": "the default, layers keep 0.2 weights a unit",
    "floor .25 80 comp^.5": "the default, layers keep 0.05 weights a unit",
    "erk 80 comp^.5": "the default, ERK shares a layer",
    "lamp 80 comp^.5": "the default, ranked by LAMP",
    "end .02 80 comp^.5": "80 %, ramp to 2 % of training, 1 / √density",
    "end .05 80 comp^.5": "80 %, ramp to 5 % of training, 1 / √density",
    "end .1 80 comp^.5": "80 %, ramp to 10 % of training, 1 / √density",
    "early 80 comp^.5": "80 %, ramp to 15 % of training, 1 / √density",
    "early 90 comp^.5": "90 %, ramp to 15 % of training, 1 / √density",
    "early 95 comp^.5": "95 %, ramp to 15 % of training, 1 / √density",
    "end .05 80": "80 %, ramp to 5 % of training, rates left alone",
    "early 80": "80 %, ramp to 15 % of training, rates left alone",
    "early 90": "90 %, ramp to 15 % of training, rates left alone",
    "early 95": "95 %, ramp to 15 % of training, rates left alone",
    "early 90 comp": "90 %, ramp to 15 % of training, 1 / density, at most 4",
    "third 90": "90 %, ramp to 30 % of training, rates left alone",
    "third 90 comp^.5": "90 %, ramp to 30 % of training, 1 / √density",
    "half 80 comp": "80 %, ramp to 50 % of training, 1 / density",
    "half 90 comp": "90 %, ramp to 50 % of training, 1 / density",
    "half 90 comp^.5": "90 %, ramp to 50 % of training, 1 / √density",
    "half 90 comp regrow rescale": "90 %, ramp to 50 % of training, 1 / density, regrowth at random, norms kept",
    "set 80 comp^.5": "`SET` 80 %, scaled start, 1 / √density",
    "set 90 comp": "`SET` 90 %, scaled start, 1 / density",
    "inputs 80": "`Inputs` 80 %, ramp to 15 % of training, rates left alone",
    "steps inputs 80": "`Inputs` 80 %, on the ramp of the default, rates left alone",
    "inputs 80 early 90": "80 % of inputs, and 90 % of all weights",
    "early 90 erk": "90 %, ERK shares a layer, rates left alone",
    "early 90 dropout .1": "90 %, with dropout 0.1, rates left alone",
    "early 90 rescale": "90 %, layers keep their norm, rates left alone",
}
"""What recipes are called in tables."""
TUNED = ["none", "none decay .1", "dropout 0.1", "dropout 0.3", "dropout 0.5"]
"""What the tuned dense network chooses from."""


def table(runs: pd.DataFrame) -> str:
    """Return, for runs of one model and length, errors in percent of those of the dense network, geometric means.

    "At the dense rate" leaves the learning rate at what the dense network chose, as one added line does. Elsewhere each
    recipe chooses its rate by validation error. "Tuned" is the best of the dense networks by validation error. Recipes
    stand in the order of their validation errors over both regimes.
    """
    found: dict[str, dict[str, pd.Series]] = {}
    runs = runs.astype({"dataset": str, "recipe": str, "regime": str})
    for regime, part in runs.groupby("regime"):
        validation, test, kept = choose(part)
        family = [name for name in TUNED if name in validation]
        tuned = pd.Series({one: test.loc[one, validation.loc[one, family].idxmin()] for one in test.index})
        found[str(regime)] = {
            "validation": _percent(validation, validation["none"]).mean(),
            "test": _percent(test, test["none"]).mean(),
            "at the dense rate": _percent(kept, test["none"]).mean(),
            "against tuned": _percent(test, tuned).mean(),
        }
    one, other = found["univariate"], found["features"]
    names = [name for name in WORDS if name in one["test"].index]
    order = sorted(names, key=lambda name: one["validation"][name] + other["validation"][name])
    lines = [
        f"| recipe | target alone: {' | '.join(one)} | many inputs: {' | '.join(other)} |",
        f"|---{'|---' * (len(one) + len(other))}|",
    ]
    for name in order:
        values = [f"{column[name]:+.1f}".replace("-", "−") for part in (one, other) for column in part.values()]
        lines.append(f"| {WORDS[name]} | {' | '.join(values)} |")
    return "\n".join(lines)


def series_table(runs: pd.DataFrame, recipe: str) -> str:
    """Return, for runs of one model and length, a recipe's test error on every series, and which epochs were best.

    Errors are in percent of those of the dense network, each at its best rate by validation. The logarithms' mean over
    series is what `table` tells.
    """
    lines = [
        "| regime | series | test error, % | best epoch, dense | best epoch, recipe | epochs |",
        "|---|---|---|---|---|---|",
    ]
    for regime, part in runs.groupby("regime"):
        _, test, _ = choose(part)
        best = part.loc[part.groupby(["dataset", "recipe"]).validation_mae.idxmin()].set_index(["recipe", "dataset"])
        change = 100 * (test[recipe] / test["none"] - 1)
        for name, percent in change.sort_values(ascending=False).items():
            epochs = [best.loc[(one, name), "best_epoch"] for one in ("none", recipe)]
            number = f"{percent:+.1f}".replace("-", "−")
            lines.append(
                f"| {regime} | {name} | {number} | {epochs[0]} | {epochs[1]} | {best.loc[(recipe, name), 'epochs']} |"
            )
    return "\n".join(lines)


def print_tables(path: Path) -> None:
    """Print the table of every model, length and seed."""
    runs = _read_runs(path)
    for (model, steps, seed), group in runs.groupby(["model", "steps", "seed"], observed=True):
        series = group.dataset.nunique()
        print(f"\n{model}, {steps} steps, seed {seed}, {series} series; MAE against the dense network in %\n")
        print(table(group))


def _read_runs(path: Path) -> pd.DataFrame:
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)


def choose(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return validation and test errors at each recipe's best rate, and test errors at that of the dense network.

    One row a series, one column a recipe. Rates are chosen by validation error, over all seeds.
    """
    mean = runs.groupby(["dataset", "recipe", "rate"], as_index=False)[["validation_mae", "mae"]].mean()
    best = mean.loc[mean.groupby(["dataset", "recipe"]).validation_mae.idxmin()].set_index(["dataset", "recipe"])
    rates = best.rate.unstack()["none"]
    kept = mean[mean.rate == mean.dataset.map(rates)].set_index(["dataset", "recipe"]).mae.unstack()
    return best.validation_mae.unstack(), best.mae.unstack(), kept


def draw(path: Path, out: Path) -> None:
    """Draw what the default does through training, and how recipes compare where few and where many inputs are."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "recipes"
    from matplotlib import pyplot as plt

    runs = _read_runs(path)
    runs = runs[(runs.model == "rnn") & (runs.steps == 600) & (runs.seed == 0)]
    runs = runs.astype({"dataset": str, "recipe": str, "regime": str})
    shown = [
        "steps 80 comp^.5",
        "steps 90 comp^.5",
        "early 80",
        "half 80 comp",
        "erk 80 comp^.5",
        "set 80 comp^.5",
        "inputs 80",
        "dropout 0.1",
        "dropout 0.3",
    ]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), width_ratios=[2, 3], layout="constrained")
    progress = np.linspace(0, 1, 301)
    density = 1 - 0.8 * (1 - (1 - np.clip(progress / 0.05, 0, 1)) ** 3)
    left.plot(100 * progress, 100 * density, color="#00798c", label="weights left (%)")
    left.plot(100 * progress, 100 / np.sqrt(density), color="#d1682b", ls="--", label="learning rate (% of yours)")
    left.set(xlabel="training (%)", ylim=(0, 240), title="What the default does")
    left.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    for regime, colour, marker in (("univariate", "#00798c", "o"), ("features", "#d1682b", "s")):
        _, test, _ = choose(runs[runs.regime == regime])
        change = _percent(test, test["none"]).mean()
        places = range(len(shown))
        name = "the target alone" if regime == "univariate" else "many inputs"
        right.plot([change[one] for one in shown], places, marker, color=colour, label=f"{name}, {len(test)} series")
    right.axvline(0, color="0.6", lw=1)
    right.set_yticks(range(len(shown)), [WORDS[name].translate(str.maketrans("", "", "*`")) for name in shown])
    right.invert_yaxis()
    right.set(xlabel="test error against the dense network (%)", title="Each at the best of three learning rates")
    right.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, metadata={"Date": None})


def _percent(errors: pd.DataFrame, other: pd.Series) -> "_Percent":
    return _Percent(np.log(errors).sub(np.log(other), axis=0))


class _Percent:
    """Logarithms of ratios, averaged over series to percent."""

    def __init__(self, logs: pd.DataFrame) -> None:
        self.logs = logs

    def mean(self) -> pd.Series:
        return 100 * np.expm1(self.logs.mean())


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("prepare")
    first.add_argument("--data", type=Path, default=Path("../shared/data"))
    first.add_argument("--out", type=Path, required=True)
    first.add_argument("--rows", type=int, default=2000)
    first.add_argument("--names", nargs="*", default=DEVELOPMENT)
    second = commands.add_parser("train")
    second.add_argument("tasks", type=Path)
    second.add_argument("--out", type=Path, required=True)
    second.add_argument("--device", default="cpu")
    second.add_argument("--processes", type=int, default=1)
    second.add_argument("--models", nargs="+", default=["rnn", "lstm"])
    second.add_argument("--steps", type=int, default=600)
    second.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    second.add_argument("--names", nargs="*")
    second.add_argument("--recipes", nargs="*", help="names of recipes; default all")
    third = commands.add_parser("table")
    fifth = commands.add_parser("series", help="one recipe, series by series")
    fifth.add_argument("found", type=Path)
    fifth.add_argument("--recipe", default="steps 80 comp^.5")
    fifth.add_argument("--model", default="rnn")
    fifth.add_argument("--steps", type=int, default=2400)
    fourth = commands.add_parser("draw")
    fourth.add_argument("found", type=Path)
    fourth.add_argument("--out", type=Path, required=True)
    third.add_argument("found", type=Path, help="a folder that train has written, or one file of it all")
    arguments = parser.parse_args()
    if arguments.command == "prepare":
        prepare(arguments.data, arguments.out, arguments.names, arguments.rows)
        return
    if arguments.command == "table":
        print_tables(arguments.found)
        return
    if arguments.command == "series":
        runs = _read_runs(arguments.found)
        runs = runs[(runs.model == arguments.model) & (runs.steps == arguments.steps) & (runs.seed == 0)]
        print(series_table(runs.astype({"dataset": str, "recipe": str, "regime": str}), arguments.recipe))
        return
    if arguments.command == "draw":
        draw(arguments.found, arguments.out)
        return
    tried = [r for r in recipes() if not arguments.recipes or r.name in arguments.recipes]
    arguments.out.mkdir(parents=True, exist_ok=True)
    groups = []
    for kind in arguments.models:
        for data in sorted(read(arguments.tasks), key=lambda one: one.name in DEVELOPMENT[::2]):
            path = arguments.out / f"{data.name}.{data.regime}.{kind}.{arguments.steps}.parquet"
            if not path.exists() and (not arguments.names or data.name in arguments.names):
                groups.append((path, data, kind, arguments.steps, tried, arguments.seeds, arguments.device))
    with mp.get_context("spawn").Pool(arguments.processes) as pool:
        for _ in pool.imap_unordered(_work, groups):
            pass


if __name__ == "__main__":
    main()

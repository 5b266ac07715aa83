"""Networks trained side by side must be those that `train` makes one by one, but for rounding.

In double precision, for in single precision rounding decides which way a newborn weight of hardly any gradient goes.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import synaptic_pruning as sp
from synaptic_pruning.tasks.forecasting import RNNForecaster, Series, make_task, train
from synaptic_pruning.tasks.forecasting.batched_training import train_together
from synaptic_pruning.tasks.forecasting.training import Settings

SEEDS = (3, 4, 5)
RULES = {
    "none": lambda seed: None,
    "magnitude": lambda seed: sp.ToSparsity(sp.cubic(0.8, begin=0.2, end=0.7)),
    "growing": lambda seed: sp.SET(0.8, seed=seed, scaled_start=True),
}


def _task(missing: bool = False, channels: int = 1, length: int = 6):
    rows = 200
    values = np.sin(np.arange(rows) / 3)[:, None] + 0.1 * np.random.default_rng(0).normal(size=(rows, channels))
    if missing:
        values[40:44] = np.nan
    times = np.arange(rows).astype("datetime64[h]").astype("datetime64[ns]")
    task = make_task(Series("wave", "y", ("y", "z")[:channels], times, values, 1), length=length, horizon=2)
    double = {
        name: replace(part, inputs=part.inputs.double(), targets=part.targets.double(), last=part.last.double())
        for name, part in (("train", task.train), ("validation", task.validation))
    }
    return replace(task, **double)


def _model(seed: int, dropout: float = 0.0, hidden: int = 16, **options):
    torch.manual_seed(seed)
    sizes = {"channels": 1, "length": 6, "horizon": 2, "hidden": hidden} | options
    return RNNForecaster(dropout=dropout, **sizes).double()


def _attach(rule, model, optimizer, steps):
    return sp.SynapticPruner(model, optimizer, rule, total_steps=steps)


def _attached(name: str, seed: int):
    rule = RULES[name](seed)
    return None if rule is None else partial(_attach, rule)


LOCKED = {"dropout": 0.3, "locked": True}


@pytest.mark.parametrize(
    ("rule", "options", "missing"),
    [
        *((rule, {}, missing) for rule in RULES for missing in (False, True)),
        *(("none", {"dropout": 0.3}, missing) for missing in (False, True)),
        ("none", LOCKED, True),
        ("none", LOCKED | {"channels": 2}, False),
        *((rule, {"length": 1}, False) for rule in RULES),
    ],
)
def test_each_is_what_it_would_be_alone(rule, options, missing):
    task = _task(missing, options.get("channels", 1), options.get("length", 6))
    settings = {"epochs": 4, "batch_size": 16, "learning_rate": 5e-3, "schedule": "cosine"}
    settings["weight_decay"] = 1e-3
    alone = [_model(seed, **options) for seed in SEEDS]
    apart = [
        train(model, task, seed=seed, attach=_attached(rule, seed), **settings)
        for model, seed in zip(alone, SEEDS, strict=True)
    ]
    beside = [_model(seed, **options) for seed in SEEDS]
    attach = [_attached(rule, seed) for seed in SEEDS]
    together = train_together(beside, task, Settings(**settings), seeds=SEEDS, attach=attach)
    for one, other, model, twin in zip(apart, together, alone, beside, strict=True):
        assert (one.status, one.steps, one.best_epoch, one.layers) == (
            other.status,
            other.steps,
            other.best_epoch,
            other.layers,
        )
        for row, its in zip(one.history, other.history, strict=True):
            for key in ("epoch", "train_loss", "validation_mae", "sparsity"):
                assert row[key] == pytest.approx(its[key], rel=1e-6)
        for parameter, its in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(parameter, its, rtol=1e-6, atol=1e-9)
            assert torch.equal(parameter == 0, its == 0)
            assert its.untyped_storage().nbytes() == its.numel() * its.element_size()  # memory of its own
    assert len({run.best_state["head.bias"][0].item() for run in together}) == len(SEEDS)  # three networks, not one


def test_one_that_diverges_leaves_the_others_alone():
    task, settings = _task(), {"epochs": 3, "batch_size": 16}
    models = [_model(seed) for seed in SEEDS]
    with torch.no_grad():
        models[1].head.bias.fill_(float("inf"))
    broken, state = models[1], {name: value.clone() for name, value in models[1].state_dict().items()}
    together = train_together(models, task, Settings(**settings), seeds=SEEDS, attach=[None] * 3)
    assert [run.status for run in together] == ["ok", "nan-loss", "ok"]
    assert len(together[1].history) == 1
    assert all(torch.equal(value, state[name]) for name, value in broken.state_dict().items())
    alone = _model(SEEDS[2])
    run = train(alone, task, seed=SEEDS[2], **settings)
    assert run.history[-1]["validation_mae"] == pytest.approx(together[2].history[-1]["validation_mae"], rel=1e-6)


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    models = [_model(seed, dropout=0.3) for seed in SEEDS]
    torch.manual_seed(7)
    train_together(models, _task(), Settings(1), seeds=SEEDS, attach=[None] * 3)
    assert torch.equal(torch.rand(3), expected)


def test_what_cannot_be_stacked_is_refused():
    with pytest.raises(ValueError, match="not RNNs of one layer and one size; train them one by one"):
        train_together([_model(0), _model(1, hidden=8)], _task(), Settings(1), seeds=(0, 1), attach=[None, None])
    with pytest.raises(ValueError, match="epochs=0"):
        train_together([_model(0)], _task(), Settings(0), seeds=(0,), attach=[None])

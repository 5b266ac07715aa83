"""The callback over several runs of a Trainer: killed and resumed, fitted again, copied."""

import copy
import itertools
import pickle
import random
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning
import torch
from torch import nn

import synaptic_pruning as sp
from helpers.lightning_runs import QUIET, each_epoch, fit, last, loader, module_of, trainer_of
from helpers.processes.killed_runs import die, differences, kill_after, run_until_killed, some_step
from helpers.small_network import RAMP, STEPS, zeros_of
from synaptic_pruning.integrations.lightning import SynapticPruning, find_pruner

pytestmark = QUIET


class _DieAt(pytorch_lightning.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            die()


def _resumable(folder: Path, dropout: float, *callbacks: Any, ckpt_path: Path | None = None) -> dict[str, Any]:
    trainer = trainer_of(SynapticPruning(RAMP, every=2), each_epoch(folder), *callbacks)
    module = module_of(dropout=dropout)
    trainer.fit(module, loader(), ckpt_path=ckpt_path)
    masks = {name: mask.clone() for name, mask in find_pruner(trainer).masks().items()}
    return {"weights": module.state_dict(), "optimizer": trainer.optimizers[0].state_dict(), "masks": masks}


@pytest.mark.parametrize("step", [some_step(1), pytest.param(some_step(2), marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path, step: int):
    whole = _resumable(tmp_path / "whole", 0.0)
    run_until_killed(_resumable, tmp_path / "killed", 0.0, _DieAt(step))
    checkpoint = max((tmp_path / "killed").glob("*.ckpt"), key=lambda path: int(path.stem.split("=")[1]))
    assert f"step={step // 8 * 8}.ckpt" == checkpoint.name
    assert differences(_resumable(tmp_path / "killed", 0.0, ckpt_path=checkpoint), whole) == []


@pytest.mark.slow
def test_killed_at_any_moment_a_run_goes_on_as_if_nothing_had_happened(tmp_path: Path):
    """Not between two steps as above, but while a step is taken or a checkpoint is written."""
    rng, began = random.Random(0), time.monotonic()
    whole = _resumable(tmp_path / "whole", 0.0)
    seconds, killed = time.monotonic() - began, 0
    for point in itertools.count():
        if killed == 50:
            break
        folder = tmp_path / str(point)
        killed += kill_after(rng.uniform(0.1, 0.7) * seconds, _resumable, folder, 0.0)
        saved = sorted(folder.glob("*.ckpt"), key=lambda path: int(path.stem.split("=")[1]))
        if saved and saved[-1].name == f"step={STEPS}.ckpt":
            saved.pop()  # there is nothing left to train from there
        assert differences(_resumable(folder, 0.0, ckpt_path=saved[-1] if saved else None), whole) == []


def test_with_dropout_a_resumed_run_has_the_masks_of_its_checkpoint(tmp_path: Path):
    """Lightning does not save the state of the random numbers, so what is learnt afterwards may differ."""
    _resumable(tmp_path, 0.5)
    checkpoint = tmp_path / "step=16.ckpt"  # the ramp ended at step 12
    saved = torch.load(checkpoint, weights_only=True)["callbacks"]["SynapticPruning"]
    trainer = trainer_of(SynapticPruning(RAMP, every=2), each_epoch(tmp_path))
    trainer.fit(module_of(dropout=0.5), loader(), ckpt_path=checkpoint)
    assert differences(find_pruner(trainer).state_dict()["masks"], saved["masks"]) == []
    assert find_pruner(trainer).steps == STEPS


def test_a_checkpoint_without_masks_is_said(tmp_path: Path):
    trainer = trainer_of(last(tmp_path), max_epochs=1)
    trainer.fit(module_of(), loader())
    with pytest.warns(UserWarning, match="holds no masks of SynapticPruning"):
        trainer_of(SynapticPruning(RAMP), last(tmp_path)).fit(module_of(), loader(), ckpt_path=tmp_path / "step=8.ckpt")


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path):
    fit(SynapticPruning(), last(tmp_path))
    checkpoint = torch.load(tmp_path / "step=16.ckpt", weights_only=True)
    state = checkpoint["callbacks"]["SynapticPruning"]
    state["shapes"]["net.9.weight"] = state["shapes"].pop("net.3.weight")
    torch.save(checkpoint, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"net\.3\.weight is missing in the checkpoint"):
        trainer_of(SynapticPruning(), last(tmp_path)).fit(module_of(), loader(), ckpt_path=tmp_path / "other.ckpt")


def test_a_second_fit_goes_on_with_the_same_masks():
    callback = SynapticPruning(RAMP)
    _, module = fit(callback)
    first = callback.state_dict()
    fit(callback, module=module)
    assert differences(callback.state_dict()["masks"], first["masks"]) == []
    assert callback.pruner is not None
    assert callback.pruner.finished
    assert zeros_of(module) == 63 / 70
    fit(callback, module=copy.deepcopy(module))  # knows the network by its zeros
    assert differences(callback.state_dict()["masks"], first["masks"]) == []


@pytest.mark.parametrize(
    "rule", [lambda: sp.RigL(0.8), lambda: sp.Disuse(patience=1, threshold=0.8)], ids=["rigl", "disuse"]
)
def test_rules_with_a_memory_resume_and_train_again(tmp_path: Path, rule: Any):
    callback = SynapticPruning(rule())
    trainer, module = fit(callback, each_epoch(tmp_path))
    weights, masks = copy.deepcopy(module.state_dict()), find_pruner(trainer).masks()
    resumed = trainer_of(SynapticPruning(rule()), each_epoch(tmp_path))
    other = module_of()
    resumed.fit(other, loader(), ckpt_path=tmp_path / "step=8.ckpt")
    assert differences(other.state_dict(), weights) == []
    assert differences(find_pruner(resumed).masks(), masks) == []
    fit(callback, module=module, limit_train_batches=1, max_epochs=1)
    assert differences(callback.state_dict()["masks"], find_pruner(resumed).state_dict()["masks"]) == []


def test_an_unfinished_ramp_starts_again_and_gives_nothing_back():
    callback = SynapticPruning(RAMP, total_steps=3 * STEPS, every=1)  # the first fit ends on the ramp
    with pytest.warns(UserWarning, match="training ended at step 24 of total_steps=72"):
        _, module = fit(callback, limit_train_batches=0.5, max_epochs=6)
    assert callback.pruner is not None
    reached = callback.pruner.sparsity()
    assert 0 < reached < 0.9
    seen = []

    class Watch(pytorch_lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            seen.append(zeros_of(module))

    callback.total_steps = None
    fit(callback, Watch(), module=module)
    assert min(seen) == pytest.approx(reached)
    assert seen[-1] == 63 / 70


def test_another_network_starts_dense():
    callback = SynapticPruning(RAMP)
    fit(callback)
    seen = []

    class Watch(pytorch_lightning.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
            seen.append(zeros_of(module))

    fit(callback, Watch())
    assert seen[0] == seen[1] == 0
    other = module_of()
    other.net = nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 1))
    fit(callback, module=other)
    assert zeros_of(other) == 19 / 21


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies(copied: Any):
    callback = SynapticPruning(sp.ToSparsity(sp.cubic(0.5, end=0.5)), every=2, exclude=["net.3.*"])
    trainer, module = fit(copied(callback))
    assert callback.pruner is None
    assert find_pruner(trainer).masks().keys() == {"net.0.weight"}
    trained = copied(trainer.callbacks[0])
    assert trained.pruner is None
    fit(trained, module=module)
    assert differences(trained.state_dict()["masks"], trainer.callbacks[0].state_dict()["masks"]) == []

"""The callback inside real Trainers, with small models of the kinds people train."""

import copy
import math
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    EarlyStoppingCallback,
    PatchTSTConfig,
    PatchTSTForPrediction,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import synaptic_pruning as sp
from helpers.processes.killed_runs import die, differences, run_until_killed, some_step
from helpers.small_network import RAMP, STEPS, pruned_are_zero
from synaptic_pruning.integrations.transformers import FILE, SynapticPruning

pytestmark = [pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")]


def _patches(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return PatchTSTForPrediction(
        PatchTSTConfig(
            num_input_channels=1,
            context_length=16,
            patch_length=4,
            patch_stride=4,
            prediction_length=2,
            d_model=8,
            ffn_dim=16,
            num_attention_heads=2,
            num_hidden_layers=1,
            ff_dropout=dropout,
        )
    )


def _series() -> list[dict[str, Tensor]]:
    x = torch.randn(32, 18, 1, generator=torch.Generator().manual_seed(1)).cumsum(1)
    return [{"past_values": window[:16], "future_values": window[16:]} for window in x]


def _bert() -> nn.Module:
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=20,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=8,
            num_labels=2,
        )
    )


def _sentences() -> list[dict[str, Tensor]]:
    words = torch.randint(0, 20, (32, 8), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row[0] % 2} for row in words]


TASKS = {"patchtst": (_patches, _series), "bert": (_bert, _sentences)}


def _trainer(folder: Path, *callbacks: Any, task: str = "patchtst", model: Any = None, **arguments: Any) -> Trainer:
    make, data = TASKS[task]
    settings: dict[str, Any] = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.01,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "logging_steps": 8,
        "dataloader_pin_memory": False,
        "label_names": ["labels"] if task == "bert" else ["future_values"],
        **arguments,
    }
    return Trainer(
        make() if model is None else model,
        TrainingArguments(str(folder), **settings),
        train_dataset=data(),
        eval_dataset=data(),
        callbacks=list(callbacks),
    )


def _zeros(model: nn.Module, pruning: SynapticPruning) -> float:
    assert pruning.pruner is not None
    weights = [p.detach() for name, p in model.named_parameters() if name in pruning.pruner.masks()]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def _check_sparse(model: nn.Module, pruning: SynapticPruning) -> None:
    assert pruning.pruner is not None
    assert pruning.pruner.sparsity() == pytest.approx(0.8, abs=1e-3)
    assert pruned_are_zero(model, pruning.pruner)


@pytest.mark.parametrize("task", TASKS)
def test_one_line_attaches_it(tmp_path: Path, task: str):
    pruning = SynapticPruning()
    trainer = _trainer(tmp_path, pruning, task=task)
    trainer.train()
    assert pruning.pruner is not None
    assert pruning.pruner.steps == pruning.pruner.total_steps == STEPS
    _check_sparse(trainer.model, pruning)
    assert pruning.pruner.sparsity() == trainer.state.log_history[-1]["sparsity/total"]


def test_accumulated_gradients_count_as_one_step(tmp_path: Path):
    pruning = SynapticPruning()
    trainer = _trainer(tmp_path, pruning, gradient_accumulation_steps=2, max_steps=-1, num_train_epochs=3)
    trainer.train()
    assert pruning.pruner is not None
    assert pruning.pruner.steps == pruning.pruner.total_steps == 12


def test_mixed_precision(tmp_path: Path):
    pruning, model, seen = SynapticPruning(), _bert(), set()
    model.classifier.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    trainer = _trainer(tmp_path, pruning, task="bert", model=model, bf16=True)
    trainer.train()
    assert seen == {torch.bfloat16}
    assert pruning.pruner is not None
    assert pruning.pruner.steps == STEPS
    _check_sparse(model, pruning)


def test_copies(tmp_path: Path):
    pruning = pickle.loads(pickle.dumps(SynapticPruning(RAMP, every=2)))
    trainer = _trainer(tmp_path, pruning)
    trainer.train()
    copied, loaded = copy.deepcopy(trainer.model), pickle.loads(pickle.dumps(trainer.model))
    assert _zeros(copied, pruning) == _zeros(loaded, pruning) == pytest.approx(0.9, abs=1e-3)
    # A copy learns on without a pruner, the original keeps its zeros.
    _trainer(tmp_path, model=copied).train()
    assert _zeros(copied, pruning) < 0.1
    assert _zeros(trainer.model, pruning) == pytest.approx(0.9, abs=1e-3)


class _DieAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            die()


def _resumable(folder: Path, *callbacks: Any, resume: bool = False, dropout: float = 0.0) -> dict[str, Any]:
    pruning = SynapticPruning(RAMP, every=2)
    saving = {"save_strategy": "steps", "save_steps": 3}
    trainer = _trainer(folder, pruning, *callbacks, model=_patches(dropout), **saving)
    trainer.train(resume_from_checkpoint=resume)
    assert pruning.pruner is not None
    return {
        "weights": trainer.model.state_dict(),
        "optimizer": pruning.pruner.optimizer.state_dict(),
        "pruner": pruning.pruner.state_dict(),
    }


@pytest.mark.parametrize("step", [some_step(3), pytest.param(some_step(4), marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path, step: int):
    """With dropout too: the Trainer saves the state of the random numbers."""
    whole = _resumable(tmp_path / "whole", dropout=0.3)
    with pytest.raises(AssertionError):
        assert differences(_resumable(tmp_path / "other", dropout=0.0), whole) == []  # dropout does something
    folder = tmp_path / "killed"
    run_until_killed(lambda: _resumable(folder, _DieAt(step), dropout=0.3))
    assert (folder / f"checkpoint-{step // 3 * 3}" / FILE).is_file()
    assert differences(_resumable(folder, resume=True, dropout=0.3), whole) == []


def test_resume_without_masks_says_where_they_are_looked_for(tmp_path: Path):
    _resumable(tmp_path)
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "checkpoint-21" / FILE, shutil.copytree(tmp_path / "checkpoint-18", moved) / FILE)
    shutil.move(tmp_path / "checkpoint-24" / FILE, moved / FILE)
    with pytest.raises(ValueError, match=r"no masks at .*checkpoint-24.*resume_from="):
        _resumable(tmp_path, resume=True)
    pruning = SynapticPruning(RAMP, every=2, resume_from=moved)
    _trainer(tmp_path, pruning).train(resume_from_checkpoint=str(tmp_path / "checkpoint-24"))
    assert pruning.pruner is not None
    assert pruning.pruner.finished


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path):
    _resumable(tmp_path)
    file = tmp_path / "checkpoint-24" / FILE
    state = torch.load(file, weights_only=True)
    state["shapes"].popitem()
    torch.save(state, file)
    with pytest.raises(ValueError, match="belongs to another model"):
        _resumable(tmp_path, resume=True)


class _Reader(TrainerCallback):
    """Keeps what a logger after `SynapticPruning` is given, and the masks of that moment."""

    def __init__(self, pruning: SynapticPruning) -> None:
        self.pruning = pruning
        self.seen: list[tuple[dict[str, float], dict[str, Tensor]]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        assert self.pruning.pruner is not None
        self.seen.append((dict(logs), self.pruning.pruner.masks()))


@pytest.mark.parametrize("rule", [0.8, sp.SET(0.8)], ids=["ramp", "set"])
def test_every_log_of_a_loss_tells_of_the_pruning(tmp_path: Path, rule: sp.Rule | float):
    pruning = SynapticPruning(rule, every=1)
    reader, starts = _Reader(pruning), []

    class Start(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            assert pruning.pruner is not None
            starts.append(pruning.pruner.masks())

    trainer = _trainer(tmp_path, pruning, reader, Start(), logging_steps=1, eval_strategy="steps", eval_steps=8)
    returned = trainer.train().metrics
    before, swapped = starts[0], 0
    losses = [(logs, masks) for logs, masks in reader.seen if "loss" in logs]
    assert len(losses) == STEPS
    for logs, masks in losses:
        new = sum(int((mask & ~before[name]).sum()) for name, mask in masks.items())
        gone = sum(int((before[name] & ~mask).sum()) for name, mask in masks.items())
        pruned, total = (sum(int(x) for x in sizes) for sizes in zip(*_counts(masks), strict=True))
        assert (logs["pruning/grown"], logs["pruning/pruned"]) == (new, gone)
        assert logs["sparsity/total"] == pytest.approx(pruned / total)
        before, swapped = masks, swapped + new
    assert (swapped > 0) == (isinstance(rule, sp.Rule) and rule.grows)
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    names = {"sparsity/total", "pruning/pruned", "pruning/grown", "pruning/not_prunable", "pruning/rate_factor"}
    assert [{name: logs[name] for name in names} for logs, _ in losses] == [
        {name: entry[name] for name in names} for entry in history
    ]
    # What evaluations and trainings return stays as it was: a search may add it all up.
    assert not names & returned.keys()
    assert not names & trainer.evaluate().keys()
    assert all("sparsity/total" in entry for entry in trainer.state.log_history)


def _counts(masks: dict[str, Tensor]) -> list[tuple[int, int]]:
    return [(int((~mask).sum()), mask.numel()) for mask in masks.values()]


class _Worse(TrainerCallback):
    """Makes every evaluation worse than the one before."""

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        metrics["eval_loss"] = float(state.global_step)


def test_the_best_model_is_chosen_after_the_ramp(tmp_path: Path):
    arguments: dict[str, Any] = {
        "eval_strategy": "steps",
        "eval_steps": 3,
        "save_strategy": "steps",
        "save_steps": 3,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
    }
    stopping = EarlyStoppingCallback(early_stopping_patience=2)
    pruning = SynapticPruning(RAMP)
    trainer = _trainer(tmp_path / "after", _Worse(), pruning, stopping, **arguments)
    trainer.train()
    # The ramp ends at step 12 of 24, so 12 is the first evaluation that counts, and 15 and 18 are worse.
    assert trainer.state.best_global_step == 12
    assert trainer.state.global_step == 18
    assert _zeros(trainer.model, pruning) == pytest.approx(0.9, abs=1e-3)


def test_a_second_training_goes_on_with_the_same_masks(tmp_path: Path):
    pruning = SynapticPruning()
    trainer = _trainer(tmp_path, pruning)
    trainer.train()
    assert pruning.pruner is not None
    masks = pruning.pruner.masks()
    _trainer(tmp_path, pruning, model=trainer.model).train()
    assert differences(pruning.pruner.masks(), masks) == []
    assert pruning.pruner.finished
    _trainer(tmp_path, pruning, max_steps=20).train()  # another network
    assert differences(pruning.pruner.masks(), masks) != []


def test_attached_twice(tmp_path: Path):
    class Another(SynapticPruning):
        pass

    with pytest.raises(ValueError, match="already pruned by another SynapticPruner"):
        _trainer(tmp_path, SynapticPruning(), Another()).train()


def test_a_rule_of_ones_own(tmp_path: Path):
    pruning = SynapticPruning(sp.ToSparsity(sp.one_shot(0.5, at=0.5)), include=["*.self_attn.*.weight"])
    trainer = _trainer(tmp_path, pruning)
    trainer.train()
    assert _zeros(trainer.model, pruning) == 0.5


def test_rates_follow_the_density_within_steps_and_no_log_shows_it(tmp_path: Path):
    stepped: list[float] = []
    seen: list[float] = []

    class Rates(TrainerCallback):
        def on_train_begin(self, *_: Any, optimizer: Any, **__: Any) -> None:
            plain = getattr(optimizer, "optimizer", optimizer)
            plain.register_step_pre_hook(lambda o, *_: stepped.append(o.param_groups[0]["lr"]))

        def on_pre_optimizer_step(self, *_: Any, optimizer: Any, **__: Any) -> None:
            seen.append(optimizer.param_groups[0]["lr"])

    pruning = SynapticPruning(sp.ToSparsity(sp.one_shot(0.5, at=0.5)), every=1, compensate=4)
    trainer = _trainer(tmp_path, pruning, Rates())
    trainer.train()
    assert seen == pytest.approx([0.01 * (1 - step / STEPS) for step in range(STEPS)])  # the Trainer's own schedule
    assert pruning.pruner is not None
    alive, total = pruning.pruner.synapses.count, pruning.pruner.synapses.total
    factors = [1] * (STEPS // 2) + [math.sqrt(total / alive)] * (STEPS // 2)
    assert stepped == [rate * factor for rate, factor in zip(seen, factors, strict=True)]
    assert total / alive == pytest.approx(2, rel=0.01)

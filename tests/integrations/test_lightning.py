"""The callback inside real Trainers of both namespaces."""

import copy
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
import pytorch_lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

import synaptic_pruning as sp
from helpers.lightning_runs import NAMESPACES, QUIET, fit, last, loader, module_of, trainer_of
from helpers.processes.killed_runs import differences
from helpers.small_network import RAMP, STEPS, pruned_are_zero, zeros_of
from synaptic_pruning.integrations.lightning import (
    AfterRamp,
    EarlyStoppingAfterRamp,
    ModelCheckpointAfterRamp,
    SynapticPruning,
    find_pruner,
)

pytestmark = QUIET


@pytest.mark.parametrize("namespace", NAMESPACES.values(), ids=NAMESPACES)
def test_one_line_attaches_it(namespace: Any):
    trainer, module = fit(SynapticPruning(), namespace=namespace)
    pruner = find_pruner(trainer)
    assert pruner.sparsity() == 56 / 70
    assert pruned_are_zero(module, pruner)
    assert find_pruner(module) is find_pruner(trainer)
    assert find_pruner(trainer).steps == find_pruner(trainer).total_steps == STEPS


def test_rates_follow_the_density_within_steps_and_no_callback_sees_it():
    stepped: list[float] = []
    seen: list[float] = []

    class Rates(pytorch_lightning.Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            trainer.optimizers[0].register_step_pre_hook(lambda o, *_: stepped.append(o.param_groups[0]["lr"]))

        def on_before_zero_grad(self, trainer: Any, module: Any, optimizer: Any) -> None:
            seen.append(optimizer.param_groups[0]["lr"])  # within the closure, as in a training_step

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    rule = sp.ToSparsity(sp.one_shot(0.5, at=0.5))
    fit(copy.deepcopy(SynapticPruning(rule, compensate=4)), Rates())
    assert stepped == pytest.approx([0.01] * (STEPS // 2) + [0.01 * 2**0.5] * (STEPS // 2))
    assert set(seen) == {0.01}


@pytest.mark.parametrize("namespace", NAMESPACES.values(), ids=NAMESPACES)
def test_a_step_enters_no_hook_that_does_nothing(namespace: Any):
    entered, called = [], []

    class Record(namespace.profilers.Profiler):
        def start(self, action_name: str) -> None:
            entered.append(action_name)

        def stop(self, action_name: str) -> None:
            pass

    class Mine(SynapticPruning):
        def on_before_backward(self, *arguments: Any) -> None:
            called.append(arguments)

    fit(SynapticPruning(), namespace=namespace, profiler=Record())
    ours = [action for action in entered if action.startswith("[Callback]SynapticPruning.")]
    each_step = {action for action in ours if ours.count(action) >= STEPS}
    assert each_step == {"[Callback]SynapticPruning.on_train_batch_end"}
    fit(copy.deepcopy(Mine()), namespace=namespace)
    assert len(called) == STEPS


def test_same_as_a_plain_loop():
    _, module = fit(SynapticPruning(every=3))
    plain = module_of()
    optimizer = plain.configure_optimizers()
    sp.SynapticPruner(plain, optimizer, total_steps=STEPS, every=3)
    for _ in range(3):
        for batch in loader():
            optimizer.zero_grad()
            plain.training_step(batch, 0).backward()
            optimizer.step()
    assert differences(module.state_dict(), plain.state_dict()) == []


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ({"accumulate_grad_batches": 3}, 9),  # 8 batches an epoch: steps after 3, 6 and the last
        ({"max_epochs": -1, "max_steps": 11}, 11),
        ({"limit_train_batches": 2}, 6),
        ({"precision": "bf16-mixed"}, STEPS),
        ({"gradient_clip_val": 0.1}, STEPS),
    ],
)
def test_the_length_of_training_is_the_trainers(arguments: dict[str, Any], steps: int):
    trainer, module = fit(SynapticPruning(RAMP), **arguments)
    assert find_pruner(trainer).steps == find_pruner(trainer).total_steps == steps
    assert zeros_of(module) == 63 / 70


def test_validation_test_and_prediction_are_left_alone():
    trainer, module = fit(SynapticPruning(), validate=True)
    before = copy.deepcopy(module.state_dict())
    module.test_step = lambda batch, batch_idx: None
    module.predict_step = lambda batch, batch_idx: batch[0]
    trainer.validate(module, loader(), verbose=False)
    trainer.test(module, loader(), verbose=False)
    trainer.predict(module, loader())
    assert differences(module.state_dict(), before) == []
    fresh = trainer_of(SynapticPruning())
    fresh.validate(module_of(), loader(), verbose=False)
    with pytest.raises(ValueError, match="has not trained yet; call fit first"):
        find_pruner(fresh)


class _Logger(pytorch_lightning.loggers.logger.DummyLogger):
    """Keeps what is logged with the sparsity, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, dict[str, float]] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if "sparsity/total" in metrics:
            assert step not in self.seen
            self.seen[step or 0] = dict(metrics)


def test_every_event_is_logged():
    logger = _Logger()
    trainer, _ = fit(SynapticPruning(sp.ToSparsity(sp.linear(0.6, end=0.5)), every=4), logger=logger)
    told = [(step, round(v["sparsity/total"] * 70), v["pruning/pruned"]) for step, v in logger.seen.items()]
    assert told == [(4, 14, 14), (8, 28, 14), (12, 42, 14)]
    assert logger.seen[12].keys() == {
        *("sparsity/total", "sparsity/net.0.weight", "sparsity/net.3.weight"),
        *("pruning/pruned", "pruning/grown", "pruning/not_prunable", "pruning/rate_factor"),
    }
    assert logger.seen[12]["pruning/rate_factor"] == pytest.approx((70 / 28) ** 0.5)
    assert trainer.callback_metrics["sparsity/total"].item() == pytest.approx(0.6)
    assert trainer.callback_metrics["pruning/pruned"].item() == 14


@pytest.mark.parametrize(
    ("rule", "grows"),
    [(sp.SET(0.8), True), (sp.RigL(0.5), True), (sp.Disuse(patience=50), False)],
    ids=["set", "rigl", "disuse that prunes nothing"],
)
def test_events_that_leave_the_sparsity_are_logged_too(rule: sp.Rule, grows: bool):
    """The swaps are counted by hand, from the masks after every batch."""
    swapped: dict[int, int] = {}
    masks: list[dict[str, Tensor]] = []

    class Count(pytorch_lightning.Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            masks.append(find_pruner(trainer).masks())

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            masks.append(find_pruner(trainer).masks())
            swapped[trainer.global_step] = sum(int((new & ~masks[-2][n]).sum()) for n, new in masks[-1].items())

    logger = _Logger()
    fit(SynapticPruning(rule, every=5), Count(), logger=logger)
    events = [
        step for step in range(1, STEPS + 1) if (step % 5 == 0 and step / STEPS < rule.end) or step == STEPS * rule.end
    ]
    assert list(logger.seen) == events
    for step, values in logger.seen.items():
        assert values["pruning/pruned"] == values["pruning/grown"] == swapped[step]
    assert (sum(swapped.values()) > 0) == grows


class _Stopping(AfterRamp, lightning.pytorch.callbacks.EarlyStopping):
    """Of the other namespace."""


@pytest.mark.parametrize(
    ("stopping", "namespace"), [(EarlyStoppingAfterRamp, "pytorch_lightning"), (_Stopping, "lightning")]
)
def test_early_stopping_waits_for_the_ramp(stopping: Any, namespace: str):
    module = NAMESPACES[namespace]
    trainer, _ = fit(
        SynapticPruning(RAMP), stopping("val_loss", patience=2), validate=True, max_epochs=10, namespace=module
    )
    # The ramp ends with step 40 of 80, at the end of epoch 5: its validation is the first to count, and the best.
    assert trainer.current_epoch == 7
    plain = NAMESPACES[namespace].callbacks.EarlyStopping("val_loss", patience=2)
    with pytest.warns(UserWarning, match="training ended at step 24 of total_steps=80"):
        trainer, _ = fit(SynapticPruning(RAMP), plain, validate=True, max_epochs=10, namespace=module)
    assert trainer.current_epoch == 3


def test_the_best_checkpoint_is_chosen_after_the_ramp(tmp_path: Path):
    best = ModelCheckpointAfterRamp(tmp_path / "best", monitor="val_loss", filename="{step}", save_last=True)
    fit(SynapticPruning(RAMP), best, last(tmp_path / "all", 8), validate=True, max_epochs=10)
    assert Path(best.best_model_path).name == "step=40.ckpt"
    saved = torch.load(best.best_model_path, weights_only=True)["state_dict"]
    assert sum(int((w == 0).sum()) for w in saved.values()) == 63
    assert len(list((tmp_path / "all").iterdir())) == 10


def test_waiting_for_a_ramp_that_nobody_makes():
    with pytest.raises(ValueError, match="has no SynapticPruning callback"):
        fit(EarlyStoppingAfterRamp("val_loss"), validate=True)


def test_attached_twice():
    class Another(SynapticPruning):
        pass

    with pytest.raises(ValueError, match="already pruned by another SynapticPruner"):
        fit(SynapticPruning(), Another())
    fit(SynapticPruning())  # the failed fit let go of everything


def test_a_length_that_the_trainer_does_not_know():
    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Any:
            for batch in loader():
                yield from zip(*batch, strict=True)

    def train(callback: SynapticPruning) -> None:
        trainer_of(callback).fit(module_of(), DataLoader(Endless(), batch_size=4))

    with pytest.raises(ValueError, match=r"give it max_steps=, or SynapticPruning .* with total_steps="):
        train(SynapticPruning())
    callback = SynapticPruning(total_steps=STEPS)
    train(callback)
    assert callback.pruner is not None
    assert callback.pruner.finished


def test_two_optimizers():
    module = module_of()
    module.automatic_optimization = False
    module.configure_optimizers = lambda: [
        torch.optim.Adam(part.parameters()) for part in (module.net[0], module.net[3])
    ]
    with pytest.raises(ValueError, match="works with one optimizer and this module has 2"):
        fit(SynapticPruning(), module=module)


def test_an_interrupted_fit_lets_go():
    class Fail(pytorch_lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 5:
                raise RuntimeError("out of memory")

    module = module_of()
    with pytest.raises(RuntimeError, match="out of memory"):
        fit(SynapticPruning(), Fail(), module=module)
    fit(SynapticPruning(), module=module)  # sparse already, it keeps its zeros
    assert zeros_of(module) >= 0.8


def test_a_refused_network_is_let_go():
    module = module_of()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 1  # one strong direction, as training leaves them
    with pytest.raises(ValueError, match="does not look freshly initialised"):
        fit(SynapticPruning(sp.SET(0.8, scaled_start=True)), module=module)
    fit(SynapticPruning(), module=module)


def test_manual_optimization():
    module = module_of()
    module.automatic_optimization = False
    loss = module.training_step

    def training_step(batch: list[Tensor], batch_idx: int) -> None:
        module.optimizers().zero_grad()
        module.manual_backward(loss(batch, batch_idx))
        module.optimizers().step()

    module.training_step = training_step
    trainer, _ = fit(SynapticPruning(RAMP), module=module)
    assert find_pruner(trainer).steps == STEPS
    assert zeros_of(module) == 63 / 70


def test_stochastic_weight_averaging_keeps_the_zeros():
    swa = pytorch_lightning.callbacks.StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=2)
    _, module = fit(SynapticPruning(RAMP), swa, max_epochs=4)
    assert zeros_of(module) == 63 / 70


@pytest.mark.parametrize("namespace", NAMESPACES.values(), ids=NAMESPACES)
@pytest.mark.parametrize("first", [True, False], ids=["averages first", "pruning first"])
@pytest.mark.parametrize("rule", [RAMP, sp.SET(0.8)], ids=["ramp", "set"])
def test_averages_that_are_validated_saved_and_shipped_are_as_sparse(
    namespace: Any, first: bool, rule: sp.Rule, tmp_path: Path
):
    zeros = []
    module = module_of(namespace)
    module.on_validation_epoch_end = lambda: zeros.append(zeros_of(module))
    average = namespace.callbacks.EMAWeightAveraging(decay=0.9)
    pruning = SynapticPruning(rule)
    best = namespace.callbacks.ModelCheckpoint(tmp_path, "best", monitor="val_loss", mode="max")
    order = (average, pruning, best) if first else (best, pruning, average)
    trainer = trainer_of(*order, namespace=namespace, max_epochs=6, num_sanity_val_steps=0)
    trainer.fit(module, loader(), loader())
    wanted = find_pruner(trainer).sparsity()
    # Averages of weights that were grown and got no gradient yet are zeros too.
    assert zeros_of(module) >= wanted
    assert zeros[-1] >= wanted
    assert pruned_are_zero(module, find_pruner(trainer))
    saved = torch.load(tmp_path / "best.ckpt", weights_only=False)["state_dict"]
    for name, mask in find_pruner(trainer).masks().items():
        assert bool((saved[name][~mask] == 0).all())


class _Saved(pytorch_lightning.Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        state = {"weights": pl_module.state_dict(), "masks": find_pruner(trainer).masks()}
        torch.save(state, self.folder / f"{trainer.global_rank}.pt")


@pytest.mark.slow
def test_two_processes_prune_alike(tmp_path: Path):
    fit(SynapticPruning(RAMP, every=1), _Saved(tmp_path), devices=2, strategy="ddp_fork", max_epochs=4)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert differences(first, second) == []
    assert sum(int((~mask).sum()) for mask in first["masks"].values()) == 63

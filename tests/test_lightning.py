"""The callback inside real Trainers of both namespaces."""

import copy
import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
import pytorch_lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import synaptic_pruning as sp
from kills import die, differences, run_until_killed, some_step
from small import dead_are_zero
from synaptic_pruning.integrations.lightning import (
    AfterRamp,
    EarlyStoppingAfterRamp,
    ModelCheckpointAfterRamp,
    SynapticPruning,
    find_pruner,
)

STEPS = 24  # 3 epochs of 8 batches
RAMP = sp.ToSparsity(sp.cubic(0.9, begin=0.05, end=0.5))  # over at half-time: what comes after it is tested too
NAMESPACES = {"pytorch_lightning": pytorch_lightning, "lightning": lightning.pytorch}
pytestmark = [
    # What Lightning says about every training as small as these.
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore::lightning_fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


def _module(namespace: Any = pytorch_lightning, dropout: float = 0.0) -> Any:
    class Module(namespace.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Dropout(dropout), nn.Linear(10, 1))

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            return (self.net(batch[0]) - batch[1]).square().mean()

        def validation_step(self, batch: list[Tensor], _: int) -> None:
            # Grows step by step: the very first validation is the best one.
            self.log("val_loss", float(self.global_step))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.01)

    torch.manual_seed(0)
    return Module()


def _loader() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(32, 6, generator=generator)
    return DataLoader(TensorDataset(x, x[:, :1]), batch_size=4)


def _trainer(*callbacks: Any, namespace: Any = pytorch_lightning, **arguments: Any) -> Any:
    return namespace.Trainer(
        **{
            "max_epochs": 3,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": any(isinstance(c, namespace.callbacks.ModelCheckpoint) for c in callbacks),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": list(callbacks),
            **arguments,
        }
    )


def _fit(*callbacks: Any, module: Any = None, validate: bool = False, **arguments: Any) -> tuple[Any, Any]:
    trainer = _trainer(*callbacks, **arguments)
    module = _module(arguments.get("namespace", pytorch_lightning)) if module is None else module
    trainer.fit(module, _loader(), _loader() if validate else None)
    return trainer, module


def _zeros(module: nn.Module) -> float:
    weights = torch.cat([p.detach().flatten() for p in module.parameters() if p.dim() == 2])
    return int((weights == 0).sum()) / weights.numel()


@pytest.mark.parametrize("namespace", NAMESPACES.values(), ids=NAMESPACES)
def test_one_line_attaches_it(namespace: Any):
    trainer, module = _fit(SynapticPruning(), namespace=namespace)
    pruner = find_pruner(trainer)
    assert pruner.sparsity() == 56 / 70
    assert dead_are_zero(module, pruner)
    assert find_pruner(module) is find_pruner(trainer)
    assert find_pruner(trainer).steps == find_pruner(trainer).total_steps == STEPS


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

    _fit(SynapticPruning(), namespace=namespace, profiler=Record())
    ours = [action for action in entered if action.startswith("[Callback]SynapticPruning.")]
    each_step = {action for action in ours if ours.count(action) >= STEPS}
    assert each_step == {"[Callback]SynapticPruning.on_train_batch_end"}
    _fit(copy.deepcopy(Mine()), namespace=namespace)
    assert len(called) == STEPS


def test_same_as_a_plain_loop():
    _, module = _fit(SynapticPruning(every=3))
    plain = _module()
    optimizer = plain.configure_optimizers()
    sp.SynapticPruner(plain, optimizer, total_steps=STEPS, every=3)
    for _ in range(3):
        for batch in _loader():
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
    trainer, module = _fit(SynapticPruning(RAMP), **arguments)
    assert find_pruner(trainer).steps == find_pruner(trainer).total_steps == steps
    assert _zeros(module) == 63 / 70


def test_validation_test_and_prediction_are_left_alone():
    trainer, module = _fit(SynapticPruning(), validate=True)
    before = copy.deepcopy(module.state_dict())
    module.test_step = lambda batch, batch_idx: None
    module.predict_step = lambda batch, batch_idx: batch[0]
    trainer.validate(module, _loader(), verbose=False)
    trainer.test(module, _loader(), verbose=False)
    trainer.predict(module, _loader())
    assert differences(module.state_dict(), before) == []
    fresh = _trainer(SynapticPruning())
    fresh.validate(_module(), _loader(), verbose=False)
    with pytest.raises(ValueError, match="has not trained yet; call fit first"):
        find_pruner(fresh)


def test_every_event_is_logged():
    class Logger(pytorch_lightning.loggers.logger.DummyLogger):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple[int, dict[str, float]]] = []

        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            self.seen.append((step or 0, dict(metrics)))

    logger = Logger()
    trainer, _ = _fit(SynapticPruning(sp.ToSparsity(sp.linear(0.6, end=0.5)), every=4), logger=logger)
    pruned = [(step, values) for step, values in logger.seen if "sparsity/total" in values]
    assert [(step, round(values["sparsity/total"] * 70)) for step, values in pruned] == [(4, 14), (8, 28), (12, 42)]
    assert pruned[0][1].keys() == {"sparsity/total", "sparsity/net.0.weight", "sparsity/net.3.weight"}
    assert trainer.callback_metrics["sparsity/total"].item() == pytest.approx(0.6)


class _DieAt(pytorch_lightning.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            die()


def _last(folder: Path, every: int = 1) -> Any:
    return pytorch_lightning.callbacks.ModelCheckpoint(
        folder, filename="{step}", every_n_train_steps=every, save_top_k=-1, enable_version_counter=False
    )


def _each_epoch(folder: Path) -> Any:
    """Save at the end of epochs: from the middle of one, Lightning resumes with the epoch's first batches."""
    return pytorch_lightning.callbacks.ModelCheckpoint(
        folder, filename="{step}", save_top_k=-1, enable_version_counter=False, save_on_train_epoch_end=True
    )


def _resumable(folder: Path, dropout: float, *callbacks: Any, ckpt_path: Path | None = None) -> dict[str, Any]:
    trainer = _trainer(SynapticPruning(RAMP, every=2), _each_epoch(folder), *callbacks)
    module = _module(dropout=dropout)
    trainer.fit(module, _loader(), ckpt_path=ckpt_path)
    masks = {name: mask.clone() for name, mask in find_pruner(trainer).masks().items()}
    return {"weights": module.state_dict(), "optimizer": trainer.optimizers[0].state_dict(), "masks": masks}


@pytest.mark.parametrize("step", [some_step(1), pytest.param(some_step(2), marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path, step: int):
    whole = _resumable(tmp_path / "whole", 0.0)
    run_until_killed(_resumable, tmp_path / "killed", 0.0, _DieAt(step))
    checkpoint = max((tmp_path / "killed").glob("*.ckpt"), key=lambda path: int(path.stem.split("=")[1]))
    assert f"step={step // 8 * 8}.ckpt" == checkpoint.name
    assert differences(_resumable(tmp_path / "killed", 0.0, ckpt_path=checkpoint), whole) == []


def test_with_dropout_a_resumed_run_has_the_masks_of_its_checkpoint(tmp_path: Path):
    """Lightning does not save the state of the random numbers, so what is learnt afterwards may differ."""
    _resumable(tmp_path, 0.5)
    checkpoint = tmp_path / "step=16.ckpt"  # the ramp ended at step 12
    saved = torch.load(checkpoint, weights_only=True)["callbacks"]["SynapticPruning"]
    trainer = _trainer(SynapticPruning(RAMP, every=2), _each_epoch(tmp_path))
    trainer.fit(_module(dropout=0.5), _loader(), ckpt_path=checkpoint)
    assert differences(find_pruner(trainer).state_dict()["masks"], saved["masks"]) == []
    assert find_pruner(trainer).steps == STEPS


def test_a_checkpoint_without_masks_is_said(tmp_path: Path):
    trainer = _trainer(_last(tmp_path), max_epochs=1)
    trainer.fit(_module(), _loader())
    with pytest.warns(UserWarning, match="holds no masks of SynapticPruning"):
        _trainer(SynapticPruning(RAMP), _last(tmp_path)).fit(_module(), _loader(), ckpt_path=tmp_path / "step=8.ckpt")


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path):
    _fit(SynapticPruning(), _last(tmp_path))
    checkpoint = torch.load(tmp_path / "step=16.ckpt", weights_only=True)
    state = checkpoint["callbacks"]["SynapticPruning"]
    state["shapes"]["net.9.weight"] = state["shapes"].pop("net.3.weight")
    torch.save(checkpoint, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"net\.3\.weight is missing in the checkpoint"):
        _trainer(SynapticPruning(), _last(tmp_path)).fit(_module(), _loader(), ckpt_path=tmp_path / "other.ckpt")


def test_a_second_fit_goes_on_with_the_same_masks():
    callback = SynapticPruning(RAMP)
    _, module = _fit(callback)
    first = callback.state_dict()
    _fit(callback, module=module)
    assert differences(callback.state_dict()["masks"], first["masks"]) == []
    assert callback.pruner is not None
    assert callback.pruner.finished
    assert _zeros(module) == 63 / 70
    _fit(callback, module=copy.deepcopy(module))  # knows the network by its zeros
    assert differences(callback.state_dict()["masks"], first["masks"]) == []


@pytest.mark.parametrize(
    "rule", [lambda: sp.RigL(0.8), lambda: sp.Disuse(patience=1, threshold=0.8)], ids=["rigl", "disuse"]
)
def test_rules_with_a_memory_resume_and_train_again(tmp_path: Path, rule: Any):
    callback = SynapticPruning(rule())
    trainer, module = _fit(callback, _each_epoch(tmp_path))
    weights, masks = copy.deepcopy(module.state_dict()), find_pruner(trainer).masks()
    resumed = _trainer(SynapticPruning(rule()), _each_epoch(tmp_path))
    other = _module()
    resumed.fit(other, _loader(), ckpt_path=tmp_path / "step=8.ckpt")
    assert differences(other.state_dict(), weights) == []
    assert differences(find_pruner(resumed).masks(), masks) == []
    _fit(callback, module=module, limit_train_batches=1, max_epochs=1)
    assert differences(callback.state_dict()["masks"], find_pruner(resumed).state_dict()["masks"]) == []


def test_an_unfinished_ramp_starts_again_and_gives_nothing_back():
    callback = SynapticPruning(RAMP, total_steps=3 * STEPS, every=1)  # the first fit ends on the ramp
    with pytest.warns(UserWarning, match="training ended at step 24 of total_steps=72"):
        _, module = _fit(callback, limit_train_batches=0.5, max_epochs=6)
    assert callback.pruner is not None
    reached = callback.pruner.sparsity()
    assert 0 < reached < 0.9
    seen = []

    class Watch(pytorch_lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            seen.append(_zeros(module))

    callback.total_steps = None
    _fit(callback, Watch(), module=module)
    assert min(seen) == pytest.approx(reached)
    assert seen[-1] == 63 / 70


def test_another_network_starts_dense():
    callback = SynapticPruning(RAMP)
    _fit(callback)
    seen = []

    class Watch(pytorch_lightning.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
            seen.append(_zeros(module))

    _fit(callback, Watch())
    assert seen[0] == seen[1] == 0
    other = _module()
    other.net = nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 1))
    _fit(callback, module=other)
    assert _zeros(other) == 19 / 21


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies(copied: Any):
    callback = SynapticPruning(sp.ToSparsity(sp.cubic(0.5, end=0.5)), every=2, exclude=["net.3.*"])
    trainer, module = _fit(copied(callback))
    assert callback.pruner is None
    assert find_pruner(trainer).masks().keys() == {"net.0.weight"}
    trained = copied(trainer.callbacks[0])
    assert trained.pruner is None
    _fit(trained, module=module)
    assert differences(trained.state_dict()["masks"], trainer.callbacks[0].state_dict()["masks"]) == []


class _Stopping(AfterRamp, lightning.pytorch.callbacks.EarlyStopping):
    """Of the other namespace."""


@pytest.mark.parametrize(
    ("stopping", "namespace"), [(EarlyStoppingAfterRamp, "pytorch_lightning"), (_Stopping, "lightning")]
)
def test_early_stopping_waits_for_the_ramp(stopping: Any, namespace: str):
    module = NAMESPACES[namespace]
    trainer, _ = _fit(
        SynapticPruning(RAMP), stopping("val_loss", patience=2), validate=True, max_epochs=10, namespace=module
    )
    # The ramp ends with step 40 of 80, at the end of epoch 5: its validation is the first to count, and the best.
    assert trainer.current_epoch == 7
    plain = NAMESPACES[namespace].callbacks.EarlyStopping("val_loss", patience=2)
    with pytest.warns(UserWarning, match="training ended at step 24 of total_steps=80"):
        trainer, _ = _fit(SynapticPruning(RAMP), plain, validate=True, max_epochs=10, namespace=module)
    assert trainer.current_epoch == 3


def test_the_best_checkpoint_is_chosen_after_the_ramp(tmp_path: Path):
    best = ModelCheckpointAfterRamp(tmp_path / "best", monitor="val_loss", filename="{step}", save_last=True)
    _fit(SynapticPruning(RAMP), best, _last(tmp_path / "all", 8), validate=True, max_epochs=10)
    assert Path(best.best_model_path).name == "step=40.ckpt"
    saved = torch.load(best.best_model_path, weights_only=True)["state_dict"]
    assert sum(int((w == 0).sum()) for w in saved.values()) == 63
    assert len(list((tmp_path / "all").iterdir())) == 10


def test_waiting_for_a_ramp_that_nobody_makes():
    with pytest.raises(ValueError, match="has no SynapticPruning callback"):
        _fit(EarlyStoppingAfterRamp("val_loss"), validate=True)


def test_attached_twice():
    class Another(SynapticPruning):
        pass

    with pytest.raises(ValueError, match="already pruned by another SynapticPruner"):
        _fit(SynapticPruning(), Another())
    _fit(SynapticPruning())  # the failed fit let go of everything


def test_a_length_that_the_trainer_does_not_know():
    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Any:
            for batch in _loader():
                yield from zip(*batch, strict=True)

    def fit(callback: SynapticPruning) -> None:
        _trainer(callback).fit(_module(), DataLoader(Endless(), batch_size=4))

    with pytest.raises(ValueError, match=r"give it max_steps=, or SynapticPruning .* with total_steps="):
        fit(SynapticPruning())
    callback = SynapticPruning(total_steps=STEPS)
    fit(callback)
    assert callback.pruner is not None
    assert callback.pruner.finished


def test_two_optimizers():
    module = _module()
    module.automatic_optimization = False
    module.configure_optimizers = lambda: [
        torch.optim.Adam(part.parameters()) for part in (module.net[0], module.net[3])
    ]
    with pytest.raises(ValueError, match="works with one optimizer and this module has 2"):
        _fit(SynapticPruning(), module=module)


def test_an_interrupted_fit_lets_go():
    class Fail(pytorch_lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 5:
                raise RuntimeError("out of memory")

    module = _module()
    with pytest.raises(RuntimeError, match="out of memory"):
        _fit(SynapticPruning(), Fail(), module=module)
    with pytest.raises(ValueError, match="does not look freshly initialised"):
        _fit(SynapticPruning(), module=module)  # nor does this one keep hold of it
    _fit(SynapticPruning(RAMP), module=module)


def test_manual_optimization():
    module = _module()
    module.automatic_optimization = False
    loss = module.training_step

    def training_step(batch: list[Tensor], batch_idx: int) -> None:
        module.optimizers().zero_grad()
        module.manual_backward(loss(batch, batch_idx))
        module.optimizers().step()

    module.training_step = training_step
    trainer, _ = _fit(SynapticPruning(RAMP), module=module)
    assert find_pruner(trainer).steps == STEPS
    assert _zeros(module) == 63 / 70


def test_stochastic_weight_averaging_keeps_the_zeros():
    swa = pytorch_lightning.callbacks.StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=2)
    _, module = _fit(SynapticPruning(RAMP), swa, max_epochs=4)
    assert _zeros(module) == 63 / 70


class _Saved(pytorch_lightning.Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        state = {"weights": pl_module.state_dict(), "masks": find_pruner(trainer).masks()}
        torch.save(state, self.folder / f"{trainer.global_rank}.pt")


@pytest.mark.slow
def test_two_processes_prune_alike(tmp_path: Path):
    _fit(SynapticPruning(RAMP, every=1), _Saved(tmp_path), devices=2, strategy="ddp_fork", max_epochs=4)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert differences(first, second) == []
    assert sum(int((~mask).sum()) for mask in first["masks"].values()) == 63

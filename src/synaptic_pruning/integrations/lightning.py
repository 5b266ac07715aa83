"""Lightning callback: prune in a Trainer of ``pytorch_lightning`` or ``lightning.pytorch``."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch.optim.swa_utils import AveragedModel

from synaptic_pruning.pruner import SynapticPruner
from synaptic_pruning.rules import Rule

_IDLE = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)


class SynapticPruning(Callback):
    """Prune the module while the Trainer trains it: ``Trainer(callbacks=[SynapticPruning()])``.

    A `SynapticPruner` is bound when training starts and detached when it ends; validation, test and prediction are
    left alone. Masks travel in the Trainer's checkpoints. A second ``fit`` of a network that still has its zeros goes
    on with the same masks (a ramp that had ended stays ended, any other starts again from where it was); a network
    without them is started on anew. Averages of weights that other callbacks keep (``WeightAveraging``) are masked
    before they are validated and saved. Each event logs what `SynapticPruner.log` returns and ``sparsity/<parameter>``,
    to every logger and as metrics that other callbacks can monitor.

    Args:
        rule: As for `SynapticPruner`: what is pruned and when, or the final sparsity of `default_rule`.
        total_steps: Optimizer steps of the whole training; default, the Trainer's ``estimated_stepping_batches``.
        every: As for `SynapticPruner`.
        compensate: As for `SynapticPruner`.
        include: As for `SynapticPruner`.
        exclude: As for `SynapticPruner`.

    Raises:
        ValueError: At the start of ``fit``: the length of training is unknown, there is not exactly one optimizer, or
            what `SynapticPruner` refuses.

    Attributes:
        pruner: The pruner of the present or the last ``fit``; None before.

    Example:
        >>> import synaptic_pruning as sp
        >>> trainer = pl.Trainer(max_epochs=3, callbacks=[SynapticPruning(sp.ToSparsity(sp.cubic(0.7, end=0.5)))],
        ...                      accelerator="cpu", logger=False, enable_checkpointing=False)  # doctest: +SKIP
        >>> trainer.fit(module, loader)  # doctest: +SKIP
        >>> find_pruner(trainer).sparsity()  # doctest: +SKIP
        0.7
    """

    def __init__(
        self,
        rule: Rule | float = 0.8,
        *,
        total_steps: int | None = None,
        every: int | None = None,
        compensate: float | None = None,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> None:
        self.rule = rule
        self.total_steps = total_steps
        self.every = every
        self.compensate = compensate
        self.include = include
        self.exclude = exclude
        self.pruner: SynapticPruner | None = None
        self._logged = 0  # the event
        self._state: dict[str, Any] = {}  # of the last fit, or of a checkpoint
        self._resuming = False
        # Lightning opens a profiler's context for every hook that can be called, which in a small network is half a
        # percent of a step for five that do nothing.
        for name in _IDLE:
            if getattr(type(self), name) is getattr(Callback, name):
                setattr(self, name, None)

    def state_dict(self) -> dict[str, Any]:
        """Return the pruner's state as plain values and tensors."""
        return self._state if self.pruner is None else self.pruner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a checkpoint's state until training starts."""
        self.pruner = None
        self._state = state_dict
        self._resuming = bool(state_dict)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say so when the checkpoint has no masks; `load_state_dict` is not called then."""
        if not checkpoint.get("callbacks", {}).get(self.state_key):
            warnings.warn(
                "the checkpoint holds no masks of SynapticPruning, so pruning starts anew, as on any trained network; "
                "resume from one that was written with this callback in the Trainer",
                stacklevel=2,
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bind to the module and its optimizer."""
        if len(trainer.optimizers) != 1:
            raise ValueError(
                f"SynapticPruning works with one optimizer and this module has {len(trainer.optimizers)}; "
                "create a SynapticPruner for each in the module's on_train_start instead"
            )
        state = self.state_dict()
        self.pruner = SynapticPruner(
            pl_module,
            trainer.optimizers[0],
            copy.deepcopy(self.rule),  # a rule with a memory serves one training
            total_steps=_length(trainer) if self.total_steps is None else self.total_steps,
            every=self.every,
            compensate=self.compensate,
            include=self.include,
            exclude=self.exclude,
            state=state if self._resuming else None,
            earlier=state if state and not self._resuming else None,
        )
        self._resuming = False
        self._logged = self.pruner.last_event

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the event, where this batch's step was one."""
        assert self.pruner is not None
        if self.pruner.last_event == self._logged:
            return
        self._logged = self.pruner.last_event
        values = {f"sparsity/{layer.name}": 1 - layer.count / layer.size for layer in self.pruner.synapses.layers}
        values |= self.pruner.log()
        # Not through module.log: its loggers would see only the events that fall on a logging step.
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        trainer.callback_metrics.update(
            {name: torch.tensor(value, dtype=torch.float32, device="cpu") for name, value in values.items()}
        )

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mask the averages, so that what is validated is as sparse as what is shipped."""
        self._mask_averages(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Mask the averages, whose tensors the checkpoint holds."""
        self._mask_averages(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Detach; the module keeps its zeros, also where averages of earlier weights were put into it just now."""
        if self.pruner is not None:
            self.pruner.apply_masks(pl_module)
            self.pruner.remove()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Detach without a word about the early end, which has its own."""
        if self.pruner is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.pruner.remove()

    def _mask_averages(self, trainer: pl.Trainer) -> None:
        """Zero the pruned weights in the averages that other callbacks keep of the module."""
        if self.pruner is None:
            return
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        for average in [value for callback in callbacks for value in vars(callback).values()]:
            if isinstance(average, AveragedModel) and type(average.module) is type(trainer.lightning_module):
                self.pruner.apply_masks(average)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the pruner, which belongs to one optimizer, behind in copies and pickles: they take its state."""
        lent = ("log", "log_dict")  # the module's, by Lightning
        own = {name: value for name, value in self.__dict__.items() if name not in lent}
        return {**own, "pruner": None, "_state": self.state_dict()}


class AfterRamp:
    """Makes an early stopping or checkpoint callback wait until the ramp of `SynapticPruning` has ended.

    Until then early stopping does not look at its metric and no best checkpoint is chosen, for the weights are not yet
    the ones to be shipped. To resume an interrupted ramp, keep another, plain ``ModelCheckpoint`` without a monitor.

    Example:
        >>> from lightning.pytorch.callbacks import EarlyStopping  # doctest: +SKIP
        >>> class PatientStopping(AfterRamp, EarlyStopping):  # doctest: +SKIP
        ...     '''Early stopping of the other namespace.'''
    """

    def _should_skip_check(self, trainer: pl.Trainer) -> bool:
        skip: bool = super()._should_skip_check(trainer)  # type: ignore[misc]
        return skip or not find_pruner(trainer).ramp_finished

    def _save_topk_checkpoint(self, trainer: pl.Trainer, monitor_candidates: dict[str, Any]) -> None:
        if find_pruner(trainer).ramp_finished:
            super()._save_topk_checkpoint(trainer, monitor_candidates)  # type: ignore[misc]


class EarlyStoppingAfterRamp(AfterRamp, EarlyStopping):
    """Lightning's ``EarlyStopping`` that waits for the ramp; see `AfterRamp`."""


class ModelCheckpointAfterRamp(AfterRamp, ModelCheckpoint):
    """Lightning's ``ModelCheckpoint`` whose best checkpoints wait for the ramp; see `AfterRamp`."""


def find_pruner(source: Any) -> SynapticPruner:
    """Return the pruner at work on a Trainer or a module, also where a framework trains a copy of the callback.

    Args:
        source: A Trainer, the module it trains or has trained, or a NeuralForecast model.

    Raises:
        ValueError: No `SynapticPruning` is attached, or it has not trained yet.
    """
    trainer = getattr(source, "_trainer", None) or source
    callbacks = getattr(trainer, "callbacks", None) or getattr(source, "trainer_kwargs", {}).get("callbacks") or []
    found = [callback for callback in callbacks if isinstance(callback, SynapticPruning)]
    if not found:
        raise ValueError(
            f"this {type(source).__name__} has no SynapticPruning callback; give it callbacks=[SynapticPruning()]"
        )
    if found[0].pruner is None:
        raise ValueError("SynapticPruning has not trained yet; call fit first, in this process")
    return found[0].pruner


def _length(trainer: pl.Trainer) -> int:
    steps = trainer.estimated_stepping_batches
    if not 0 < steps < float("inf"):
        raise ValueError(
            "the Trainer does not know how long it will train; give it max_steps=, "
            "or SynapticPruning the number of optimizer steps with total_steps="
        )
    return int(steps)

"""Hugging Face callback: prune in a ``transformers.Trainer``, with masks in its checkpoint folders."""

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from synaptic_pruning.core import gather
from synaptic_pruning.pruner import SynapticPruner
from synaptic_pruning.rules import Rule

FILE = "synaptic_pruning.pt"


class SynapticPruning(TrainerCallback):
    """Prune the model while the Trainer trains it: ``Trainer(..., callbacks=[SynapticPruning()])``.

    Masks are written into every checkpoint folder as ``synaptic_pruning.pt`` and read again on
    ``train(resume_from_checkpoint=...)``. Until the ramp has ended no evaluation counts as the best one, so that early
    stopping and ``load_best_model_at_end`` look only at weights as sparse as those to be shipped. A second ``train`` of
    a model that still has its zeros goes on with the same masks; see ``earlier`` of `SynapticPruner`.

    What `SynapticPruner.log` returns is added to every log of the training loss, in ``log_history`` and for callbacks
    that come after this one. The Trainer puts those of ``report_to`` before it, so pass them in ``callbacks`` instead;
    see docs/guides/logging.md. Other entries of ``log_history`` have ``sparsity/total`` alone.

    Args:
        rule: As for `SynapticPruner`: what is pruned and when, or the final sparsity of `default_rule`.
        every: As for `SynapticPruner`.
        compensate: As for `SynapticPruner`.
        include: As for `SynapticPruner`.
        exclude: As for `SynapticPruner`.
        resume_from: The checkpoint folder of a resumed training, where it is not ``checkpoint-<step>`` in the Trainer's
            ``output_dir``.

    Raises:
        ValueError: At the start of ``train``: the checkpoint folder has no masks, or what `SynapticPruner` refuses.

    Attributes:
        pruner: The pruner of the present or the last ``train``; None before.

    Example:
        >>> pruning = SynapticPruning()
        >>> trainer = Trainer(model, arguments, train_dataset=data, callbacks=[pruning])  # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP
        >>> pruning.pruner.sparsity()  # doctest: +SKIP
        0.8
    """

    def __init__(
        self,
        rule: Rule | float = 0.8,
        *,
        every: int | None = None,
        compensate: float | None = None,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        resume_from: str | os.PathLike[str] | None = None,
    ) -> None:
        self.rule = rule
        self.every = every
        self.compensate = compensate
        self.include = include
        self.exclude = exclude
        self.resume_from = resume_from
        self.pruner: SynapticPruner | None = None
        self._waiting = True

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        **kwargs: Any,
    ) -> None:
        """Bind to the model and its optimizer; on resume take the masks of the checkpoint."""
        assert model is not None
        assert optimizer is not None
        resumed = self._read(args, state) if state.global_step > 0 else None
        earlier = None
        if self.pruner is not None:
            earlier = self.pruner.state_dict()
            self.pruner.remove()
        self.pruner = SynapticPruner(
            model,
            optimizer,
            copy.deepcopy(self.rule),  # a rule with a memory serves one training
            total_steps=state.max_steps,
            every=self.every,
            compensate=self.compensate,
            include=self.include,
            exclude=self.exclude,
            state=resumed,
            earlier=earlier if resumed is None else None,
        )
        self._waiting = not self.pruner.ramp_finished

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Forget the best evaluation as long as the ramp has not ended."""
        assert self.pruner is not None
        if self._waiting:
            state.best_metric = state.best_model_checkpoint = state.best_global_step = None
            self._waiting = not self.pruner.ramp_finished

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note the pruning since the last log of a loss, or the sparsity alone beside evaluations and at the end."""
        if self.pruner is None:
            return
        values = {"sparsity/total": self.pruner.sparsity()}
        # Other logs are returned as metrics, whose sum may be what a search minimises: they stay as they are.
        if logs is not None and "loss" in logs:
            values = self.pruner.log()
            logs.update(values)
        if state.log_history:
            state.log_history[-1].update(values)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the masks into the checkpoint folder."""
        assert self.pruner is not None
        masks = gather(self.pruner.state_dict())
        folder = _folder(args, state)
        if state.is_world_process_zero and folder.is_dir():
            unfinished = folder / f"{FILE}.unfinished"
            torch.save(masks, unfinished)
            unfinished.replace(folder / FILE)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Detach; the model keeps its zeros."""
        assert self.pruner is not None
        self.pruner.remove()

    def _read(self, args: TrainingArguments, state: TrainerState) -> dict[str, Any]:
        folder = _folder(args, state) if self.resume_from is None else Path(self.resume_from)
        if not (folder / FILE).is_file():
            raise ValueError(
                f"there are no masks at {folder / FILE}, so training cannot be resumed; give SynapticPruning the "
                "folder of the checkpoint with resume_from="
            )
        found: dict[str, Any] = torch.load(folder / FILE, weights_only=True)
        return found


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir or ".") / f"checkpoint-{state.global_step}"

"""Keep the books of one training, whatever its task: history, status, and the weights worth keeping."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from synaptic_pruning import Summary

Status = Literal["ok", "nan-loss", "pruner-unfinished"]
"""How a training ended: well, with a loss that was no longer finite, or before the final sparsity was reached."""


class Pruner(Protocol):
    """What training asks of a pruner; it hooks itself onto the optimizer."""

    @property
    def ramp_finished(self) -> bool:
        """True once the final sparsity is reached, whether or not masks still change."""

    def sparsity(self) -> float:
        """Return the share of the prunable weights that are pruned, in [0, 1]."""

    def summary(self) -> Summary:
        """Return what is alive in every layer."""


Attach = Callable[[nn.Module, Optimizer, int], Pruner]
"""``attach(model, optimizer, total_steps)`` puts a pruner on a network."""


class Kept(NamedTuple):
    """The weights that a training leaves in the model.

    Attributes:
        epoch: After which they were copied, from 1 on; 0 is the start.
        sparsity: Share of the prunable weights that are pruned, in [0, 1].
        state: Copy of the model's ``state_dict``.
    """

    epoch: int
    sparsity: float
    state: dict[str, Tensor]


class TrainingLog:
    """What happened in one training so far, and the weights to leave in the model.

    No epoch may be the best until the pruner's ramp is finished, so that what is evaluated has its final sparsity.
    Until then the last epoch is kept, and ``patience`` does not count. Masks that still change at that sparsity, as
    those of a growth rule do, are no reason to wait.

    Args:
        model: The network in training.
        pruner: What prunes it, or None.
        epochs: Number of epochs after which training ends, at least 1.
        measure: Name of the validation measure in the history.
        higher_is_better: Whether a larger measure is the better one.
        keep: ``"best"`` leaves the epoch with the best measure in the model, ``"last"`` the last one.
        patience: Epochs without improvement after which training ends, at least 1; None never ends it early.

    Attributes:
        history: One dict an epoch: epoch, train_loss, the measure, sparsity, seconds (training steps only).
        seconds: Sum of those seconds.
        status: Other than ``"ok"`` it comes with a ``reason``.
        kept: The weights to leave in the model.
        ended: True once no further epoch is to come.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> log = TrainingLog(model, None, epochs=2, measure="accuracy", higher_is_better=True)
        >>> log.end_epoch(loss=0.5, measured=0.9, seconds=1.0)
        >>> log.end_epoch(loss=0.4, measured=0.8, seconds=1.0)
        >>> log.close()
        >>> log.kept.epoch, log.status, log.seconds, log.ended
        (1, 'ok', 2.0, True)
    """

    def __init__(
        self,
        model: nn.Module,
        pruner: Pruner | None,
        *,
        epochs: int,
        measure: str,
        higher_is_better: bool = False,
        keep: Literal["best", "last"] = "best",
        patience: int | None = None,
    ) -> None:
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0
        self.status: Status = "ok"
        self.reason = ""
        self.ended = False
        self._model, self._pruner = model, pruner
        self._epochs, self._keep, self._patience = epochs, keep, patience
        self._measure, self._sign = measure, -1 if higher_is_better else 1
        self._smallest = math.inf
        self.kept = self._copy(0, self._sparsity())

    def end_epoch(self, loss: float, measured: float, seconds: float) -> None:
        """Enter an epoch and keep its weights where they are the best so far.

        Args:
            loss: Mean loss of the epoch's batches, not finite where training had to stop.
            measured: The measure on validation data; one that is not finite ends training as such a loss does.
            seconds: Time of the training steps.
        """
        epoch, sparsity = len(self.history) + 1, self._sparsity()
        self.seconds += seconds
        self.history.append(
            {"epoch": epoch, "train_loss": loss, self._measure: measured, "sparsity": sparsity, "seconds": seconds}
        )
        error = self._sign * measured
        if not (math.isfinite(loss) and math.isfinite(measured)):
            self.status = "nan-loss"
            self.reason = f"the loss was no longer finite in epoch {epoch}; lower the learning rate."
            self.ended = True
        elif not self._ramp_finished():
            self.kept = self._copy(epoch, sparsity)
        elif error < self._smallest or self._keep == "last":
            self._smallest, self.kept = error, self._copy(epoch, sparsity)
        elif self._patience is not None and epoch - self.kept.epoch >= self._patience:
            self.ended = True
        self.ended |= epoch == self._epochs

    def close(self) -> None:
        """Leave the kept weights in the model, in eval mode, and settle the status."""
        if self.status == "ok" and not self._ramp_finished():
            self.status = "pruner-unfinished"
            self.reason = (
                f"the pruner had not reached its final sparsity after {len(self.history)} epochs; "
                "train longer or end its schedule earlier."
            )
        self._model.load_state_dict(self.kept.state)
        self._model.eval()

    def _ramp_finished(self) -> bool:
        return self._pruner is None or self._pruner.ramp_finished

    def _sparsity(self) -> float:
        return self._pruner.sparsity() if self._pruner else 0.0

    def _copy(self, epoch: int, sparsity: float) -> Kept:
        state = {name: value.detach().clone() for name, value in self._model.state_dict().items()}
        return Kept(epoch, sparsity, state)

"""Tie a rule to a model and its optimizer: one line in a training script."""

import warnings
import weakref
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from synaptic_pruning.core.history import History
from synaptic_pruning.core.prunable import unwrap
from synaptic_pruning.core.sharding import count_true
from synaptic_pruning.core.summary import Summary
from synaptic_pruning.core.synapses import Synapses
from synaptic_pruning.pruner.adam_moments import LIFT_EVERY, Roots
from synaptic_pruning.pruner.enforcement import Silence
from synaptic_pruning.pruner.initial_masks import Start
from synaptic_pruning.pruner.optimizer_state import clean, innermost, skipped, untraced
from synaptic_pruning.pruner.ownership import claim, release
from synaptic_pruning.rules.base import Rule
from synaptic_pruning.rules.dynamic.random_growth import SET

_EVENTS = 50  # by default, over the whole of training: finer than a ramp needs, too few to cost time
_FORMAT = 1


def default_rule() -> Rule:
    """Return the default recipe: a fifth of the weights from the first step on, the weakest giving way to new ones.

    It is for fresh networks, and trains best at about twice the learning rate of the dense one; on weights that look
    trained it raises `ValueError` at the first step. Prune those with ``ToSparsity(cubic(0.8, begin=0.3, end=0.8))``.
    What both were chosen on: docs/recipe.md.
    """
    return SET(0.8, scaled_start=True)


class SynapticPruner:
    """Prune a model while it trains: hooks into the optimizer, so no other line of the training loop changes.

    After every real optimizer step (not after each batch under gradient accumulation, not after a step that mixed
    precision skipped) dead weights are set back to exactly zero; at events the rule takes more. What the optimizer
    remembers of a dead weight is zeroed when it dies and its gradient is zeroed from then on, before anything such as
    clipping sees it (of sharded parameters, and at the events of a rule that grows: only before the step).
    The model itself stays untouched: same modules, parameters, names and ``state_dict``.

    Args:
        model: The network, plain, wrapped by ``torch.compile`` or DistributedDataParallel, or sharded by
            ``fully_shard`` (FSDP2) or tensor parallelism; attach the pruner after wrapping and sharding.
        optimizer: The optimizer that trains it, plain or wrapped by Accelerate or Lightning; it must hold every
            prunable parameter.
        rule: What dies when; default `default_rule`, for fresh networks.
        total_steps: Optimizer steps of the whole training, at least 1.
        every: Steps between events; default one fiftieth of training.
        include: Name patterns of the only parameters to prune, instead of the default choice.
        exclude: Name patterns of parameters to leave alone.
        state: What `state_dict` returned, to go on from with a model and an optimizer that are loaded already.
        earlier: What `state_dict` returned after an earlier training of this network: start with its masks, and stay at
            them if its ramp had ended. Ignored for a network that has weights where those masks have none.

    Raises:
        ValueError: An argument out of range, nothing to prune, a prunable parameter that the optimizer lacks or that
            another pruner holds; at the first step, a rule for fresh networks on weights that have learnt something, or
            weights put into the network after the pruner had removed some.

    Attributes:
        steps: Real optimizer steps seen so far.

    Example:
        >>> import synaptic_pruning as sp
        >>> net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        >>> optimizer = torch.optim.Adam(net.parameters())
        >>> pruner = sp.SynapticPruner(net, optimizer, total_steps=200)
        >>> for _ in range(200):
        ...     loss = net(torch.randn(4, 8)).square().mean()
        ...     optimizer.zero_grad(); loss.backward(); optimizer.step()
        >>> round(pruner.sparsity(), 2), pruner.finished
        (0.8, True)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        rule: Rule | None = None,
        *,
        total_steps: int,
        every: int | None = None,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        state: Mapping[str, Any] | None = None,
        earlier: Mapping[str, Any] | None = None,
    ) -> None:
        _check_steps("total_steps", total_steps, "the number of optimizer steps you will take, epochs × batches")
        if every is not None:
            _check_steps("every", every, "the number of optimizer steps between events")
        self.rule = default_rule() if rule is None else rule
        self.synapses = Synapses(model, include, exclude, biases=self.rule.biases)
        if self.synapses.sharded and not self.rule.shardable:
            raise ValueError(
                f"{type(self.rule).__name__} needs whole parameters and {self.synapses.sharded} is sharded over "
                "several processes; take ToSparsity, or train with DistributedDataParallel"
            )
        self.optimizer = innermost(optimizer)
        self.total_steps = total_steps
        self.every = max(1, total_steps // _EVENTS) if every is None else every
        self.steps = 0
        self._finished = False
        claim(self.synapses.layers, self.optimizer, self)
        try:
            self._start = Start(self.rule, model, self.synapses, earlier=earlier, resumed=state is not None)
            self.history = History(self.synapses, grows=self.rule.grows)
            self._silence = Silence(self.synapses.layers)
            self._roots = Roots(self.synapses.layers, self.optimizer)
            if state is not None:
                self.load_state_dict(state)
        except BaseException:
            release(self.synapses.layers, self)
            raise
        self._finished |= self._start.finished
        self._next = self._next_event()
        self._silence_all()
        self._hooks = [
            self.optimizer.register_step_pre_hook(untraced(self._before_step)),
            self.optimizer.register_step_post_hook(untraced(self._after_step)),
            self.optimizer.register_state_dict_pre_hook(lambda _: self._roots.lower()),
        ]
        # A pruner that is dropped with its optimizer must not live on in the gradients of the model.
        weakref.finalize(self, self._silence.not_at_backward).atexit = False
        self._before_backward()

    @property
    def finished(self) -> bool:
        """True once the rule's last event has passed: from then on the masks stand still."""
        return self._finished

    @property
    def ramp_finished(self) -> bool:
        """True once the final sparsity is reached: from then on a checkpoint is as small as the last one will be.

        Same as `finished`, but of rules that go on to swap weights at that sparsity (`RigL` from its first step).
        """
        last_event = self.steps - self.steps % self.every
        return self._finished or self._progress(last_event) >= self.rule.ramp_end

    def sparsity(self) -> float:
        """Return the fraction of prunable weights that are gone, in [0, 1]."""
        return self.synapses.sparsity

    def masks(self) -> dict[str, Tensor]:
        """Return a copy of each mask by parameter name: bool, the parameter's shape, True = alive."""
        return self.synapses.masks()

    def summary(self) -> Summary:
        """Return a table a layer: weights, alive, sparsity, dead units, births, deaths, mean age; see `Summary`."""
        return Summary.of(self.synapses, self.history, self.steps)

    def apply_masks(self, model: nn.Module) -> None:
        """Zero the dead weights in another copy of the model, such as a moving average that still remembers them.

        Raises:
            ValueError: The copy lacks a pruned parameter, or has it in another shape; nothing was changed.
        """
        model = model.module if isinstance(model, torch.optim.swa_utils.AveragedModel) else model
        theirs = dict(unwrap(model).named_parameters(remove_duplicate=False))
        for layer in self.synapses.layers:
            if layer.name not in theirs or theirs[layer.name].shape != layer.parameter.shape:
                raise ValueError(
                    f"model has no parameter {layer.name} of shape {tuple(layer.parameter.shape)}; give a copy"
                )
        with torch.no_grad():
            for layer in self.synapses.layers:
                layer.silence(theirs[layer.name])

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain values and tensors (``torch.load(weights_only=True)`` reads it)."""
        return {
            "format": _FORMAT,
            "steps": self.steps,
            "total_steps": self.total_steps,
            "finished": self._finished,
            "rule": type(self.rule).__name__,
            "memory": self.rule.state_dict(),
            "history": self.history.state_dict(),
            **self.synapses.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; call it after the model's and the optimizer's own ``load_state_dict``.

        Raises:
            ValueError: The checkpoint is not a pruner's, or belongs to another model (the names that differ are given),
                or the pruner was attached to loaded weights and has zeroed them; nothing was loaded.
        """
        if state.get("format") != _FORMAT:
            raise ValueError(
                f"state has format {state.get('format')!r}, not {_FORMAT}: give what SynapticPruner.state_dict returned"
            )
        if state["rule"] != type(self.rule).__name__:
            raise ValueError(
                f"the checkpoint was made with the rule {state['rule']} and this pruner has "
                f"{type(self.rule).__name__}; give the pruner the same rule"
            )
        self._start.give_way(self.synapses.read_masks(state))
        self.rule.load_state_dict(state["memory"])
        self.history.load_state_dict(state["history"])
        self.steps = int(state["steps"])
        self._finished = bool(state["finished"])
        self._next = self._next_event()
        if state["total_steps"] != self.total_steps:
            warnings.warn(
                f"the checkpoint was made with total_steps={state['total_steps']} and this pruner has "
                f"{self.total_steps}; the schedule goes on with the new length",
                stacklevel=2,
            )
        self._silence_all()
        self._before_backward()

    def remove(self) -> None:
        """Detach from the optimizer; the model keeps its plain zeros, and weights may move again from now on."""
        if not self._hooks:
            return
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._silence.not_at_backward()
        self._roots.lower()
        self.rule.detach()
        release(self.synapses.layers, self)
        if self.steps > 0 and not self.ramp_finished:
            warnings.warn(
                f"training ended at step {self.steps} of total_steps={self.total_steps}, before the end of the ramp, "
                f"at {self.sparsity():.1%} sparsity; set total_steps to the number of optimizer steps you take",
                stacklevel=2,
            )

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        if self.steps == 0:
            self._start.check()
        if self.steps % LIFT_EVERY == 0 or self.steps == self.history.last:
            self._roots.lift()
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self._gradients_are_there()
            return None

        def then() -> Any:
            loss = closure()
            self._gradients_are_there()
            return loss

        return args[:1], {**kwargs, "closure": then}

    def _gradients_are_there(self) -> None:
        if self.steps + 1 == self._next:
            self.rule.before_event(self.synapses)
        self._silence.other_gradients()

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if self.synapses.layers[0].parameter.is_cuda and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "optimizer.step() is being captured in a CUDA graph, which would replay it without the pruner; leave "
                "the step out of the graph"
            )
        if skipped(optimizer):
            return
        self.steps += 1
        if self.steps == self.total_steps + 1:
            warnings.warn(
                f"this is step {self.steps} but total_steps={self.total_steps}; the schedule stays at its end from "
                "here on; set total_steps to the number of optimizer steps you take",
                stacklevel=2,
            )
        if not self._finished:
            self.rule.observe(self.synapses)
        if self.steps == self._next:
            self._event(self._progress(self.steps))
            self._next = self._next_event()
        else:
            self._silence.weights()
        if self.steps == self.total_steps:
            self._roots.lower()
        if self.rule.grows:
            self._before_backward()

    def _before_backward(self) -> None:
        """Have dead gradients silenced at backward, but not where a rule that grows will ask for them."""
        if self.rule.grows and self.steps + 1 == self._next:
            self._silence.not_at_backward()
        else:
            self._silence.at_backward()

    def _progress(self, step: int) -> float:
        return min(1.0, step / self.total_steps)

    def _next_event(self) -> int | None:
        """Return the first step after this one that is a multiple of ``every`` or past the rule's end."""
        if self._finished:
            return None
        end = bisect_left(range(self.total_steps), self.rule.end, key=self._progress)
        return max(self.steps + 1, min(end, self.steps + self.every - self.steps % self.every))

    def _event(self, progress: float) -> None:
        self.synapses.follow()
        masks = self.rule.update(self.synapses, progress)
        changed = any(mask is not layer.alive for layer, mask in zip(self.synapses.layers, masks, strict=True))
        if not changed and not self.rule.grows:
            self.history.record(self.steps, masks)
            self._finished = progress >= self.rule.end
            self._silence.weights()
            return
        if self.rule.grows:
            self._silence_all()  # so that newborn weights start at zero, with nothing remembered of them
        else:
            born = count_true([mask > layer.alive for layer, mask in zip(self.synapses.layers, masks, strict=True)])
            revived = next((layer for layer, n in zip(self.synapses.layers, born, strict=True) if n), None)
            if revived is not None:
                raise ValueError(
                    f"{type(self.rule).__name__} revived weights of {revived.name} without grows = True; set it"
                )
        self.synapses.keep(masks, counts=self.history.record(self.steps, masks))
        self._finished = progress >= self.rule.end
        self._silence_all()

    def _silence_all(self) -> None:
        self._silence.refresh()
        self._roots.refresh()
        self._silence.weights()
        self._silence.gradients()
        clean(self.synapses.layers, self.optimizer)


def _check_steps(argument: str, value: int, meaning: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{argument}={value!r} must be a whole number of at least 1: {meaning}")

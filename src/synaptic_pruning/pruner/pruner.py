"""SynapticPruner: tie a rule to a model and its optimizer with one line, and run its steps, events and checkpoints."""

import warnings
import weakref
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from synaptic_pruning.core import History, Summary, Synapses, unwrap
from synaptic_pruning.pruner.compensation import Compensation, check_limit, may_compensate
from synaptic_pruning.pruner.enforcement import MaskEnforcer
from synaptic_pruning.pruner.initial_masks import check_no_weights_loaded, check_start, earlier_masks, restore_rule
from synaptic_pruning.pruner.optimizer_state import reset_pruned_state
from synaptic_pruning.pruner.optimizer_steps import MissingSteps, OptimizerSteps, find_holder, skipped, unwrap_optimizer
from synaptic_pruning.pruner.ownership import claim, release
from synaptic_pruning.rules import Rule, ToSparsity, cubic

_EVENTS = 50  # by default, over the whole of training: finer than a ramp needs, too few to cost time
_LEAST_STEPS = 100  # of the default ramp: weights must have left their random start before they are ranked
_TOTAL = "the number of optimizer steps you will take, epochs × batches"
_FORMAT = 1
_UNKNOWN_SHARE = 0.1
"""From this part of the network's weights on, a word is said about those in layers of no known type."""


def default_rule(sparsity: float = 0.8, *, total_steps: int) -> ToSparsity:
    """Return the default rule: dense at first, the smallest weights go for good early in training.

    That is over the first 5 % of training, or 100 steps if that is more, but half of training at most. Weights are
    ranked over the whole network, by magnitude relative to the scale that their layer started with. What stays learns
    on, at learning rates that the pruner raises as the density falls, so that they stay yours to set for the dense
    network. What it was chosen on: docs/recipe.md.

    Args:
        sparsity: Final part of the prunable weights that are pruned, in [0, 0.99].
        total_steps: Optimizer steps of the whole training, at least 1.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> default_rule(total_steps=400).schedule.preview(5)
        [(0.0, 0.0), (0.25, 0.8), (0.5, 0.8), (0.75, 0.8), (1.0, 0.8)]
        >>> default_rule(0.5, total_steps=10_000).end
        0.05
    """
    _check_steps("total_steps", total_steps, _TOTAL)
    return ToSparsity(cubic(sparsity, end=max(0.05, min(0.5, _LEAST_STEPS / total_steps))), score="relative")


class SynapticPruner:
    """Prune a model while it trains: hooks into the optimizer, so no other line of the training loop changes.

    A real step is one that the optimizer takes: not each batch under gradient accumulation, and none that mixed
    precision skips. After it, pruned weights are set back to exactly zero. At events the rule may change the masks.
    What the optimizer keeps of a weight is zeroed when it is pruned, but for second moments, which move nothing, unless
    weights may grow again. Its gradient is zeroed from then on, before clipping and the like see it. (Of sharded
    parameters, and before the events of a rule that grows, that happens only just before the step.) The model itself
    stays untouched: same modules, parameters, names and ``state_dict``.

    ``model``, ``optimizer`` and pruner may be loaded from checkpoints in any order, at any step.

    Args:
        model: The network, plain, wrapped by ``torch.compile`` or DistributedDataParallel, or sharded by
            ``fully_shard`` (FSDP2) or tensor parallelism; attach the pruner after wrapping and sharding.
        optimizer: The optimizer that trains it, plain or wrapped by Accelerate or Lightning; it must hold every
            prunable parameter.
        rule: What is pruned and when. A number is the final sparsity of `default_rule`, in [0, 0.99].
        total_steps: Optimizer steps of the whole training, at least 1.
        every: Steps between events; default one fiftieth of training.
        compensate: Largest factor of the learning rates, at least 1; 1 leaves them alone. While a step runs, those of
            all parameter groups are multiplied by ``min(1 / √density, compensate)``, the density being the part of the
            prunable weights that is alive. So what stays learns faster. Outside of steps, and in closures, rates are as
            you and your scheduler set them. Decay that is multiplied by the rate (``AdamW``) grows with it. Default:
            that of the rule, 4 for `ToSparsity` and rules that drop and grow, 1 for others. Then rates that another
            pruner multiplies are left alone.
        include: Name patterns of the only parameters to prune, instead of the default choice.
        exclude: Name patterns of parameters to leave alone.
        state: What `state_dict` returned, to *resume this training*; the same as `load_state_dict` right after.
        earlier: What `state_dict` returned at the end of an earlier training, to *start a new one with its masks*. It
            stays at them if that ramp had ended. Ignored for a network that has weights where those masks have none.

    Raises:
        ValueError: An argument out of range, nothing to prune, a prunable parameter that the optimizer lacks or that
            another pruner holds, rates to compensate that are missing or that another pruner compensates, a state that
            does not fit, or a rule for fresh networks on weights that have learnt something; nothing was changed. At
            the first step: weights were loaded after the pruner had pruned some.

    Attributes:
        steps: Real optimizer steps seen so far.
        last_event: Value of `steps` at the latest event, which may have changed nothing; 0 before the first.

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
        >>> pruner
        <SynapticPruner with ToSparsity: 79.9 % sparsity, 29 of 144 weights alive, step 200 of 200, finished>
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        rule: Rule | float = 0.8,
        *,
        total_steps: int,
        every: int | None = None,
        compensate: float | None = None,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        state: Mapping[str, Any] | None = None,
        earlier: Mapping[str, Any] | None = None,
    ) -> None:
        _check_steps("total_steps", total_steps, _TOTAL)
        if every is not None:
            _check_steps("every", every, "the number of optimizer steps between events")
        self.rule = rule if isinstance(rule, Rule) else _rule_of(rule, total_steps)
        limit = self.rule.compensate if compensate is None else compensate
        check_limit(limit)
        self.synapses = Synapses(model, include, exclude, biases=self.rule.biases)
        if self.synapses.sharded and not self.rule.shardable:
            raise ValueError(
                f"{type(self.rule).__name__} needs whole parameters and {self.synapses.sharded} is sharded over "
                "several processes; take ToSparsity, or train with DistributedDataParallel"
            )
        self.optimizer = unwrap_optimizer(optimizer)
        self.total_steps = total_steps
        self.every = max(1, total_steps // _EVENTS) if every is None else every
        self.steps = self.last_event = 0
        self._finished = False
        self._counted = (0, 0)  # pruned and grown, as of the last `log`
        self._told_of_writes = False
        self._enforcer = MaskEnforcer(self.synapses.layers)
        masks = None if earlier is None else earlier_masks(self.synapses, earlier)
        self._missing = MissingSteps(type(self.optimizer).__name__)
        self._steps = OptimizerSteps(self.optimizer, self._before_step, self._after_step)
        if compensate is None and not may_compensate(self.optimizers):
            limit = 1.0
        self._compensation = Compensation(self.optimizers, self.synapses, limit)
        claim(self.synapses.layers, self)
        rule_before = dict(vars(self.rule))
        weights_before: list[Tensor] = []
        try:
            if state is None and masks is None:
                check_start(self.rule, self.synapses)
            initial = self.rule.attach(model, self.synapses)
            self._steps.attach()
            self._compensation.attach()
            if state is None:
                self.synapses.set_masks(initial if masks is None else masks)
            self.history = History(self.synapses, grows=self.rule.grows)
            if state is not None:
                self.load_state_dict(state)
            else:
                if masks is None:
                    if type(self.rule).initialise is not Rule.initialise:
                        weights_before = [layer.weight.detach().clone() for layer in self.synapses.layers]
                    self.rule.initialise(self.synapses)
                elif earlier is not None:
                    self._finished = bool(earlier["finished"])
                self._go_on()
        except BaseException:
            self._let_go()
            restore_rule(self.rule, rule_before)
            with torch.no_grad():
                for layer, weight in zip(self.synapses.layers, weights_before, strict=False):
                    layer.weight.copy_(weight)
            raise
        if not self.synapses.sharded:  # of shards, gradients come about otherwise
            self._missing.watch(self.synapses.layers[0].parameter)
        self._warn_of_unknown()
        # A pruner that is dropped with its optimizer must not live on in the gradients of the model.
        weakref.finalize(self, self._enforcer.stop_at_backward).atexit = False
        weakref.finalize(self, self._missing.stop).atexit = False

    @property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """The optimizer and those that it holds; the outermost step that runs is the real one."""
        return self._steps.optimizers

    @property
    def finished(self) -> bool:
        """True once the rule's last event has passed: from then on the masks stay as they are."""
        return self._finished

    @property
    def ramp_finished(self) -> bool:
        """True once the final sparsity is reached: from then on a checkpoint is as small as the last one will be.

        Same as `finished`, but of rules that go on to swap weights at that sparsity (`RigL` from its first step).
        """
        last_event = self.steps - self.steps % self.every
        return self._finished or self._progress(last_event) >= self.rule.ramp_end

    def sparsity(self) -> float:
        """Return the fraction of prunable weights that are pruned, in [0, 1]; all of them are zero then."""
        self._check_zeros()
        return self.synapses.sparsity

    def masks(self) -> dict[str, Tensor]:
        """Return a copy of each mask by parameter name: bool, the parameter's shape, True = alive."""
        return self.synapses.masks()

    def summary(self) -> Summary:
        """Return a table a layer: weights, alive, sparsity, unreached units, grown, pruned, mean age; see `Summary`."""
        self._check_zeros()
        return Summary.of(self.synapses, self.history, self.steps)

    def log(self) -> dict[str, float]:
        """Return what a logger takes, a flat dict of numbers; docs/guides/logging.md has a line for each logger.

        Each call counts from the one before, so the counts add up at whatever pace you log. Let one place call it: the
        callbacks for Lightning and Hugging Face do already. Nothing waits for the device, and shards need no partner.

        Returns:
            ``sparsity/total``, the fraction of prunable weights that are pruned. ``pruning/pruned`` and
            ``pruning/grown``, how many weights were since the last call, the start or the loaded checkpoint.
            ``pruning/not_prunable``, the fraction of the network's weights that no rule sees (`Summary.others`).
            ``pruning/rate_factor``, by which learning rates are multiplied while a step runs.

        Example:
            >>> import synaptic_pruning as sp
            >>> net = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 3))
            >>> optimizer = torch.optim.Adam(net.parameters())
            >>> pruner = sp.SynapticPruner(net, optimizer, sp.ToSparsity(sp.one_shot(0.75)), total_steps=1)
            >>> net(torch.tensor([0])).sum().backward(); optimizer.step()
            >>> for name, value in pruner.log().items():
            ...     print(name, round(value, 2))
            sparsity/total 0.75
            pruning/pruned 9
            pruning/grown 0
            pruning/not_prunable 0.67
            pruning/rate_factor 2.0
        """
        before, self._counted = self._counted, self._count_changes()
        others = sum(self.synapses.others.values())
        return {
            "sparsity/total": self.synapses.sparsity,
            "pruning/pruned": self._counted[0] - before[0],
            "pruning/grown": self._counted[1] - before[1],
            "pruning/not_prunable": others / (self.synapses.total + others),
            "pruning/rate_factor": self._compensation.factor,
        }

    def apply_masks(self, model: nn.Module) -> None:
        """Zero the pruned weights in another copy of the model, such as a moving average that still holds them.

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
                self._enforcer.zero_pruned_(layer, theirs[layer.name])

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain values and tensors (``torch.load(weights_only=True)`` reads it)."""
        self._check_zeros()
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
        """Go on where `state_dict` was taken; before or after the model and the optimizer are loaded.

        Raises:
            ValueError: The checkpoint is not a pruner's, belongs to another model (the names that differ are given) or
                to another rule; nothing was changed.
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
        masks = self.synapses.read_masks(state)
        before = self.rule.state_dict(), self.history.state_dict()
        try:
            self.rule.load_state_dict(state["memory"])
            self.history.load_state_dict(state["history"])
        except BaseException:  # the rule says by this that the state is another's
            self.rule.load_state_dict(before[0])
            self.history.load_state_dict(before[1])
            raise
        self.synapses.set_masks(masks)
        self.steps = int(state["steps"])
        self.last_event = int(state["history"]["sizes"][0][-1][0])
        self._finished = bool(state["finished"])
        if state["total_steps"] != self.total_steps:
            warnings.warn(
                f"the checkpoint was made with total_steps={state['total_steps']} and this pruner has "
                f"{self.total_steps}; the schedule goes on with the new length",
                stacklevel=2,
            )
        self._go_on()

    def remove(self) -> None:
        """Detach from the optimizer; the model keeps its plain zeros, and weights may move again from now on."""
        if not self._steps.attached:
            return
        self._check_zeros()
        if self._missing.found:
            self._missing.warn()
        self._let_go()
        self.rule.detach()
        if self.steps > 0 and not self.ramp_finished:
            warnings.warn(
                f"training ended at step {self.steps} of total_steps={self.total_steps}, before the end of the ramp, "
                f"at {self.sparsity():.1%} sparsity; set total_steps to the number of optimizer steps you take",
                stacklevel=2,
            )

    def __repr__(self) -> str:
        sparsity = f"{self.synapses.sparsity:.1%}".replace("%", " %")
        return (
            f"<{type(self).__name__} with {type(self.rule).__name__}: {sparsity} sparsity, {self.synapses.count:,} of "
            f"{self.synapses.total:,} weights alive, step {self.steps:,} of {self.total_steps:,}, "
            f"{'finished' if self.finished else 'not finished'}>"
        )

    def _count_changes(self) -> tuple[int, int]:
        """Count the weights pruned and grown since the start."""
        return sum(self.history.pruned), sum(self.history.grown)

    def _warn_of_unknown(self) -> None:
        """Say so where much of the network lies in layers of no known type."""
        unknown, others = self.synapses.unknown, sum(self.synapses.others.values())
        share = sum(unknown.values()) / (self.synapses.total + others)
        if share > _UNKNOWN_SHARE:
            warnings.warn(
                f"{share:.0%} of the network's weights, most in {next(iter(unknown))}, are in layers of no known type "
                "and are not pruned; name what to prune with include=, or what to leave with exclude=",
                stacklevel=3,
            )

    def _go_on(self) -> None:
        """Begin or resume with the present masks and steps."""
        self._next = self._next_event()
        self._counted = self._count_changes()
        self._apply_masks()
        self._set_backward_masking()

    def _let_go(self) -> None:
        """Leave the optimizer, the model's hooks and the parameters to others."""
        self._steps.remove()
        self._compensation.remove()
        self._missing.stop()
        self._enforcer.stop_at_backward()
        release(self.synapses.layers, self)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        if self.steps == 0:
            check_no_weights_loaded(self.synapses)
        elif (self.steps + 1) % self.every == 0:  # a step that may wait for the device anyway
            self._check_zeros()
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self._on_gradients()
            self._compensation.begin()
            return None

        def then() -> Any:
            self._compensation.end()
            loss = closure()
            self._on_gradients()
            self._compensation.begin()
            return loss

        self._compensation.begin()  # LBFGS reads its rate before it calls the closure
        return args[:1], {**kwargs, "closure": then}

    def on_other_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Zero pruned weights after a step of an optimizer that is not the pruner's, and say so once."""
        self._check_zeros(f"a step of {type(optimizer).__name__}")

    def _check_zeros(self, writer: str = "") -> None:
        """Zero the pruned weights that are not, and say once what has written them; the first step refuses them."""
        if self.steps == 0 or not self._steps.attached or not (found := self._enforcer.find_nonzero()):
            return
        self._enforcer.mask_weights()
        if self._told_of_writes:
            return
        self._told_of_writes = True
        if not writer:
            holder = find_holder(self.optimizer)
            writer = f"{type(holder).__name__}, which holds the pruner's optimizer," if holder else "something else"
        mine = type(self.optimizer).__name__
        warnings.warn(
            f"{sum(found.values()):,} pruned weights, such as in {next(iter(found))}, were not zero after step "
            f"{self.steps}: not {mine}.step() but {writer} has written them. They are zero again; give the pruner the "
            "optimizer that writes the weights last, and averages to apply_masks",
            stacklevel=3,
        )

    def _on_gradients(self) -> None:
        if self.steps + 1 == self._next:
            self.rule.before_event(self.synapses)
        self._enforcer.mask_remaining_gradients()

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._compensation.end()
        if self.synapses.layers[0].parameter.is_cuda and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "optimizer.step() is being captured in a CUDA graph, which would replay it without the pruner; leave "
                "the step out of the graph"
            )
        if skipped(optimizer):
            return
        self._missing.stop()
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
            self._enforcer.mask_weights()
        if self.rule.grows:
            self._set_backward_masking()

    def _set_backward_masking(self) -> None:
        """Have gradients masked at backward, but not where a rule that grows will read those of pruned weights."""
        if self.rule.grows and self.steps + 1 == self._next:
            self._enforcer.stop_at_backward()
        else:
            self._enforcer.start_at_backward()

    def _progress(self, step: int) -> float:
        return min(1.0, step / self.total_steps)

    def _next_event(self) -> int | None:
        """Return the first step after this one that is a multiple of ``every`` or reaches the rule's end."""
        if self._finished:
            return None
        # The first step whose progress is the end or past it; ceil(end · total_steps) may be rounded to another.
        end = bisect_left(range(self.total_steps), self.rule.end, key=self._progress)
        return max(self.steps + 1, min(end, self.steps + self.every - self.steps % self.every))

    def _event(self, progress: float) -> None:
        self.synapses.sync_device()
        layers = self.synapses.layers
        masks = self.rule.update(self.synapses, progress)
        if all(mask is layer.alive for layer, mask in zip(layers, masks, strict=True)):
            self.history.record_unchanged(self.steps)
            self._enforcer.mask_weights()
        else:
            grown = [mask.to(layer.alive.device) > layer.alive for layer, mask in zip(layers, masks, strict=True)]
            counts = self.synapses.count_true(grown, masks)
            self._check_growth(counts[0])
            if self.rule.grows:
                self._zero_pruned()  # so that grown weights start at zero, with clean optimizer state
            self.history.record(self.steps, masks, grown, counts)
            self.synapses.set_masks(masks, counts[1])
            self._apply_masks()
        self.last_event = self.steps
        self._finished = progress >= self.rule.end

    def _check_growth(self, grown: Sequence[int]) -> None:
        name = next((layer.name for layer, n in zip(self.synapses.layers, grown, strict=True) if n), "")
        if name and not self.rule.grows:
            raise ValueError(f"{type(self.rule).__name__} revived weights of {name} without grows = True; set it")

    def _apply_masks(self) -> None:
        """Put new masks in force."""
        self._enforcer.refresh()
        self._compensation.refresh()
        self._zero_pruned()

    def _zero_pruned(self) -> None:
        """Zero pruned weights, their gradients and what the optimizer keeps of them."""
        self._enforcer.mask_weights()
        self._enforcer.mask_gradients()
        reset_pruned_state(self.optimizers, self.synapses.layers, self._enforcer, grows=self.rule.grows)


def _rule_of(sparsity: float, total_steps: int) -> Rule:
    if isinstance(sparsity, bool) or not isinstance(sparsity, (int, float)) or not 0 <= sparsity <= 0.99:
        raise ValueError(
            f"rule={sparsity!r} must be a rule such as SET(0.8), or the final sparsity of the default one, in [0, 0.99]"
        )
    return default_rule(sparsity, total_steps=total_steps)


def _check_steps(argument: str, value: int, meaning: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{argument}={value!r} must be a whole number of at least 1: {meaning}")

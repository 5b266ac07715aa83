"""Remove units that cannot change the outputs, and check the smaller network against the original."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from synaptic_pruning.export.batch import check_inputs, describe_difference, outputs_of
from synaptic_pruning.export.shrinking.tracing import UnitTracer
from synaptic_pruning.export.unfused import unfuse

Inputs = Any  # a tensor, or a tuple or list of positional arguments
_TOLERANCE = 1e-9  # of the largest output, in float64


@dataclass
class ShrinkRow:
    """One layer in a `ShrinkReport`.

    Attributes:
        layer: The layer's name.
        before: Number of its units before.
        after: Number of its units after.
        note: Why units had to stay; empty if none had to.
    """

    layer: str
    before: int
    after: int
    note: str = ""


@dataclass
class ShrinkReport:
    """The result of `shrink`; print it for a table.

    Attributes:
        rows: One row for each layer that could be traced.
        notes: One sentence for each part that could not.
    """

    rows: list[ShrinkRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        width = max([5, *(len(row.layer) for row in self.rows)])
        lines = [f"{'layer':{width}}  units  after"]
        lines += [f"{r.layer:{width}}  {r.before:5}  {r.after:5}  {r.note}".rstrip() for r in self.rows]
        return "\n".join(lines + self.notes)


def shrink(model: nn.Module, example_input: Inputs) -> nn.Module:
    """Return a smaller copy of a model with the same outputs in evaluation mode.

    Hidden and recurrent units, channels, attention heads and embedding columns are removed if their value reaches
    no output or is constant. Constant values are folded into the next bias. The model is traced with torch.fx.
    Parts that cannot be traced stay as they are, and the report says which and why. The result is checked against
    the original in float64, on ``example_input`` and, where the model takes one, at another batch size. If they
    differ, the original is returned, with a note.

    Args:
        model: Any module. It is not changed. One on a GPU is traced on the CPU.
        example_input: A tensor, or a tuple of the positional arguments of ``model``.

    Returns:
        A module in evaluation mode on the model's device. Its attribute ``report`` is a printable `ShrinkReport`.

    Raises:
        ValueError: The model does not run on ``example_input``, or lies on several devices.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
        >>> with torch.no_grad():
        ...     model[2].weight[0, 1:3] = 0
        >>> shrink(model, torch.zeros(1, 3))[0]
        Linear(in_features=3, out_features=2, bias=True)
    """
    device = device_of(model)
    inputs = pytree.tree_map(lambda x: x.cpu() if isinstance(x, Tensor) else x, as_arguments(example_input))
    report = ShrinkReport()
    original = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    plain = unfuse(copy.deepcopy(original))
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        check_runs(original, inputs)
        changed = _shrink(plain, inputs, "", report)
        small = _restore(original, plain, changed, "")
        checks = check_inputs(original, inputs) if changed else ()
        problem = next(filter(None, (_difference(original, small, *check) for check in checks)), "")
    if problem:
        report = ShrinkReport(notes=[f"nothing removed: {problem}"])
        small = original
    small.report = report  # type: ignore[assignment]
    return small.to(device)


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model; the CPU if it has no tensors.

    Raises:
        ValueError: The model lies on several devices.
    """
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    if len(devices) > 1:
        raise ValueError(f"model lies on {' and '.join(sorted(map(str, devices)))}; give model.cpu()")
    return devices.pop() if devices else torch.device("cpu")


def as_arguments(example_input: Inputs) -> tuple[Any, ...]:
    """Return the example input as a tuple of positional arguments."""
    return tuple(example_input) if isinstance(example_input, tuple | list) else (example_input,)


def check_runs(model: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Refuse example inputs that the model cannot take.

    Raises:
        ValueError: The model fails on ``inputs``.
    """
    try:
        model(*inputs)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"example_input must be something the model can run on; it failed with: {reason}") from error


def _shrink(model: nn.Module, inputs: tuple[Any, ...], prefix: str, report: ShrinkReport) -> set[str]:
    """Shrink a model in place and return the names of the layers that changed."""
    try:
        tracer = UnitTracer(model, inputs)
        tracer.run(*inputs)
    except Exception as error:  # torch.fx raises many kinds, and so may the model's own code on traced values
        reason = str(error).partition("\n")[0]
        report.notes.append(f"{prefix.rstrip('.') or 'the model'} can't be traced as a whole: {reason}")
        return _shrink_children(model, inputs, prefix, report)
    alive = _alive_units(tracer)
    changed = set()
    for layer in tracer.layers:
        reason = next((tracer.units.reasons[u] for u in layer.all_units() if u in tracer.units.reasons), "")
        small = layer.rebuild(alive)
        before, after = layer.sizes(alive)
        if small is not None:
            model.set_submodule(layer.name, small)
        if small is not None or after < before:
            changed.add(prefix + layer.name)
        report.rows.append(ShrinkRow(prefix + layer.name, before, after, reason))
    return changed


def _alive_units(tracer: UnitTracer) -> Tensor:
    """Return the mask of alive units (units): pinned ones, those that alive units read, one of every group."""
    for layer in tracer.layers:
        layer.resolve_units(tracer.units)
    alive = tracer.units.pinned()
    while True:
        before = int(alive.sum())
        for layer in tracer.layers:
            alive[layer.reads(alive)] = True
        if int(alive.sum()) == before:
            empty = [group for layer in tracer.layers for group in layer.groups() if not alive[group].any()]
            if not empty:
                return alive
            alive[empty[0][0]] = True


def _shrink_children(model: nn.Module, inputs: tuple[Any, ...], prefix: str, report: ShrinkReport) -> set[str]:
    """Shrink the modules inside a model that can't be traced as a whole, each on its own inputs."""
    calls: dict[str, tuple[Any, ...]] = {}

    def recorder(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not kwargs:
                calls.setdefault(name, args)

        return hook

    parts = dict(_parts(model))
    hooks = [child.register_forward_pre_hook(recorder(name), with_kwargs=True) for name, child in parts.items()]
    try:
        model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    changed: set[str] = set()
    for name, args in calls.items():
        changed |= _shrink(parts[name], args, f"{prefix}{name}.", report)
    return changed


def _parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the outermost modules inside a model that are called and have children; containers are searched."""
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from ((f"{name}.{inner}", part) for inner, part in _parts(child))
        elif any(True for _ in child.children()):
            yield name, child


def _restore(original: nn.Module, plain: nn.Module, changed: set[str], prefix: str) -> nn.Module:
    """Return ``plain`` with the original of every module in which nothing changed."""
    if not any(name == prefix.rstrip(".") or name.startswith(prefix) for name in changed):
        return original
    if prefix.rstrip(".") not in changed:
        for name, child in list(plain.named_children()):
            before = dict(original.named_children()).get(name)
            if before is not None:
                setattr(plain, name, _restore(before, child, changed, f"{prefix}{name}."))
    return plain


def _difference(original: nn.Module, small: nn.Module, where: str, inputs: tuple[Any, ...]) -> str:
    """Return how outputs in float64 differ, as a message; empty if they are equal."""
    doubled = pytree.tree_map(lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x, inputs)
    want = outputs_of(copy.deepcopy(original).double(), doubled)
    try:
        got = outputs_of(copy.deepcopy(small).double(), doubled)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        return f"the smaller network does not run {where} ({str(error).partition(chr(10))[0]})"
    return describe_difference(want, got, _TOLERANCE, where)

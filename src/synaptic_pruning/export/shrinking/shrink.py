"""Exact shrinking: a smaller network with the same outputs, by removing the units that cannot matter."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from synaptic_pruning.export.shrinking.tracing import Followed
from synaptic_pruning.export.unfused import take_apart

Inputs = Any  # a tensor, or a tuple or list of positional arguments
_TOLERANCE = 1e-9  # of the largest output, in float64


@dataclass
class ShrinkRow:
    """Units of one layer before and after, and why it kept units that nobody reads, if it did."""

    layer: str
    before: int
    after: int
    note: str = ""


@dataclass
class ShrinkReport:
    """What `shrink` did: a row for each layer it could follow, a note for each part it could not."""

    rows: list[ShrinkRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        width = max([5, *(len(row.layer) for row in self.rows)])
        lines = [f"{'layer':{width}}  units  after"]
        lines += [f"{r.layer:{width}}  {r.before:5}  {r.after:5}  {r.note}".rstrip() for r in self.rows]
        return "\n".join(lines + self.notes)


def shrink(model: nn.Module, example_input: Inputs) -> nn.Module:
    """A smaller copy of `model` with the same outputs in evaluation mode.

    Removes hidden units, channels, attention heads, embedding columns and recurrent units whose value reaches
    no output or never changes; unchanging values are folded into the next bias. Follows the model with
    torch.fx; parts it cannot follow stay as they are, and `report` says which and why. The result is checked
    against the original on `example_input` in float64, and the original is returned, with a note, should they
    differ.

    Args:
        model: any module; it is not changed. One on a GPU is followed on the CPU.
        example_input: a tensor, or a tuple of the positional arguments of `model`.

    Raises:
        ValueError: the model does not run on `example_input`, or lies on several devices.

    Returns:
        An evaluation-mode module, on the model's device, whose attribute `report` is a printable `ShrinkReport`.

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
    plain = take_apart(copy.deepcopy(original))
    with torch.no_grad():
        check_runs(original, inputs)
        changed = _shrink(plain, inputs, "", report)
        small = _restore(original, plain, changed, "")
        problem = _difference(original, small, inputs) if changed else ""
    if problem:
        report = ShrinkReport(notes=[f"nothing removed: {problem}"])
        small = original
    small.report = report  # type: ignore[assignment]
    return small.to(device)


def device_of(model: nn.Module) -> torch.device:
    """The one device that a model lies on.

    Raises:
        ValueError: it lies on several.
    """
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    if len(devices) > 1:
        raise ValueError(f"model lies on {' and '.join(sorted(map(str, devices)))}; give model.cpu()")
    return devices.pop() if devices else torch.device("cpu")


def as_arguments(example_input: Inputs) -> tuple[Any, ...]:
    """Positional arguments of the model."""
    return tuple(example_input) if isinstance(example_input, tuple | list) else (example_input,)


def check_runs(model: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Refuse example inputs the model cannot take, before any work is done.

    Raises:
        ValueError: the model fails on `inputs`.
    """
    try:
        model(*inputs)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"example_input must be something the model can run on; it failed with: {reason}") from error


def _shrink(model: nn.Module, inputs: tuple[Any, ...], prefix: str, report: ShrinkReport) -> set[str]:
    """Shrink `model` in place; names of the layers that changed."""
    try:
        followed = Followed(model, inputs)
        followed.run(*inputs)
    except Exception as error:  # torch.fx raises many kinds, and so may the model's own code on traced values
        reason = str(error).partition("\n")[0]
        report.notes.append(f"{prefix.rstrip('.') or 'the model'} can't be followed as a whole: {reason}")
        return _shrink_children(model, inputs, prefix, report)
    live = _live(followed)
    changed = set()
    for layer in followed.layers:
        reason = next((followed.units.reasons[u] for u in layer.all_units() if u in followed.units.reasons), "")
        small = layer.rebuild(live)
        before, after = layer.sizes(live)
        if small is not None:
            model.set_submodule(layer.name, small)
        if small is not None or after < before:
            changed.add(prefix + layer.name)
        report.rows.append(ShrinkRow(prefix + layer.name, before, after, reason))
    return changed


def _live(followed: Followed) -> Tensor:
    """Which units matter, (units,): those pinned, and those read by what matters, and one in every group."""
    for layer in followed.layers:
        layer.settle(followed.units)
    live = followed.units.pinned()
    while True:
        before = int(live.sum())
        for layer in followed.layers:
            live[layer.reads(live)] = True
        if int(live.sum()) == before:
            empty = [group for layer in followed.layers for group in layer.groups() if not live[group].any()]
            if not empty:
                return live
            live[empty[0][0]] = True


def _shrink_children(model: nn.Module, inputs: tuple[Any, ...], prefix: str, report: ShrinkReport) -> set[str]:
    """Shrink the parts of a model that can't be followed as a whole, each from its own inputs."""
    seen: dict[str, tuple[Any, ...]] = {}

    def note(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not kwargs:
                seen.setdefault(name, args)

        return hook

    parts = dict(_parts(model))
    hooks = [child.register_forward_pre_hook(note(name), with_kwargs=True) for name, child in parts.items()]
    try:
        model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    changed: set[str] = set()
    for name, args in seen.items():
        changed |= _shrink(parts[name], args, f"{prefix}{name}.", report)
    return changed


def _parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The outermost modules inside `model` that are called and have modules inside; lists are looked into."""
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from ((f"{name}.{inner}", part) for inner, part in _parts(child))
        elif any(True for _ in child.children()):
            yield name, child


def _restore(original: nn.Module, plain: nn.Module, changed: set[str], prefix: str) -> nn.Module:
    """`plain`, with the original of every part in which nothing changed."""
    if not any(name == prefix.rstrip(".") or name.startswith(prefix) for name in changed):
        return original
    if prefix.rstrip(".") not in changed:
        for name, child in list(plain.named_children()):
            before = dict(original.named_children()).get(name)
            if before is not None:
                setattr(plain, name, _restore(before, child, changed, f"{prefix}{name}."))
    return plain


def _difference(original: nn.Module, small: nn.Module, inputs: tuple[Any, ...]) -> str:
    """What differs between the two on `inputs` in float64; empty if nothing does."""
    want, got = (_outputs(model, inputs) for model in (original, small))
    if isinstance(got, str):
        return got
    for a, b in zip(want, got, strict=False):
        if a.shape == b.shape and not torch.allclose(
            a, b, rtol=0, atol=_TOLERANCE * max(1.0, float(a.abs().max())), equal_nan=True
        ):
            return f"outputs differed by {float((a - b).abs().max()):.1e} on the example input"
    return ""


def _outputs(model: nn.Module, inputs: tuple[Any, ...]) -> Any:
    doubled = pytree.tree_map(lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x, inputs)
    try:
        result = copy.deepcopy(model).double()(*doubled)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        return f"the smaller network does not run on the example input ({str(error).partition(chr(10))[0]})"
    return [x for x in pytree.tree_leaves(result) if isinstance(x, Tensor)]

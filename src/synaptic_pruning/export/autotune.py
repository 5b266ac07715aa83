"""The fastest form of every layer on this machine, found by timing."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn

from synaptic_pruning.export.shrinking.shrink import Inputs, ShrinkReport, as_arguments, check_runs, device_of, shrink
from synaptic_pruning.export.sparse.attention import FastAttention
from synaptic_pruning.export.sparse.base import Inference
from synaptic_pruning.export.sparse.linear import SparseConv, SparseLinear
from synaptic_pruning.export.sparse.matrix import compiled
from synaptic_pruning.export.sparse.recurrent import SparseRecurrent
from synaptic_pruning.export.sparse.transformer import FastBlock
from synaptic_pruning.export.sparse.transformer_match import find_parts
from synaptic_pruning.export.timing import side_by_side, torch_threads
from synaptic_pruning.export.unfused import Attention, take_apart

_MARGIN = 0.97  # another form is taken only if it needs less than this part of the time
_LEAST_SPARSITY = 0.3  # below, no kernel here has a chance
_COMPOSITES = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)
Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass
class CompactRow:
    """One layer: its weights, those alive, the form chosen and the times (seconds a call) behind it."""

    layer: str
    weights: int
    alive: int
    form: str
    dense: float
    chosen: float


@dataclass
class CompactReport:
    """What `compact` chose and what it gained; `before` and `after` are seconds a call of it all."""

    form: str = "dense"
    before: float = 0.0
    after: float = 0.0
    rows: list[CompactRow] = field(default_factory=list)
    shrunk: ShrinkReport = field(default_factory=ShrinkReport)
    threads: int = 1

    def __str__(self) -> str:
        width = max([5, *(len(row.layer) for row in self.rows)])
        lines = [f"{'layer':{width}}  {'weights':>9}  {'alive':>9}  form       dense µs  chosen µs  gain"]
        lines += [
            f"{r.layer:{width}}  {r.weights:9}  {r.alive:9}  {r.form:9}  "
            f"{r.dense * 1e6:8.0f}  {r.chosen * 1e6:9.0f}  {r.dense / r.chosen:.2f}x"
            for r in self.rows
        ]
        removed = sum(row.before - row.after for row in self.shrunk.rows)
        gain = self.before / self.after if self.after else 1.0
        lines.append(
            f"whole network: {self.form}, {self.before * 1e6:.0f} -> {self.after * 1e6:.0f} µs "
            f"({gain:.2f}x), {self.threads} thread{'s' if self.threads > 1 else ''}, {removed} units can go"
        )
        return "\n".join(lines + self.shrunk.notes)


def compact(model: nn.Module, example_input: Inputs, *, threads: int | None = None) -> nn.Module:
    """The fastest form of a pruned network on this machine, with the same outputs to float32 rounding.

    Shrinks the network (`shrink`), times every layer dense and sparse on what reaches it from
    `example_input`, keeps the faster, and in the end the fastest of four whole networks: original or shrunk,
    all dense or with the sparse layers that won. So the result is never slower than the original beyond
    noise, and may be the original where nothing wins. Sparse forms exist for float32 CPU layers of exactly
    the classes Linear, Conv1d, 1x1 Conv2d, RNN, LSTM, GRU and whatever attention and encoder layers are made
    of. They compute no gradients and raise RuntimeError when asked.

    Args:
        model: any module with zeros in its weights; it is not changed.
        example_input: a tensor, or a tuple of positional arguments, of the batch size that will be served.
        threads: threads to time and later run with; by default those PyTorch uses at each call.

    Raises:
        ValueError: the model does not run on `example_input` or lies on a GPU, or `threads` is below 1.

    Returns:
        An evaluation-mode module whose attribute `report` is a printable `CompactReport`.

    >>> model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> small = compact(model, torch.zeros(1, 8))
    >>> small.report.form  # nothing to gain without zeros
    'dense'
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be 1 or more, not {threads}")
    if (device := device_of(model)).type != "cpu":
        raise ValueError(f"model lies on {device} and is to be made fast on a CPU; give model.cpu()")
    inputs = as_arguments(example_input)
    original = copy.deepcopy(model).eval().requires_grad_(False)
    with torch_threads(threads), torch.no_grad():
        check_runs(original, inputs)
        small = cast(Any, shrink(original, inputs))
        report = CompactReport(shrunk=small.report, threads=threads or torch.get_num_threads())
        bases = {"dense": original}
        if any(row.after < row.before for row in small.report.rows):
            bases["shrunk"] = small
        forms: dict[str, tuple[nn.Module, list[CompactRow]]] = {}
        for name, base in bases.items():
            faster, rows = _with_sparse_layers(base, inputs, threads)
            forms[name] = (
                base,
                [CompactRow(r.layer, r.weights, r.alive, name, r.dense, r.dense) for r in rows],
            )
            if any(row.form == "sparse" for row in rows):
                forms["sparse" if name == "dense" else "shrunk, sparse"] = faster, rows
        times = side_by_side({name: _runner(form, inputs) for name, (form, _) in forms.items()}, seconds=1.0)
    best = min(times, key=lambda name: times[name])
    report.form = best if times[best] < _MARGIN * times["dense"] else "dense"
    report.before, report.after = times["dense"], times[report.form]
    result, report.rows = forms[report.form]
    result.report = report  # type: ignore[assignment]
    return result


def _with_sparse_layers(
    base: nn.Module, inputs: tuple[Any, ...], threads: int | None
) -> tuple[nn.Module, list[CompactRow]]:
    holder = _Holder(copy.deepcopy(base))
    rows: list[CompactRow] = []
    _speed_up(holder, (inputs, {}), "", rows, threads)
    return holder.model, rows


class _Holder(nn.Module):
    """Gives the model a place from which it can be replaced, should it be a single layer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, *inputs: Any, **options: Any) -> Any:
        return self.model(*inputs, **options)


def _speed_up(parent: nn.Module, call: Call, prefix: str, rows: list[CompactRow], threads: int | None) -> None:
    """Replace every layer inside `parent` by its faster form, in place."""
    calls = _calls(parent, call)
    done: tuple[str, ...] = ()
    for path, layer in list(parent.named_modules()):
        if path not in calls or path.startswith(done):
            continue
        name = f"{prefix}{path}".removeprefix("model").removeprefix(".") or "(the model)"
        (args, kwargs), row = calls[path], None
        for form in _other_forms(layer):
            outer = _Holder(form)
            _speed_up(outer, calls[path], "", [], threads)  # the parts of what was taken apart
            form = outer.model
            sparse = [module for module in form.modules() if isinstance(module, Inference)]
            for module in sparse:
                module.threads = threads
            times = side_by_side({"dense": _runner(layer, args, kwargs), "sparse": _runner(form, args, kwargs)})
            wins = times["sparse"] < _MARGIN * times["dense"]
            taken = times["sparse" if wins else "dense"]
            weights = [p for p in layer.parameters() if p.dim() > 1]
            alive = sum(int(w.count_nonzero()) for w in weights)
            kind = "sparse" if wins and sparse else "dense"
            row = CompactRow(name, sum(w.numel() for w in weights), alive, kind, times["dense"], taken)
            if wins:
                parent.set_submodule(path, form)
                break
        if row is not None:
            done += (f"{path}.",)
            rows.append(row)


def _other_forms(layer: nn.Module) -> Iterator[nn.Module]:
    """The sparse and taken-apart forms of a layer, best first; none if it has too few zeros."""
    weights = [p for p in layer.parameters() if p.dim() > 1]
    total = sum(w.numel() for w in weights)
    zeros = total - sum(int(w.count_nonzero()) for w in weights)
    if total == 0 or zeros < _LEAST_SPARSITY * total:
        return
    if any(w.dtype != torch.float32 or w.device.type != "cpu" for w in layer.parameters()):
        return
    if type(layer) is nn.Linear:
        yield SparseLinear(layer)
    elif type(layer) in (nn.Conv1d, nn.Conv2d) and SparseConv.fits(layer):
        yield SparseConv(cast(nn.Conv1d, layer))
    elif type(layer) in (nn.LSTM, nn.GRU, nn.RNN):
        yield SparseRecurrent(cast(nn.RNNBase, layer))
    elif isinstance(layer, _COMPOSITES) or _is_block(layer):
        plain = take_apart(copy.deepcopy(layer)).requires_grad_(False)
        if _is_block(layer):
            yield FastBlock(plain)
        yield plain if type(layer) is nn.TransformerEncoder else with_fast_attention(plain)
    elif compiled() and type(layer) is Attention:
        yield with_fast_attention(copy.deepcopy(layer))


def _is_block(layer: nn.Module) -> bool:
    """Whether there is a compiled form of it as a whole."""
    if not compiled() or not any(type(child) in (nn.MultiheadAttention, Attention) for child in layer.children()):
        return False
    return find_parts(take_apart(copy.deepcopy(layer))) is not None


def with_fast_attention(model: nn.Module) -> nn.Module:
    """Give every attention inside `model` its compiled loop, in place; returns the model."""
    if not compiled():
        return model
    for path, layer in list(model.named_modules()):
        if path and type(layer) is Attention:
            model.set_submodule(path, FastAttention(layer))
    return FastAttention(model) if type(model) is Attention else model


def _calls(parent: nn.Module, call: Call) -> dict[str, Call]:
    """The first call of every layer inside `parent` that may have another form."""
    found: dict[str, Call] = {}

    def note(path: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found.setdefault(path, (args, kwargs))

        return hook

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.RNNBase, Attention, *_COMPOSITES)
    modules = parent.named_modules()
    layers = {path: layer for path, layer in modules if isinstance(layer, kinds) or _is_block(layer)}
    hooks = [layer.register_forward_pre_hook(note(path), with_kwargs=True) for path, layer in layers.items()]
    try:
        parent(*call[0], **call[1])
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _runner(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Callable[[], Any]:
    return lambda: module(*args, **(kwargs or {}))

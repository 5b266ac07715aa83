"""Time every layer in several forms on this machine and keep the fastest."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn

from synaptic_pruning.export.batch import check_inputs, describe_difference, outputs_of
from synaptic_pruning.export.shrinking import Inputs, ShrinkReport, as_arguments, check_runs, device_of, shrink
from synaptic_pruning.export.sparse import (
    FastAttention,
    FastBlock,
    FastForecaster,
    Inference,
    SparseConv,
    SparseLinear,
    SparseRecurrent,
    kernels_available,
    match_block,
    match_forecaster,
)
from synaptic_pruning.export.timing import time_interleaved, torch_threads
from synaptic_pruning.export.unfused import Attention, unfuse

_MARGIN = 0.97  # another form is taken only if it needs less than this fraction of the time
_TOLERANCE = 1e-3  # of the largest output; more than any rounding of float32 in a network
_MIN_SPARSITY = 0.3  # sparse forms of layers below are not timed
_COMPOSITES = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)
Call = tuple[tuple[Any, ...], dict[str, Any]]  # positional and keyword arguments


@dataclass
class CompactRow:
    """One layer in a `CompactReport`.

    Attributes:
        layer: The layer's name.
        weights: Number of its weights.
        alive: Number of its weights that are not zero.
        form: The form chosen, such as "dense" or "sparse".
        dense: Seconds a call of the dense form.
        chosen: Seconds a call of the form chosen.
    """

    layer: str
    weights: int
    alive: int
    form: str
    dense: float
    chosen: float


@dataclass
class CompactReport:
    """The choices of `compact` and their gain; print it for a table.

    Attributes:
        form: The form of the whole network: "dense", "sparse", "shrunk" or "shrunk, sparse".
        before: Seconds a call of the original network.
        after: Seconds a call of the network returned.
        rows: One row a layer that has another form.
        shrunk: The report of `shrink`.
        threads: Number of threads that the timing used.
    """

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
    """Return the fastest form of a pruned network on this machine, with equal outputs up to float32 rounding.

    The network is shrunk (see `shrink`). Every layer is timed dense and sparse on what reaches it from
    ``example_input``, and the faster form is kept. Four whole networks are timed at the end: original or shrunk,
    each all dense or with the sparse layers that won. The fastest is returned. Where nothing wins, that is the
    original. What is returned was compared with the original on ``example_input`` and, where the model takes
    one, at another batch size.

    Sparse forms exist for float32 layers of exactly the classes Linear, Conv1d, 1x1 Conv2d, RNN, LSTM and GRU.
    Attention and transformer blocks are made of them. Recurrent layers with a Linear head on their last row run in
    one call. Sparse forms compute no gradients and raise RuntimeError when asked.

    Args:
        model: Any module with zeros in its weights. It is not changed.
        example_input: A tensor, or a tuple of positional arguments, of the batch size that will be served.
        threads: Number of threads to time and later run with, 1 or more. None means those PyTorch uses at
            each call. A layer that is faster on one keeps to one.

    Returns:
        A module in evaluation mode. Its attribute ``report`` is a printable `CompactReport`.

    Raises:
        ValueError: The model does not run on ``example_input`` or lies on a GPU, or ``threads`` is below 1.

    Example:
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
    with torch_threads(threads), torch.no_grad(), torch.autocast("cpu", enabled=False):
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
        times = time_interleaved({name: _runner(form, inputs) for name, (form, _) in forms.items()}, seconds=1.0)
        best = min(times, key=lambda name: times[name])
        report.form = best if times[best] < _MARGIN * times["dense"] else "dense"
        if report.form != "dense" and (problem := _difference(original, forms[best][0], inputs)):
            report.shrunk.notes.append(f"{best} was not taken: {problem}")
            report.form = "dense"
    report.before, report.after = times["dense"], times[report.form]
    result, report.rows = forms[report.form]
    result.report = report  # type: ignore[assignment]
    return result


def _difference(original: nn.Module, faster: nn.Module, inputs: tuple[Any, ...]) -> str:
    """Return how outputs differ by more than float32 rounds, as a message; empty if they do not."""
    for where, arguments in check_inputs(original, inputs):
        want, got = outputs_of(original, arguments), outputs_of(faster, arguments)
        if problem := describe_difference(want, got, _TOLERANCE, where):
            return problem
    return ""


def _with_sparse_layers(
    base: nn.Module, inputs: tuple[Any, ...], threads: int | None
) -> tuple[nn.Module, list[CompactRow]]:
    wrapper = _Wrapper(copy.deepcopy(base))
    rows: list[CompactRow] = []
    _replace_layers(wrapper, (inputs, {}), "", rows, threads)
    return wrapper.model, rows


class _Wrapper(nn.Module):
    """A parent of the model, so that the model itself can be replaced if it is a single layer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, *inputs: Any, **options: Any) -> Any:
        return self.model(*inputs, **options)


def _replace_layers(parent: nn.Module, call: Call, prefix: str, rows: list[CompactRow], threads: int | None) -> None:
    """Replace every layer inside ``parent`` by its faster form, in place, and append a row for each."""
    calls = _record_calls(parent, call)
    done: tuple[str, ...] = ()
    for path, layer in list(parent.named_modules()):
        if path not in calls or path.startswith(done):
            continue
        name = f"{prefix}{path}".removeprefix("model").removeprefix(".") or "(the model)"
        (args, kwargs), row = calls[path], None
        for form in _other_forms(layer):
            for module in _sparse_modules(form):
                module.threads = threads
            wrapper = _Wrapper(form)
            _replace_layers(wrapper, calls[path], "", [], threads)  # the layers inside an unfused form
            form, several = wrapper.model, (threads or torch.get_num_threads()) > 1
            sparse = _sparse_modules(form)
            found: list[int | None] = [module.threads for module in sparse]
            run = _runner(form, args, kwargs)
            runners = {"dense": _runner(layer, args, kwargs), "sparse": _on_threads(sparse, found, run)}
            if sparse and several:
                runners["one thread"] = _on_threads(sparse, [1] * len(sparse), run)
            times = time_interleaved(runners)
            alone = times.pop("one thread", math.inf)
            if alone < _MARGIN * times["sparse"]:  # half of the samples take a thread more than half of the time
                found, times["sparse"] = [1] * len(sparse), alone
            _set_threads(sparse, found)
            wins = times["sparse"] < _MARGIN * times["dense"]
            chosen = times["sparse" if wins else "dense"]
            weights = [p for p in layer.parameters() if p.dim() > 1]
            alive = sum(int(w.count_nonzero()) for w in weights)
            kind = "sparse" if wins and sparse else "dense"
            row = CompactRow(name, sum(w.numel() for w in weights), alive, kind, times["dense"], chosen)
            if wins:
                parent.set_submodule(path, form)
                break
        if row is not None and not (row.form == "dense" and isinstance(form, FastForecaster)):
            # Where the call for all of it has lost, its layers may still win.
            done += (f"{path}.",)
            rows.append(row)


def _sparse_modules(form: nn.Module) -> list[Inference]:
    return [module for module in form.modules() if isinstance(module, Inference)]


def _set_threads(modules: Sequence[Inference], counts: Sequence[int | None]) -> None:
    for module, count in zip(modules, counts, strict=True):
        if module.threads != count:
            module.threads = count


def _on_threads(
    modules: Sequence[Inference], counts: Sequence[int | None], run: Callable[[], Any]
) -> Callable[[], Any]:
    """Return a call that first gives each sparse module its number of threads."""

    def set_and_run() -> Any:
        _set_threads(modules, counts)
        return run()

    return set_and_run


def _other_forms(layer: nn.Module) -> Iterator[nn.Module]:
    """Yield the sparse and unfused forms of a layer, best first; none if it has too few zeros."""
    weights = [p for p in layer.parameters() if p.dim() > 1]
    total = sum(w.numel() for w in weights)
    zeros = total - sum(int(w.count_nonzero()) for w in weights)
    if total == 0 or zeros < _MIN_SPARSITY * total:
        return
    if any(w.dtype != torch.float32 or w.device.type != "cpu" for w in layer.parameters()):
        return
    if type(layer) is nn.Linear:
        yield SparseLinear(layer)
    elif type(layer) in (nn.Conv1d, nn.Conv2d) and SparseConv.supports(layer):
        yield SparseConv(cast(nn.Conv1d, layer))
    elif type(layer) in (nn.LSTM, nn.GRU, nn.RNN):
        yield SparseRecurrent(cast(nn.RNNBase, layer))
    elif _is_forecaster(layer):
        yield FastForecaster(layer)
    elif isinstance(layer, _COMPOSITES) or _is_block(layer):
        plain = unfuse(copy.deepcopy(layer)).requires_grad_(False)
        if _is_block(layer):
            yield FastBlock(plain)
        yield plain if type(layer) is nn.TransformerEncoder else _with_fast_attention(plain)
    elif kernels_available() and type(layer) is Attention:
        yield _with_fast_attention(copy.deepcopy(layer))


def _is_block(layer: nn.Module) -> bool:
    """Return whether `FastBlock` can compute the layer as a whole."""
    attention = (nn.MultiheadAttention, Attention)
    if not kernels_available() or not any(type(child) in attention for child in layer.children()):
        return False
    return match_block(unfuse(copy.deepcopy(layer))) is not None


def _is_forecaster(layer: nn.Module) -> bool:
    """Return whether `FastForecaster` can compute the layer as a whole."""
    return kernels_available() and match_forecaster(layer) is not None


def _with_fast_attention(model: nn.Module) -> nn.Module:
    """Replace every `Attention` inside a model by `FastAttention`, in place, and return the model."""
    if not kernels_available():
        return model
    for path, layer in list(model.named_modules()):
        if path and type(layer) is Attention:
            model.set_submodule(path, FastAttention(layer))
    return FastAttention(model) if type(model) is Attention else model


def _record_calls(parent: nn.Module, call: Call) -> dict[str, Call]:
    """Run ``parent`` and return the first call of every layer inside that may have another form, by path."""
    calls: dict[str, Call] = {}

    def recorder(path: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.setdefault(path, (args, kwargs))

        return hook

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.RNNBase, Attention, *_COMPOSITES)
    modules = parent.named_modules()
    layers = {
        path: layer
        for path, layer in modules
        if isinstance(layer, kinds) or _is_block(layer) or (path and _is_forecaster(layer))
    }
    hooks = [layer.register_forward_pre_hook(recorder(path), with_kwargs=True) for path, layer in layers.items()]
    try:
        parent(*call[0], **call[1])
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _runner(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Callable[[], Any]:
    return lambda: module(*args, **(kwargs or {}))

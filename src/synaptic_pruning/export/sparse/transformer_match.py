"""Transformer blocks recognised by what they compute, whoever wrote them."""

import inspect
import operator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx, nn
from torch.nn import functional

from synaptic_pruning.export.unfused import Attention, UnfusedTracer

_ADDITIONS = (operator.add, torch.add, "add")


@dataclass(frozen=True)
class Parts:
    """Names of the modules inside a block, and the order they work in."""

    attention: str
    norm1: str
    norm2: str
    widen: str
    narrow: str
    gelu: bool
    norm_first: bool


def find_parts(block: nn.Module) -> Parts | None:
    """The parts of a transformer block `FastBlock` can stand for; None for anything else.

    >>> from synaptic_pruning.export.unfused import take_apart
    >>> parts = find_parts(take_apart(nn.TransformerEncoderLayer(8, 2, 16, norm_first=True)))
    >>> parts.widen, parts.narrow, parts.gelu, parts.norm_first
    ('linear1', 'linear2', False, True)
    >>> find_parts(nn.Linear(8, 8)) is None
    True
    """
    if not any(type(child) is Attention for child in block.children()):
        return None
    try:
        asked = list(inspect.signature(block.forward).parameters.values())[1:]
        graph = UnfusedTracer().trace(block, {p.name: p.default for p in asked if p.default is not p.empty})
        found = _Reader(block, graph).read()
    except Exception:  # torch.fx raises many kinds for what it can't trace; the reader raises _Other
        return None
    return found if _fits(block, found) else None


def _fits(block: nn.Module, parts: Parts) -> bool:
    """Whether the sizes are those of a block: everything between the halves as wide as the input."""
    attention, widen, narrow = (cast(Any, block.get_submodule(n)) for n in (parts.attention, parts.widen, parts.narrow))
    ends = [layer.in_features for layer in (attention.query, attention.key, attention.value, widen)]
    ends += [attention.out_proj.out_features, narrow.out_features]
    norms = [block.get_submodule(name).normalized_shape for name in (parts.norm1, parts.norm2)]
    return len(set(ends)) == 1 and all(shape == (ends[0],) for shape in norms)


class _Other(Exception):
    """The block computes something else."""


class _Reader:
    """Reads the graph of a block from its output back to its input."""

    def __init__(self, block: nn.Module, graph: fx.Graph) -> None:
        self.block = block
        self.start = next(node for node in graph.nodes if node.op == "placeholder")
        self.end = next(node for node in graph.nodes if node.op == "output").args[0]
        used, queue = set(), [self.end]
        while queue:
            used.add(node := queue.pop())
            queue += node.all_input_nodes
        for node in graph.nodes:  # what leads nowhere may still change something in place
            reads = node.op != "output" and not used.isdisjoint(node.all_input_nodes)
            if node not in used and reads and node.target is not operator.getitem:
                raise _Other

    def read(self) -> Parts:
        """The parts, in either order of norms and shortcuts."""
        end = self._bare(self.end)
        norm_first = not self._is(end, nn.LayerNorm)
        norm2, end = ("", end) if norm_first else self._step(end, nn.LayerNorm)
        narrow, hidden, middle = self._shortcut(end, nn.Linear)
        gelu, hidden = self._activation(hidden)
        widen, before = self._step(hidden, nn.Linear)
        if norm_first:
            norm2, before = self._step(before, nn.LayerNorm)
        self._same(before, middle)
        norm1, middle = ("", middle) if norm_first else self._step(middle, nn.LayerNorm)
        attention, before, start = self._shortcut(middle, Attention)
        if norm_first:
            norm1, before = self._step(before, nn.LayerNorm)
        self._same(before, start)
        self._same(start, self.start)
        return Parts(attention, norm1, norm2, widen, narrow, gelu, norm_first)

    def _shortcut(self, node: Any, kind: type[nn.Module]) -> tuple[str, Any, Any]:
        """`start + layer(before)` in either order: the layer, `before` and `start`."""
        node = self._bare(node)
        if not isinstance(node, fx.Node) or node.target not in _ADDITIONS or node.kwargs or len(node.args) != 2:
            raise _Other
        for start, branch in (node.args, node.args[::-1]):
            branch = self._bare(branch)
            if kind is Attention and branch.target is operator.getitem and branch.args[1] == 0:
                branch = branch.args[0]
            if self._is(branch, kind):
                return (*self._step(branch, kind), self._bare(start))
        raise _Other

    def _activation(self, node: Any) -> tuple[bool, Any]:
        node = self._bare(node)
        target, options = node.target, dict(node.kwargs)
        if node.op == "call_module":
            layer = self.block.get_submodule(target)
            kind = {nn.ReLU: functional.relu, nn.GELU: functional.gelu}.get(type(layer))
            exact = getattr(layer, "approximate", "none") == "none"
        else:
            kind, exact = target, options.pop("approximate", "none") == "none"
            options.pop("inplace", None)
        if len(node.args) != 1 or options or not exact or kind not in (functional.relu, torch.relu, functional.gelu):
            raise _Other
        return kind is functional.gelu, node.args[0]

    def _step(self, node: Any, kind: type[nn.Module]) -> tuple[str, Any]:
        """The layer of this kind that makes `node`, and what goes in."""
        node = self._bare(node)
        if not self._is(node, kind):
            raise _Other
        source, *others = node.args
        if kind is Attention:
            call = inspect.signature(Attention.forward).bind(None, *node.args, **node.kwargs).arguments
            masks = [call.get(name) for name in ("key_padding_mask", "attn_mask")]
            if (
                source is not call["key"]
                or source is not call["value"]
                or masks != [None, None]
                or call.get("is_causal")
            ):
                raise _Other
        elif others or node.kwargs:
            raise _Other
        return str(node.target), self._bare(source)

    def _bare(self, node: Any) -> Any:
        """What stands before modules that do nothing in evaluation."""
        while self._is(node, nn.Dropout) or self._is(node, nn.Identity):
            node = node.args[0]
        return node

    def _is(self, node: Any, kind: type[nn.Module]) -> bool:
        called = isinstance(node, fx.Node) and node.op == "call_module"
        return called and type(self.block.get_submodule(node.target)) is kind

    def _same(self, a: Any, b: Any) -> None:
        if self._bare(a) is not self._bare(b):
            raise _Other

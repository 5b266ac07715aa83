"""Recognise transformer blocks by their traced computation, whatever class they are."""

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
class BlockParts:
    """Names of the modules inside a transformer block, as in `nn.TransformerEncoderLayer`, and their order.

    Attributes:
        attention: Name of the `Attention`.
        norm1: Name of the attention's layer norm.
        norm2: Name of the feed-forward's layer norm.
        linear1: Name of the feed-forward's first layer.
        linear2: Name of the feed-forward's second layer.
        gelu: Whether the feed-forward's activation is exact GELU; otherwise it is ReLU.
        norm_first: Whether the norms stand before attention and feed-forward, instead of after the shortcuts.
    """

    attention: str
    norm1: str
    norm2: str
    linear1: str
    linear2: str
    gelu: bool
    norm_first: bool


def match_block(block: nn.Module) -> BlockParts | None:
    """Return the parts of a transformer block that `FastBlock` can compute; None for any other module.

    Args:
        block: Any module, its attention unfused.

    Example:
        >>> from synaptic_pruning.export.unfused import unfuse
        >>> parts = match_block(unfuse(nn.TransformerEncoderLayer(8, 2, 16, norm_first=True)))
        >>> parts.linear1, parts.linear2, parts.gelu, parts.norm_first
        ('linear1', 'linear2', False, True)
        >>> match_block(nn.Linear(8, 8)) is None
        True
    """
    if not any(type(child) is Attention for child in block.children()):
        return None
    try:
        optional = list(inspect.signature(block.forward).parameters.values())[1:]
        graph = UnfusedTracer().trace(block, {p.name: p.default for p in optional if p.default is not p.empty})
        parts = _GraphReader(block, graph).read()
    except Exception:  # torch.fx raises many kinds for what it can't trace; the reader raises _NoMatch
        return None
    return parts if _sizes_match(block, parts) else None


def _sizes_match(block: nn.Module, parts: BlockParts) -> bool:
    """Return whether everything between attention and feed-forward is as wide as the input."""
    names = (parts.attention, parts.linear1, parts.linear2)
    attention, linear1, linear2 = (cast(Any, block.get_submodule(name)) for name in names)
    widths = [layer.in_features for layer in (attention.query, attention.key, attention.value, linear1)]
    widths += [attention.out_proj.out_features, linear2.out_features]
    norms = [block.get_submodule(name).normalized_shape for name in (parts.norm1, parts.norm2)]
    return len(set(widths)) == 1 and all(shape == (widths[0],) for shape in norms)


class _NoMatch(Exception):
    """Raised where the block computes something else."""


class _GraphReader:
    """Read the graph of a block from its output back to its input."""

    def __init__(self, block: nn.Module, graph: fx.Graph) -> None:
        self.block = block
        self.start = next(node for node in graph.nodes if node.op == "placeholder")
        self.end = next(node for node in graph.nodes if node.op == "output").args[0]
        used, queue = set(), [self.end]
        while queue:
            used.add(node := queue.pop())
            queue += node.all_input_nodes
        for node in graph.nodes:  # an unused node may still change its input in place
            reads = node.op != "output" and not used.isdisjoint(node.all_input_nodes)
            if node not in used and reads and node.target is not operator.getitem:
                raise _NoMatch

    def read(self) -> BlockParts:
        """Return the parts, for norms before or after the shortcuts."""
        end = self._skip_identities(self.end)
        norm_first = not self._calls(end, nn.LayerNorm)
        norm2, end = ("", end) if norm_first else self._layer(end, nn.LayerNorm)
        linear2, hidden, middle = self._shortcut(end, nn.Linear)
        gelu, hidden = self._activation(hidden)
        linear1, before = self._layer(hidden, nn.Linear)
        if norm_first:
            norm2, before = self._layer(before, nn.LayerNorm)
        self._require_same(before, middle)
        norm1, middle = ("", middle) if norm_first else self._layer(middle, nn.LayerNorm)
        attention, before, start = self._shortcut(middle, Attention)
        if norm_first:
            norm1, before = self._layer(before, nn.LayerNorm)
        self._require_same(before, start)
        self._require_same(start, self.start)
        return BlockParts(attention, norm1, norm2, linear1, linear2, gelu, norm_first)

    def _shortcut(self, node: Any, kind: type[nn.Module]) -> tuple[str, Any, Any]:
        """Read ``start + layer(before)`` in either order; return the layer's name, ``before`` and ``start``."""
        node = self._skip_identities(node)
        if not isinstance(node, fx.Node) or node.target not in _ADDITIONS or node.kwargs or len(node.args) != 2:
            raise _NoMatch
        for start, branch in (node.args, node.args[::-1]):
            branch = self._skip_identities(branch)
            if kind is Attention and branch.target is operator.getitem and branch.args[1] == 0:
                branch = branch.args[0]
            if self._calls(branch, kind):
                return (*self._layer(branch, kind), self._skip_identities(start))
        raise _NoMatch

    def _activation(self, node: Any) -> tuple[bool, Any]:
        """Return whether the activation is GELU, and its input."""
        node = self._skip_identities(node)
        target, options = node.target, dict(node.kwargs)
        if node.op == "call_module":
            layer = self.block.get_submodule(target)
            kind = {nn.ReLU: functional.relu, nn.GELU: functional.gelu}.get(type(layer))
            exact = getattr(layer, "approximate", "none") == "none"
        else:
            kind, exact = target, options.pop("approximate", "none") == "none"
            options.pop("inplace", None)
        if len(node.args) != 1 or options or not exact or kind not in (functional.relu, torch.relu, functional.gelu):
            raise _NoMatch
        return kind is functional.gelu, node.args[0]

    def _layer(self, node: Any, kind: type[nn.Module]) -> tuple[str, Any]:
        """Return the name and the input of the layer of this kind whose output is ``node``."""
        node = self._skip_identities(node)
        if not self._calls(node, kind):
            raise _NoMatch
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
                raise _NoMatch
        elif others or node.kwargs:
            raise _NoMatch
        return str(node.target), self._skip_identities(source)

    def _skip_identities(self, node: Any) -> Any:
        """Return the node before modules that do nothing in evaluation mode."""
        while self._calls(node, nn.Dropout) or self._calls(node, nn.Identity):
            node = node.args[0]
        return node

    def _calls(self, node: Any, kind: type[nn.Module]) -> bool:
        """Return whether a node calls a module of exactly this class."""
        called = isinstance(node, fx.Node) and node.op == "call_module"
        return called and type(self.block.get_submodule(node.target)) is kind

    def _require_same(self, a: Any, b: Any) -> None:
        if self._skip_identities(a) is not self._skip_identities(b):
            raise _NoMatch

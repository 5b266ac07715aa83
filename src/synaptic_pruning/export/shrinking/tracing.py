"""Follow units through a model: trace it with torch.fx, run it once, and tag every tensor on the way."""

import inspect
import operator
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from synaptic_pruning.export.shrinking import layers
from synaptic_pruning.export.shrinking.feature_ops import (
    ASK_SHAPE,
    BINARY,
    IN_PLACE,
    POINTWISE,
    POINTWISE_MODULES,
    POOLING_MODULES,
    REDUCE,
    SHAPE,
    Whole,
    affine,
    called,
    keeps_features,
    unknown_like,
)
from synaptic_pruning.export.shrinking.recurrent import ShrinkableRecurrent
from synaptic_pruning.export.shrinking.unit_graph import Tag, Units, along, constants_along, spread
from synaptic_pruning.export.unfused import Attention, UnfusedTracer


class Followed(fx.Interpreter):
    """A model run once on example `inputs`, with the layers met on the way and the units between them.

    Raises:
        Exception: whatever torch.fx raises for a model it can't trace.
    """

    def __init__(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        asked = list(inspect.signature(model.forward).parameters.values())[len(inputs) :]
        defaults = {p.name: p.default for p in asked if p.default is not p.empty}
        traced = fx.GraphModule(model, UnfusedTracer().trace(model, defaults))
        traced.graph.eliminate_dead_code()
        super().__init__(traced)
        self.root = model
        self.units = Units()
        self.layers: list[layers.Shrinkable] = []
        self.tags: dict[fx.Node, Tag] = {}
        self.inside: dict[fx.Node, Any] = {}  # of a node whose value is a tuple: Tag, Whole or tuple of them
        self.calls = Counter(n.target for n in traced.graph.nodes if n.op in ("call_module", "get_attr"))
        owners = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
        self.tied = {n for n, p in model.named_parameters(remove_duplicate=False) if owners[id(p)] > 1}

    def run_node(self, n: fx.Node) -> Any:
        """Run a node and tag its result."""
        value = super().run_node(n)
        handler: Callable[[fx.Node, Any], Tag | None] = {
            "call_module": self._module,
            "call_function": self._function,
            "call_method": self._function,
            "get_attr": self._attribute,
        }.get(n.op, self._unknown)
        tag = handler(n, value)
        if isinstance(value, Tensor):
            if tag is None:
                tag = Tag(None, torch.full(value.shape, torch.nan, dtype=torch.double))
            self.tags[n] = tag
        return value

    def _tagged(self, node: fx.Node) -> list[fx.Node]:
        return [a for a in node.all_input_nodes if a in self.tags]

    def _unknown(self, node: fx.Node, value: Any, reason: str = "") -> Tag | None:
        """Pin whatever goes in: what comes out can't be told."""
        reason = reason or (
            "the model returns it" if node.op == "output" else f"{node.target} mixes or hides its features"
        )
        for source in self._tagged(node):
            self.units.pin(self.tags[source].ids, reason)
        for source in node.all_input_nodes:
            self._pin_inside(self.inside.get(source), reason)
        return None

    def _pin_inside(self, part: Any, reason: str) -> None:
        if isinstance(part, tuple):
            for item in part:
                self._pin_inside(item, reason)
        elif isinstance(part, Tag):
            self.units.pin(part.ids, reason)
        elif isinstance(part, Whole):
            for group in part.groups:
                self.units.pin(group, part.reason)

    def _features(self, node: fx.Node, axis: int, what: str) -> tuple[Tensor, Tensor]:
        """Units and constants along one axis of a tensor; new pinned units where they can't be told."""
        tag = self.tags[node]
        ids = None if tag.ids is None else along(tag.ids, axis)
        if ids is None:
            self.units.pin(tag.ids, f"features lie across several axes before {what}")
            ids = self.units.new(tag.constant.shape[axis], "features can't be followed to here")
        return ids, constants_along(tag.constant, axis)

    def _new(self, layer: layers.Shrinkable, constants: Tensor, axis: int, value: Tensor) -> Tag:
        self.layers.append(layer)
        return Tag(spread(layer.outputs, axis, value.shape), spread(constants, axis, value.shape))

    def _module(self, node: fx.Node, value: Any) -> Tag | None:
        name = str(node.target)
        layer = self.root.get_submodule(name)
        sources = [a for a in node.args if isinstance(a, fx.Node)]
        if not sources or any(s not in self.tags or s in self.inside for s in sources):
            return self._unknown(node, value)
        if self.calls[name] > 1 and any(True for _ in layer.parameters()):
            return self._unknown(node, value, f"{name} is called more than once")
        if any(f"{name}.{key}" in self.tied for key, _ in layer.named_parameters()):
            return self._unknown(node, value, f"{name} shares its weights with another layer")
        if isinstance(layer, Attention) and len(sources) >= 3:
            return self._attention(node, value, layer, sources)
        if len(node.args) > 1 or node.kwargs:
            return self._unknown(node, value, f"{name} is called with more than its input")
        return self._layer(node, value, name, layer, sources[0])

    def _layer(self, node: fx.Node, value: Any, name: str, layer: nn.Module, source: fx.Node) -> Tag | None:
        tag, made = self.tags[source], None
        dims = tag.constant.dim()
        if isinstance(layer, POINTWISE_MODULES):
            after = Tag(tag.ids, layer(tag.constant.clone()))
            if getattr(layer, "inplace", False):
                self.tags[source] = after
            return after
        if isinstance(layer, POOLING_MODULES) and isinstance(value, Tensor):
            ids, _ = self._features(source, 1, name)
            return Tag(spread(ids, 1, value.shape), layer(tag.constant))
        if isinstance(layer, nn.Flatten):
            return self._reshape(node, value)
        if isinstance(layer, nn.Linear):
            made = layers.ShrinkableLinear(name, layer, *self._features(source, -1, name), self.units)
            return self._new(made, made.output_constants(), dims - 1, value)
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and layer.groups == 1 and dims == layer.weight.dim():
            made = layers.ShrinkableLinear(name, layer, *self._features(source, 1, name), self.units)
            return self._new(made, made.output_constants(), 1, value)
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) and layer.running_mean is not None:
            ids, constants = self._features(source, 1, name)
            scale, shift = affine(layer)
            return self._new(layers.ShrinkableNorm(name, layer, ids), constants * scale + shift, 1, value)
        if isinstance(layer, nn.Embedding) and layer.max_norm is None:
            embedding = layers.ShrinkableEmbedding(name, layer, self.units)
            return self._new(embedding, torch.full((layer.embedding_dim,), torch.nan).double(), dims, value)
        if type(layer) in (nn.LSTM, nn.GRU, nn.RNN):
            return self._recurrent(node, value, name, layer, source)
        return self._unknown(node, value)

    def _recurrent(self, node: fx.Node, value: Any, name: str, layer: Any, source: fx.Node) -> Tag | None:
        made = ShrinkableRecurrent(name, layer, *self._features(source, -1, name), self.units)
        self.layers.append(made)
        axis = value[0].dim() - 1
        out = Tag(spread(made.outputs, axis, value[0].shape), spread(made.constants, axis, value[0].shape))
        reason = f"the final states of {name} are used as a whole"
        last = (made.cells[-1].outer, made.constants[-made.cells[-1].outer.numel() :])
        final = Whole(made.groups(), reason, last)
        cells = Whole(made.groups(), reason)
        self.inside[node] = (out, (final, cells) if isinstance(value[1], tuple) else final)
        return None

    def _attention(self, node: fx.Node, value: Any, layer: Attention, sources: list[fx.Node]) -> Tag | None:
        name = str(node.target)
        found = [self._features(source, -1, name) for source in sources[:3]]
        masked = len(sources) > 3 or any(isinstance(a, fx.Node) for a in node.kwargs.values())
        ids, constants = [f[0] for f in found], [f[1] for f in found]
        made = layers.ShrinkableAttention(name, layer, ids, constants, masked, self.units)
        out = self._new(made, made.out.output_constants(), value[0].dim() - 1, value[0])
        heads = [p.outputs for p in made.projections]
        self.inside[node] = (out, Whole(heads, f"the attention weights of {name} are used"))
        return None

    def _attribute(self, node: fx.Node, value: Any) -> Tag | None:
        name = str(node.target)
        if not isinstance(value, Tensor) or value.dim() == 0 or value.shape[-1] == 1:
            return None
        if self.calls[name] > 1 or name in self.tied:
            return Tag(self.units.new(1, f"{name} is used more than once").expand(value.shape), unknown_like(value))
        owner = self.root.get_submodule(name.rpartition(".")[0])
        made = layers.ShrinkableParameter(name, owner, self.units)
        return self._new(made, torch.full((value.shape[-1],), torch.nan).double(), value.dim() - 1, value)

    def _function(self, node: fx.Node, value: Any) -> Tag | None:
        if any(a in self.inside for a in node.all_input_nodes):
            return self._item(node, value)
        if not isinstance(value, Tensor):
            if node.target not in ASK_SHAPE:
                self._unknown(node, value)
            return None
        plain = all(a in self.tags for a in node.all_input_nodes)
        if node.target in POINTWISE and plain and len(node.all_input_nodes) == 1:
            return Tag(self.tags[node.all_input_nodes[0]].ids, self._on_constants(node))
        if node.target in BINARY and plain:
            return self._binary(node, value)
        if node.target in SHAPE or node.target in REDUCE:
            return self._reshape(node, value)
        return self._unknown(node, value)

    def _item(self, node: fx.Node, value: Any) -> Tag | None:
        """Something taken out of a layer's several results."""
        part = self.inside.get(node.args[0]) if isinstance(node.args[0], fx.Node) else None
        index = node.args[1] if node.target is operator.getitem else None
        if isinstance(part, tuple) and isinstance(index, int):
            if isinstance(part[index], Tag):
                return part[index]  # type: ignore[no-any-return]
            self.inside[node] = part[index]
            return None
        if isinstance(part, Whole) and part.last is not None and index == -1:
            ids, constants = part.last
            return Tag(spread(ids, value.dim() - 1, value.shape), spread(constants, value.dim() - 1, value.shape))
        return self._unknown(node, value)

    def _binary(self, node: fx.Node, value: Tensor) -> Tag | None:
        tags = [self.tags[a] for a in node.all_input_nodes]
        constant = self._on_constants(node)
        known = [t for t in tags if t.ids is not None and t.axes()]
        for tag in tags:
            if tag.ids is None or not tag.axes():  # broadcast over the features of the others, or hiding its own
                self.units.pin(tag.ids, "it is broadcast over other features")
                for other in known:
                    axis = other.axes()[0] - other.constant.dim()
                    if tag.constant.dim() >= -axis and tag.constant.shape[axis] != 1:
                        return self._unknown(node, value, f"{called(node)} meets values that can't be followed")
        if not known:
            return Tag(None, constant)
        ids = [t.ids.expand(value.shape) for t in known if t.ids is not None]
        if len(ids) == 2 and not self.units.tie(ids[0], ids[1]):
            return self._unknown(node, value, f"{called(node)} crosses features")
        result = Tag(ids[0], constant)
        if node.target in IN_PLACE and isinstance(node.args[0], fx.Node):
            self.tags[node.args[0]] = result
        return result

    def _reshape(self, node: fx.Node, value: Tensor) -> Tag | None:
        """Do to the unit numbers what is done to the values; do they still lie along one axis?"""
        sources = self._tagged(node)
        if any(self.tags[s].ids is None for s in sources) or not sources:
            return self._unknown(node, value)
        if node.target in REDUCE:
            axes, dims = (
                self.tags[sources[0]].axes(),
                node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None),
            )
            reduced = [dims] if isinstance(dims, int) else dims
            count = self.tags[sources[0]].constant.dim()
            if reduced is None or any(d % count in axes for d in reduced):  # type: ignore[union-attr,operator]
                return self._unknown(node, value, f"{called(node)} reduces over features")
            ids = self._rerun(node, lambda t: t.ids, torch.amax)
        else:
            ids = self._rerun(node, lambda t: t.ids)
        out = Tag(ids, self._on_constants(node))
        if not keeps_features(node, [self.tags[s] for s in sources], out):
            return self._unknown(node, value, f"{called(node)} cuts or spreads features")
        return out

    def _on_constants(self, node: fx.Node) -> Tensor:
        return cast(Tensor, self._rerun(node, lambda t: t.constant.clone()))

    def _rerun(self, node: fx.Node, part: Callable[[Tag], Any], target: Any = None) -> Any:
        """The node's call with one part of the tags in place of the values."""

        def swap(a: fx.Node) -> Any:
            return part(self.tags[a]) if a in self.tags else self.env[a]

        args, kwargs = fx.node.map_arg(node.args, swap), fx.node.map_arg(node.kwargs, swap)
        if node.op == "call_module":
            return self.root.get_submodule(str(node.target))(*args, **kwargs)
        if target is None and node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return cast(Callable[..., Any], target or node.target)(*args, **kwargs)

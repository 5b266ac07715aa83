"""Trace the units of a model: run its torch.fx graph once and tag every tensor with units and constants."""

import inspect
import operator
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from synaptic_pruning.export.shrinking.feature_ops import (
    BINARY,
    IN_PLACE,
    POINTWISE,
    POINTWISE_MODULES,
    POOLING_MODULES,
    REDUCTIONS,
    RESHAPES,
    SHAPE_QUERIES,
    OpaqueResult,
    batchnorm_affine,
    call_name,
    keeps_features,
    nan_like,
)
from synaptic_pruning.export.shrinking.layers import (
    Shrinkable,
    ShrinkableAttention,
    ShrinkableEmbedding,
    ShrinkableLinear,
    ShrinkableNorm,
    ShrinkableParameter,
)
from synaptic_pruning.export.shrinking.recurrent import ShrinkableRecurrent
from synaptic_pruning.export.shrinking.unit_graph import (
    UnitGraph,
    UnitTag,
    broadcast_along,
    constants_along,
    vector_along,
)
from synaptic_pruning.export.unfused import Attention, UnfusedTracer


class UnitTracer(fx.Interpreter):
    """Run a model once on example inputs and record its layers and the units between them.

    Args:
        model: The model, its attention unfused, in evaluation mode.
        inputs: The positional arguments to call `run` with.

    Attributes:
        units: The graph of all units.
        layers: The layers that can be rebuilt, in the order of their calls.
        tags: Units and constants of every tensor, by node.
        parts: For a node whose value is a tuple: a `UnitTag`, an `OpaqueResult` or a tuple of them.

    Raises:
        Exception: Whatever torch.fx raises for a model that it cannot trace.
    """

    def __init__(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        optional = list(inspect.signature(model.forward).parameters.values())[len(inputs) :]
        defaults = {p.name: p.default for p in optional if p.default is not p.empty}
        traced = fx.GraphModule(model, UnfusedTracer().trace(model, defaults))
        traced.graph.eliminate_dead_code()
        super().__init__(traced)
        self.model = model
        self.units = UnitGraph()
        self.layers: list[Shrinkable] = []
        self.tags: dict[fx.Node, UnitTag] = {}
        self.parts: dict[fx.Node, Any] = {}
        self.call_counts = Counter(n.target for n in traced.graph.nodes if n.op in ("call_module", "get_attr"))
        owners = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
        self.tied_names = {n for n, p in model.named_parameters(remove_duplicate=False) if owners[id(p)] > 1}

    def run_node(self, n: fx.Node) -> Any:
        """Run a node and tag its result."""
        value = super().run_node(n)
        handler: Callable[[fx.Node, Any], UnitTag | None] = {
            "call_module": self._module,
            "call_function": self._function,
            "call_method": self._function,
            "get_attr": self._attribute,
        }.get(n.op, self._pin_inputs)
        tag = handler(n, value)
        if isinstance(value, Tensor):
            if tag is None:
                tag = UnitTag(None, nan_like(value))
            self.tags[n] = tag
        return value

    def _tagged(self, node: fx.Node) -> list[fx.Node]:
        return [a for a in node.all_input_nodes if a in self.tags]

    def _pin_inputs(self, node: fx.Node, value: Any, reason: str = "") -> UnitTag | None:
        """Pin the units of all inputs, since those of the output are unknown; return no tag."""
        reason = reason or (
            "the model returns it" if node.op == "output" else f"{node.target} mixes or hides its features"
        )
        for source in self._tagged(node):
            self.units.pin(self.tags[source].ids, reason)
        for source in node.all_input_nodes:
            self._pin_part(self.parts.get(source), reason)
        return None

    def _pin_part(self, part: Any, reason: str) -> None:
        if isinstance(part, tuple):
            for item in part:
                self._pin_part(item, reason)
        elif isinstance(part, UnitTag):
            self.units.pin(part.ids, reason)
        elif isinstance(part, OpaqueResult):
            for group in part.groups:
                self.units.pin(group, part.reason)

    def _features(self, node: fx.Node, axis: int, what: str) -> tuple[Tensor, Tensor]:
        """Return units and constants along one axis of a tensor; new pinned units where they are unknown."""
        tag = self.tags[node]
        ids = None if tag.ids is None else vector_along(tag.ids, axis)
        if ids is None:
            self.units.pin(tag.ids, f"features lie across several axes before {what}")
            ids = self.units.new(tag.constant.shape[axis], "features can't be traced to here")
        return ids, constants_along(tag.constant, axis)

    def _tag_layer(self, layer: Shrinkable, constants: Tensor, axis: int, value: Tensor) -> UnitTag:
        self.layers.append(layer)
        return _tag_along(layer.outputs, constants, axis, value)

    def _module(self, node: fx.Node, value: Any) -> UnitTag | None:
        name = str(node.target)
        layer = self.model.get_submodule(name)
        sources = [a for a in node.args if isinstance(a, fx.Node)]
        if not sources or any(s not in self.tags or s in self.parts for s in sources):
            return self._pin_inputs(node, value)
        if self.call_counts[name] > 1 and any(True for _ in layer.parameters()):
            return self._pin_inputs(node, value, f"{name} is called more than once")
        if any(f"{name}.{key}" in self.tied_names for key, _ in layer.named_parameters()):
            return self._pin_inputs(node, value, f"{name} shares its weights with another layer")
        if isinstance(layer, Attention) and len(sources) >= 3:
            return self._attention(node, value, layer, sources)
        if len(node.args) > 1 or node.kwargs:
            return self._pin_inputs(node, value, f"{name} is called with more than its input")
        return self._layer(node, value, name, layer, sources[0])

    def _layer(self, node: fx.Node, value: Any, name: str, layer: nn.Module, source: fx.Node) -> UnitTag | None:
        tag, made = self.tags[source], None
        dims = tag.constant.dim()
        if isinstance(layer, POINTWISE_MODULES):
            after = UnitTag(tag.ids, layer(tag.constant.clone()))
            if getattr(layer, "inplace", False):
                self.tags[source] = after
            return after
        if isinstance(layer, POOLING_MODULES) and isinstance(value, Tensor):
            ids, _ = self._features(source, 1, name)
            return UnitTag(broadcast_along(ids, 1, value.shape), layer(tag.constant))
        if isinstance(layer, nn.Flatten):
            return self._reshape(node, value)
        if isinstance(layer, nn.Linear):
            made = ShrinkableLinear(name, layer, *self._features(source, -1, name), self.units)
            return self._tag_layer(made, made.output_constants(), dims - 1, value)
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and layer.groups == 1 and dims == layer.weight.dim():
            made = ShrinkableLinear(name, layer, *self._features(source, 1, name), self.units)
            return self._tag_layer(made, made.output_constants(), 1, value)
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) and layer.running_mean is not None:
            ids, constants = self._features(source, 1, name)
            scale, shift = batchnorm_affine(layer)
            return self._tag_layer(ShrinkableNorm(name, layer, ids), constants * scale + shift, 1, value)
        if isinstance(layer, nn.Embedding) and layer.max_norm is None:
            embedding = ShrinkableEmbedding(name, layer, self.units)
            return self._tag_layer(embedding, torch.full((layer.embedding_dim,), torch.nan).double(), dims, value)
        if type(layer) in (nn.LSTM, nn.GRU, nn.RNN):
            return self._recurrent(node, value, name, layer, source)
        return self._pin_inputs(node, value)

    def _recurrent(self, node: fx.Node, value: Any, name: str, layer: Any, source: fx.Node) -> UnitTag | None:
        made = ShrinkableRecurrent(name, layer, *self._features(source, -1, name), self.units)
        out = self._tag_layer(made, made.constants, value[0].dim() - 1, value[0])
        reason = f"the final states of {name} are used as a whole"
        last_units = made.parts[-1].outputs
        last = (last_units, made.constants[-last_units.numel() :])
        final = OpaqueResult(made.groups(), reason, last)
        cell_states = OpaqueResult(made.groups(), reason)
        self.parts[node] = (out, (final, cell_states) if isinstance(value[1], tuple) else final)
        return None

    def _attention(self, node: fx.Node, value: Any, layer: Attention, sources: list[fx.Node]) -> UnitTag | None:
        name = str(node.target)
        found = [self._features(source, -1, name) for source in sources[:3]]
        masked = len(sources) > 3 or any(isinstance(a, fx.Node) for a in node.kwargs.values())
        ids, constants = [f[0] for f in found], [f[1] for f in found]
        made = ShrinkableAttention(name, layer, ids, constants, masked, self.units)
        out = self._tag_layer(made, made.out.output_constants(), value[0].dim() - 1, value[0])
        heads = [p.outputs for p in made.projections]
        self.parts[node] = (out, OpaqueResult(heads, f"the attention weights of {name} are used"))
        return None

    def _attribute(self, node: fx.Node, value: Any) -> UnitTag | None:
        name = str(node.target)
        if not isinstance(value, Tensor) or value.dim() == 0 or value.shape[-1] == 1:
            return None
        if self.call_counts[name] > 1 or name in self.tied_names:
            return UnitTag(self.units.new(1, f"{name} is used more than once").expand(value.shape), nan_like(value))
        owner = self.model.get_submodule(name.rpartition(".")[0])
        made = ShrinkableParameter(name, owner, self.units)
        return self._tag_layer(made, torch.full((value.shape[-1],), torch.nan).double(), value.dim() - 1, value)

    def _function(self, node: fx.Node, value: Any) -> UnitTag | None:
        if any(a in self.parts for a in node.all_input_nodes):
            return self._tuple_item(node, value)
        if not isinstance(value, Tensor):
            if node.target not in SHAPE_QUERIES:
                self._pin_inputs(node, value)
            return None
        plain = all(a in self.tags for a in node.all_input_nodes)
        if node.target in POINTWISE and plain and len(node.all_input_nodes) == 1:
            return UnitTag(self.tags[node.all_input_nodes[0]].ids, self._on_constants(node))
        if node.target in BINARY and plain:
            return self._binary(node, value)
        if node.target in RESHAPES or node.target in REDUCTIONS:
            return self._reshape(node, value)
        return self._pin_inputs(node, value)

    def _tuple_item(self, node: fx.Node, value: Any) -> UnitTag | None:
        """Tag an element of a tuple of results."""
        part = self.parts.get(node.args[0]) if isinstance(node.args[0], fx.Node) else None
        index = node.args[1] if node.target is operator.getitem else None
        if isinstance(part, tuple) and isinstance(index, int):
            if isinstance(part[index], UnitTag):
                return part[index]  # type: ignore[no-any-return]
            self.parts[node] = part[index]
            return None
        if isinstance(part, OpaqueResult) and part.last is not None and index == -1:
            return _tag_along(*part.last, value.dim() - 1, value)
        return self._pin_inputs(node, value)

    def _binary(self, node: fx.Node, value: Tensor) -> UnitTag | None:
        tags = [self.tags[a] for a in node.all_input_nodes]
        constant = self._on_constants(node)
        known = [t for t in tags if t.ids is not None and t.axes()]
        for tag in tags:
            if tag.ids is None or not tag.axes():  # it is broadcast over the others' features, or its own are unknown
                self.units.pin(tag.ids, "it is broadcast over other features")
                for other in known:
                    axis = other.axes()[0] - other.constant.dim()
                    if tag.constant.dim() >= -axis and tag.constant.shape[axis] != 1:
                        return self._pin_inputs(node, value, f"{call_name(node)} meets values that can't be traced")
        if not known:
            return UnitTag(None, constant)
        ids = [t.ids.expand(value.shape) for t in known if t.ids is not None]
        if len(ids) == 2 and not self.units.union(ids[0], ids[1]):
            return self._pin_inputs(node, value, f"{call_name(node)} crosses features")
        result = UnitTag(ids[0], constant)
        if node.target in IN_PLACE and isinstance(node.args[0], fx.Node):
            self.tags[node.args[0]] = result
        return result

    def _reshape(self, node: fx.Node, value: Tensor) -> UnitTag | None:
        """Apply the call to the unit numbers; keep them if they still lie along one axis."""
        sources = self._tagged(node)
        if any(self.tags[s].ids is None for s in sources) or not sources:
            return self._pin_inputs(node, value)
        if node.target in REDUCTIONS:
            axes, dims = (
                self.tags[sources[0]].axes(),
                node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None),
            )
            reduced = [dims] if isinstance(dims, int) else dims
            count = self.tags[sources[0]].constant.dim()
            if reduced is None or any(d % count in axes for d in reduced):  # type: ignore[union-attr,operator]
                return self._pin_inputs(node, value, f"{call_name(node)} reduces over features")
            ids = self._rerun(node, lambda t: t.ids, torch.amax)
        else:
            ids = self._rerun(node, lambda t: t.ids)
        out = UnitTag(ids, self._on_constants(node))
        if not keeps_features(node, [self.tags[s] for s in sources], out):
            return self._pin_inputs(node, value, f"{call_name(node)} cuts or spreads features")
        return out

    def _on_constants(self, node: fx.Node) -> Tensor:
        return cast(Tensor, self._rerun(node, lambda t: t.constant.clone()))

    def _rerun(self, node: fx.Node, part: Callable[[UnitTag], Any], target: Any = None) -> Any:
        """Repeat the node's call with one part of the tags in place of the values."""

        def swap(a: fx.Node) -> Any:
            return part(self.tags[a]) if a in self.tags else self.env[a]

        args, kwargs = fx.node.map_arg(node.args, swap), fx.node.map_arg(node.kwargs, swap)
        if node.op == "call_module":
            return self.model.get_submodule(str(node.target))(*args, **kwargs)
        if target is None and node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return cast(Callable[..., Any], target or node.target)(*args, **kwargs)


def _tag_along(ids: Tensor, constants: Tensor, axis: int, value: Tensor) -> UnitTag:
    """Return the tag of a tensor whose features lie along one axis."""
    return UnitTag(broadcast_along(ids, axis, value.shape), broadcast_along(constants, axis, value.shape))

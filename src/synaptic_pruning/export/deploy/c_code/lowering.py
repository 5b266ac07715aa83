"""Turn a traced network into C statements, operation by operation, while running it on the example."""

import inspect
import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from synaptic_pruning.export.deploy.c_code.constants import Constants
from synaptic_pruning.export.deploy.c_code.loops import comment_lines, every, literal, reduce
from synaptic_pruning.export.deploy.c_code.memory import Buffer, Function, Kind
from synaptic_pruning.export.deploy.c_code.recurrent import MODES, Layers
from synaptic_pruning.export.deploy.c_code.values import Values, storage

_VIEWS = {
    *("alias", "chunk", "contiguous", "clone", "detach", "dropout", "expand", "feature_dropout", "flatten", "movedim"),
    *("narrow", "permute", "reshape", "select", "slice", "split", "squeeze", "swapaxes", "t", "transpose", "unbind"),
    *(
        "unflatten",
        "unsqueeze",
        "view",
        "alpha_dropout",
        "lift_fresh_copy",
        "mT",
        "numpy_T",
        "expand_as",
        "view_as",
        "reshape_as",
    ),
}
_FILLED = {"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"}
_POINTWISE = {
    "relu": "NET_relu({})",
    "tanh": "NET_tanh({})",
    "sigmoid": "NET_sigmoid({})",
    "silu": "NET_silu({})",
    "neg": "-{}",
    "abs": "fabsf({})",
    "exp": "expf({})",
    "sqrt": "sqrtf({})",
    "rsqrt": "1.0f / sqrtf({})",
    "square": "{0} * {0}",
}
_BINARY = {"add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "div": "{} / {}"}


class Lowering:
    """One C function from the graph of one traced call.

    Args:
        program: The network as `torch.export` traced it.
        constants: The arrays of the file.
        layers: The recurrent layers of the file.
        stateful: Whether recurrent states outlive the call.

    Attributes:
        function: The statements.
        states: Recurrent states by name, with their values at the start; filled if ``stateful``.
    """

    def __init__(
        self, program: torch.export.ExportedProgram, constants: Constants, layers: Layers, stateful: bool
    ) -> None:
        self.program, self.constants, self.layers, self.stateful = program, constants, layers, stateful
        self.function = Function()
        self.states: dict[str, Tensor] = {}
        self.values = Values(self.function, constants)
        self._replaced: dict[fx.Node, Any] = {}
        self._env: dict[fx.Node, Any] = {}

    def run(self, x: Tensor) -> Tensor:
        """Write the function for inputs such as ``x`` and return its output.

        Raises:
            ValueError: The network cannot be written; the message names the layer and the operation.
        """
        signature, state = self.program.graph_signature, self.program.state_dict
        named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        lifted = signature.inputs_to_lifted_tensor_constants
        x = self.values.register(x.clone(memory_format=torch.contiguous_format), Buffer("x", x.numel(), Kind.INPUT))
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                name = named.get(node.name) or lifted.get(node.name)
                if name is None:
                    self._env[node] = x
                else:
                    value = state[name] if name in state else self.program.constants[name]
                    self._env[node] = self.values.name(value, name)
            elif node.op == "output":
                return self._output(node)
            elif node.op == "call_function":
                self._env[node] = self._replaced[node] if node in self._replaced else self._call(node)
            else:
                raise ValueError(f"model cannot be written as C: {_where(node)} is of an unknown kind, {node.op}")
        raise AssertionError("a graph ends with its output")

    def _output(self, node: fx.Node) -> Tensor:
        result: Tensor = self._env[pytree.tree_leaves(node.args[0])[0]]
        source = self.values.known(result)
        y = Buffer("y", result.numel(), Kind.OUTPUT)
        flat = torch.empty(result.shape)
        self.values.register(flat, y)
        self.values.map([flat, source], lambda y, x: [f"{y} = {x};"])
        return result

    def _call(self, node: fx.Node) -> Any:
        args: Any = fx.node.map_arg(node.args, lambda n: self._env[n])
        kwargs: Any = fx.node.map_arg(dict(node.kwargs), lambda n: self._env[n])
        if node.target is operator.getitem:
            return args[0][args[1]]
        name = self._packet(node)
        tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if name.endswith("_") and not name.endswith("__"):
            raise ValueError(f"model cannot be written as C: {_where(node)} changes a tensor in place ({node.target})")
        run: Callable[..., Any] = node.target  # type: ignore[assignment]
        if name in _FILLED or all(self.values.is_constant(x) for x in tensors):
            return run(*args, **kwargs)
        if name == "_assert_tensor_metadata":
            return None
        if name in MODES:
            return self._recurrent(node, name, args)
        value = run(*args, **kwargs)
        for x in pytree.tree_leaves(value):
            if not isinstance(x, Tensor) or x.dtype != torch.float32:
                raise ValueError(
                    f"model cannot be written as C: {_where(node)} computes {getattr(x, 'dtype', type(x))} "
                    f"({node.target}); only float32 can be written"
                )
        if name in _VIEWS or name in ("to", "_to_copy"):
            return self.values.view_of(args[0], value)
        handler: Callable[..., Tensor] | None = getattr(self, f"_op_{name}", None)
        if name in _POINTWISE:
            return self._pointwise(node, value, [args[0]], _POINTWISE[name])
        if name in _BINARY:
            return self._binary(node, name, value, args, kwargs)
        if handler is None:
            raise ValueError(
                f"model cannot be written as C: {_where(node)} calls {node.target}; "
                "docs/guides/export.md lists what can"
            )
        try:
            inspect.signature(handler).bind(node, value, *args, **kwargs)
        except TypeError as error:
            raise ValueError(
                f"model cannot be written as C: {_where(node)} calls {node.target} with {error}"
            ) from error
        return handler(node, value, *args, **kwargs)

    # ---- element by element

    def _pointwise(self, node: fx.Node, value: Tensor, sources: Sequence[Tensor | float], form: str) -> Tensor:
        """Add ``form`` of the sources, element by element; numbers are written into it."""
        self.constants.functions |= {name for name in _POINTWISE if f"NET_{name}(" in form}
        numbers = [
            x.item() if isinstance(x, Tensor) and self.values.is_constant(x) and x.numel() == 1 else x for x in sources
        ]
        places = [self.values.known(x) for x in numbers if isinstance(x, Tensor)]
        result = self.values.new(value)

        def body(y: str, *elements: str) -> list[str]:
            rest = iter(elements)
            texts = [next(rest) if isinstance(x, Tensor) else _number(x) for x in numbers]
            return [f"{y} = {form.format(*texts)};"]

        self.values.map([result, *places], body, _where(node))
        return result

    def _binary(self, node: fx.Node, name: str, value: Tensor, args: Any, kwargs: Any) -> Tensor:
        alpha = kwargs.get("alpha", args[2] if len(args) > 2 and name in ("add", "sub") else 1)
        if kwargs.get("rounding_mode") is not None:
            raise ValueError(f"model cannot be written as C: {_where(node)} rounds a quotient ({node.target})")
        form = _BINARY[name] if alpha == 1 else f"{{}} {'+' if name == 'add' else '-'} {literal(alpha)} * {{}}"
        return self._pointwise(node, value, args[:2], form)

    def _op_rsub(self, node: fx.Node, value: Tensor, a: Tensor, b: Any, alpha: float = 1) -> Tensor:
        return self._pointwise(node, value, [b, a], f"{{}} - {literal(alpha)} * {{}}")

    def _op_pow(self, node: fx.Node, value: Tensor, x: Tensor, power: Any) -> Tensor:
        if power != 2:
            raise ValueError(f"model cannot be written as C: {_where(node)} raises to a power other than 2")
        return self._pointwise(node, value, [x], "{0} * {0}")

    def _op_gelu(self, node: fx.Node, value: Tensor, x: Tensor, approximate: str = "none") -> Tensor:
        name = "gelu" if approximate == "none" else "gelu_tanh"
        self.constants.functions.add(name)
        return self._pointwise(node, value, [x], f"NET_{name}({{}})")

    def _op_cat(self, node: fx.Node, value: Tensor, parts: Sequence[Tensor], dim: int = 0) -> Tensor:
        result, start = self.values.new(value), 0
        for part in parts:
            if part.numel():
                target = result.narrow(dim, start, part.shape[dim])
                self.values.map([target, self.values.known(part)], lambda y, x: [f"{y} = {x};"])
                start += part.shape[dim]
        return result

    def _op_stack(self, node: fx.Node, value: Tensor, parts: Sequence[Tensor], dim: int = 0) -> Tensor:
        return self._op_cat(node, value, [part.unsqueeze(dim) for part in parts], dim)

    # ---- layers

    def _op_linear(self, node: fx.Node, value: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        self._require_constants(node, weight, bias)
        x, out, name = self.values.contiguous(x), weight.shape[0], self._name(node)
        if value.dim() == 2:
            weight, bias, value = self._fold_norm(node, weight, bias, value)
        result, rows = self._result(node, value), value.numel() // out
        product, start = self.constants.product(name, weight), self.constants.vector(f"{name}_bias", bias)
        columns = weight.shape[1]
        lines = every(
            (rows,),
            [
                (self.values.buffer(x).name, int(x.storage_offset()), (columns,)),
                (self.values.buffer(result).name, 0, (out,)),
            ],
            lambda x, y: [product.call(start, f"&{x}", f"&{y}")],
        )
        self.function.add([*comment_lines(_where(node)), *lines], self.values.buffer(x), self.values.buffer(result))
        return result

    def _op_conv1d(
        self,
        node: fx.Node,
        value: Tensor,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = (1,),
        padding: Any = (0,),
        dilation: Any = (1,),
        groups: int = 1,
    ) -> Tensor:
        self._require_constants(node, weight, bias)
        weight, bias, value = self._fold_norm(node, weight, bias, value)
        (outputs, each, width), channels = weight.shape, x.shape[-2]
        whole = weight.new_zeros(outputs, channels, width)
        for group, part in enumerate(weight.chunk(groups)):
            at = group * (outputs // groups), group * each
            whole[at[0] : at[0] + len(part), at[1] : at[1] + each] = part
        step, gap = _single(stride), _single(dilation)
        reach = gap * (width - 1)
        before = {"valid": 0, "same": reach // 2}[padding] if isinstance(padding, str) else _single(padding)
        x, name, steps, length = self.values.contiguous(x), self._name(node), value.shape[-1], x.shape[-1]
        result = self._result(node, value)
        inputs, column = self.function.scratch(channels * width), self.function.scratch(outputs)
        product = self.constants.product(name, whole.flatten(1))
        start = self.constants.vector(f"{name}_bias", bias)
        source, target = self.values.pointer(x), self.values.pointer(result)
        lines = [
            f"for (int t = 0; t < {steps}; t++) {{",
            f"    for (int c = 0; c < {channels}; c++) {{",
            f"        for (int k = 0; k < {width}; k++) {{",
            f"            const int at = t * {step} + k * {gap} - {before};",
            f"            const int inside = at >= 0 && at < {length};",
            f"            {inputs.name}[c * {width} + k] = inside ? ({source})[c * {length} + at] : 0.0f;",
            "        }",
            "    }",
            f"    {product.call(start, inputs.name, column.name)}",
            f"    for (int c = 0; c < {outputs}; c++) {{",
            f"        ({target})[c * {steps} + t] = {column.name}[c];",
            "    }",
            "}",
        ]
        self.function.add(
            [*comment_lines(_where(node)), *lines], self.values.buffer(x), self.values.buffer(result), inputs, column
        )
        return result

    def _fold_norm(
        self, node: fx.Node, weight: Tensor, bias: Tensor | None, value: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Fold a batch norm that alone reads the layer's output into weight and bias; return the value after it."""
        norm = self._norm_after(node)
        if norm is None:
            return weight, bias, value
        rest = fx.node.map_arg(norm.args[1:], lambda n: self._env[n])
        scale, shift = _affine(rest)
        old = weight.new_zeros(len(weight)) if bias is None else bias
        folded = weight.double() * scale.view(-1, *[1] * (weight.dim() - 1))
        run: Callable[..., Tensor] = norm.target  # type: ignore[assignment]
        return folded.float(), (old.double() * scale + shift).float(), run(value, *rest)

    def _result(self, node: fx.Node, value: Tensor) -> Tensor:
        """Return the array of a layer's value, which is that of a norm folded into it as well."""
        result, norm = self.values.new(value), self._norm_after(node)
        if norm is not None and value.dim() == 2 + (self._packet(node) == "conv1d"):
            self._replaced[norm] = result
        return result

    def _norm_after(self, node: fx.Node) -> fx.Node | None:
        user = next(iter(node.users), None)
        return user if user is not None and len(node.users) == 1 and self._packet(user) == "batch_norm" else None

    @staticmethod
    def _packet(node: fx.Node) -> str:
        """Return the name of an operation without its overload."""
        return getattr(getattr(node.target, "overloadpacket", None), "__name__", str(node.target))

    def _op_batch_norm(self, node: fx.Node, value: Tensor, x: Tensor, *rest: Any) -> Tensor:
        scale, shift = (part.float().view(-1, *[1] * (x.dim() - 2)) for part in _affine(rest))
        return self._pointwise(node, value, [x, scale, shift], "{} * {} + {}")

    def _op_layer_norm(
        self,
        node: fx.Node,
        value: Tensor,
        x: Tensor,
        shape: Sequence[int],
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
        *_: Any,
    ) -> Tensor:
        self._require_constants(node, weight, bias)
        self.constants.functions.add("layer_norm")
        x, width, name = self.values.contiguous(x), math.prod(shape), self._name(node)
        result = self.values.new(value)
        scale, shift = (
            self.constants.vector(f"{name}_{what}", part) for what, part in (("weight", weight), ("bias", bias))
        )
        sizes = f"{value.numel() // width}, {width}, {literal(eps)}"
        call = f"NET_layer_norm({sizes}, {self.values.pointer(x)}, {scale}, {shift}, {self.values.pointer(result)});"
        self.function.add([*comment_lines(_where(node)), call], self.values.buffer(x), self.values.buffer(result))
        return result

    def _recurrent(self, node: fx.Node, name: str, args: Any) -> Any:
        run: Callable[..., Any] = node.target  # type: ignore[assignment]
        if getattr(node.target, "_overloadname", "") != "input":
            raise ValueError(f"model cannot be written as C: {_where(node)} takes a packed sequence")
        x, given, weights = args[0], args[1], args[2]
        _, count, _, _, bidirectional, batch_first = args[3:9]
        self._require_constants(node, *weights)
        time = (1 if batch_first else 0) if x.dim() == 3 else 0
        steps = x.shape[time]
        if x.numel() != steps * x.shape[-1]:
            raise ValueError(f"model cannot be written as C: {_where(node)} runs several sequences for one sample")
        values, title = run(*args), self._name(node)
        starts = list(given) if isinstance(given, list | tuple) else [given]
        x, states = self.values.contiguous(x), list[Tensor]()
        for start, value, letter in zip(starts, values[1:], "hc", strict=False):
            states.append(self._state(node, f"{title}_{letter}", start, value))
        layers = self.layers.add(title, name, list(weights), count, bidirectional, states[0].shape[-1])
        others = [user for user in self._readers(node, 0) if not self._takes_last(user, time, steps)]
        rows = self.values.new(values[0]) if bidirectional or (others and steps > 1) else None
        gates = self.function.scratch(layers.gates)
        pointers = [self.values.buffer(state).name for state in states]
        target = None if rows is None else self.values.buffer(rows).name
        lines, used = layers.run(self.values.pointer(x), pointers, gates, steps, target, self.function)
        buffers = [self.values.buffer(x), gates, *used, *(self.values.buffer(state) for state in states)]
        buffers += [] if rows is None else [self.values.buffer(rows)]
        self.function.add([*comment_lines(_where(node)), *lines], *buffers)
        if rows is None:  # the last row's output is the last layer's state
            for user in set(self._readers(node, 0)) - set(others):
                self._replaced[user] = states[0][-1].view(values[0].select(time, -1).shape)
            rows = states[0][-1].view(values[0].shape) if steps == 1 else None
        return (rows, *states)

    def _state(self, node: fx.Node, name: str, start: Tensor, value: Tensor) -> Tensor:
        """Return a state's value after the call, in an array that holds its value before the call until then."""
        fresh = torch.empty(value.shape)
        fresh.copy_(value)
        if self.stateful:
            if not self.values.is_constant(start):
                raise ValueError(f"{_where(node)} starts from a state that depends on the input")
            self.states[name] = start.detach().clone()
            return self.values.register(fresh, Buffer(f"state->{name}", value.numel(), Kind.STATE))
        self.values.register(fresh, self.function.scratch(value.numel()))
        if self.values.is_constant(start) and not bool(start.any()):
            self.values.map([fresh], lambda h: [f"{h} = 0.0f;"])
        else:
            self.values.map([fresh, self.values.known(start)], lambda h, x: [f"{h} = {x};"])
        return fresh

    def _readers(self, node: fx.Node, item: int) -> list[fx.Node]:
        """Return what reads one item of a node's tuple."""
        items = [user for user in node.users if user.target is operator.getitem and user.args[1] == item]
        return [reader for found in items for reader in found.users]

    @staticmethod
    def _takes_last(user: fx.Node, time: int, steps: int) -> bool:
        return Lowering._packet(user) == "select" and user.args[1:] in ((time, -1), (time, steps - 1))

    # ---- sums, products

    def _fold(
        self, node: fx.Node, value: Tensor, x: Tensor, dims: Any, before: list[str], update: str, result: str
    ) -> Tensor:
        """Add a fold over dimensions of one tensor; None means all of them."""
        axes = [dims] if isinstance(dims, int) else list(dims or range(x.dim()))
        axes = sorted(axis % x.dim() for axis in axes)
        kept = [axis for axis in range(x.dim()) if axis not in axes]
        source, out = self.values.known(x).permute(*kept, *axes), self.values.new(value)
        shape, inner = source.shape[: len(kept)], source.shape[len(kept) :]
        target = out.view(shape)
        lines = reduce(
            shape,
            inner,
            self.values.operand(target),
            [self.values.operand(source)],
            before,
            lambda x: update.format(x),
            result,
        )
        self.function.add([*comment_lines(_where(node)), *lines], self.values.buffer(source), self.values.buffer(out))
        return out

    def _op_sum(self, node: fx.Node, value: Tensor, x: Tensor, dim: Any = None, *_: Any, **__: Any) -> Tensor:
        return self._fold(node, value, x, dim, ["float sum = 0.0f;"], "sum += {};", "sum")

    def _op_mean(self, node: fx.Node, value: Tensor, x: Tensor, dim: Any = None, *_: Any, **__: Any) -> Tensor:
        count = x.numel() // value.numel()
        return self._fold(node, value, x, dim, ["float sum = 0.0f;"], "sum += {};", f"sum / {literal(count)}")

    def _op_var(
        self,
        node: fx.Node,
        value: Tensor,
        x: Tensor,
        dim: Any = None,
        correction: float | None = None,
        *_: Any,
        **__: Any,
    ) -> Tensor:
        if isinstance(correction, bool):  # the older overload: var(x, dim, unbiased)
            correction = int(correction)
        axes = list(range(x.dim())) if dim is None else dim
        mean = self._op_mean(node, x.mean(axes, keepdim=True), x, dim)
        centred = self._pointwise(node, x - mean, [x, mean], "{} - {}")
        count = x.numel() // value.numel() - (1 if correction is None else correction)
        result = f"sum / {literal(count)}"
        return self._fold(node, value, centred, dim, ["float sum = 0.0f;"], "sum += {0} * {0};", result)

    def _op_softmax(self, node: fx.Node, value: Tensor, x: Tensor, dim: int, *_: Any) -> Tensor:
        if dim % x.dim() != x.dim() - 1:
            raise ValueError(
                f"model cannot be written as C: {_where(node)} has a softmax over another than the last axis"
            )
        self.constants.functions.add("softmax")
        result, width = self.values.new(value), x.shape[-1]
        self.values.map([result, self.values.known(x)], lambda y, x: [f"{y} = {x};"], _where(node))
        rows = [(self.values.buffer(result).name, 0, (width,))]
        lines = every((value.numel() // width,), rows, lambda y: [f"NET_softmax({width}, &{y});"])
        self.function.add(lines, self.values.buffer(result))
        return result

    def _op_matmul(self, node: fx.Node, value: Tensor, a: Tensor, b: Tensor) -> Tensor:
        if a.dim() < 2 or b.dim() < 2:
            raise ValueError(f"model cannot be written as C: {_where(node)} multiplies by a vector ({node.target})")
        a, b, result = self.values.known(a), self.values.known(b), self.values.new(value)
        shape, inner = value.shape, a.shape[-1]
        left = a.expand(*shape[:-2], *a.shape[-2:]).unsqueeze(-2).expand(*shape, inner)
        right = b.expand(*shape[:-2], *b.shape[-2:]).transpose(-1, -2).unsqueeze(-3).expand(*shape, inner)
        operands = [self.values.operand(left), self.values.operand(right)]
        start, update = ["float sum = 0.0f;"], "sum += {} * {};".format
        lines = reduce(shape, (inner,), self.values.operand(result), operands, start, update, "sum")
        self.function.add([*comment_lines(_where(node)), *lines], *(self.values.buffer(x) for x in (a, b, result)))
        return result

    _op_bmm = _op_mm = _op_matmul

    def _op_scaled_dot_product_attention(
        self,
        node: fx.Node,
        value: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if attn_mask is not None or is_causal or enable_gqa:
            raise ValueError(f"model cannot be written as C: {_where(node)} is attention with a mask or grouped heads")
        self.constants.functions.add("attention")
        parts = [self.values.known(x) for x in (q, k, v)]
        parts = [x if x.stride(-1) == 1 else self.values.contiguous(x) for x in parts]
        result, keys = self.values.new(value), k.shape[-2]
        weights, factor = self.function.scratch(keys), q.shape[-1] ** -0.5 if scale is None else scale
        operands = [(name, at, steps[:-2]) for name, at, steps in map(self.values.operand, (*parts, result))]
        sizes = f"{q.shape[-2]}, {keys}, {q.shape[-1]}, {v.shape[-1]}, {literal(factor)}"

        def body(q: str, k: str, v: str, y: str) -> list[str]:
            rows = ", ".join(f"&{x}, {part.stride(-2)}" for x, part in zip((q, k, v), parts, strict=True))
            return [f"NET_attention({sizes}, {rows}, {weights.name}, &{y});"]

        lines = every(value.shape[:-2], operands, body)
        buffers = [self.values.buffer(x) for x in (*parts, result)]
        self.function.add([*comment_lines(_where(node)), *lines], weights, *buffers)
        return result

    def _require_constants(self, node: fx.Node, *weights: Tensor | None) -> None:
        if not all(w is None or self.values.is_constant(w) for w in weights):
            raise ValueError(f"model cannot be written as C: {_where(node)} has weights that depend on the input")

    def _name(self, node: fx.Node) -> str:
        """Return the name of the layer that makes a call, for its arrays."""
        for argument in pytree.tree_leaves(node.args):
            value = self._env.get(argument) if isinstance(argument, fx.Node) else None
            if isinstance(value, Tensor) and (name := self.values.names.get(storage(value))):
                name = re.sub(r"\W", "_", name.rpartition(".")[0] or node.name, flags=re.ASCII)
                return f"layer{name}" if name[0].isdigit() else name
        return node.name


def _single(sizes: Any) -> int:
    return int(sizes[0] if isinstance(sizes, list | tuple) else sizes)


def _number(x: Any) -> str:
    if not math.isfinite(x):
        raise ValueError(f"model must have finite numbers only, but its code holds {x}")
    return literal(x) if x >= 0 else f"({literal(x)})"


def _affine(rest: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Return a batch norm's arguments after its input as scale and shift (channels), float64."""
    weight, bias, mean, variance, training, _, eps, *_ = rest
    if training or mean is None or variance is None:
        raise ValueError("model has a batch norm without running statistics, which mixes its batch")
    scale = (variance.double() + eps).rsqrt() * (1 if weight is None else weight.detach().double())
    return scale, (0 if bias is None else bias.detach().double()) - mean.double() * scale


def _where(node: fx.Node) -> str:
    """Return the layer that a node belongs to, with its class, or else the operation."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    kind = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
    kind = kind.rpartition(".")[2]
    operation = str(getattr(node.target, "__name__", node.target)).partition(".")[0]
    return f"{path} ({kind}): {operation}" if path else f"{kind or 'model'}: {operation}"

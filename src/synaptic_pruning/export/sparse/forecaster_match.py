"""Recognise recurrent layers with a Linear head on their last row by what is traced, whatever class they are."""

import inspect
import operator
from dataclasses import dataclass
from typing import Any, cast

from torch import fx, nn

_LAYERS = (nn.LSTM, nn.GRU, nn.RNN)
_LAST = -1
_ALL = slice(None)


@dataclass(frozen=True)
class ForecasterParts:
    """Names of the modules inside such a network.

    Attributes:
        body: Name of the recurrent layers.
        head: Name of the Linear layer.
        path: What indexes the layers' result, one after the other, such as ``(0, (slice(None), -1))``.
    """

    body: str
    head: str
    path: tuple[Any, ...]


def match_forecaster(model: nn.Module) -> ForecasterParts | None:
    """Return the parts of a network that `FastForecaster` can compute; None for any other module.

    Example:
        >>> class Forecaster(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.body, self.head = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 2)
        ...     def forward(self, window):
        ...         return self.head(self.body(window)[0][:, -1])
        >>> match_forecaster(Forecaster()).path
        (0, (slice(None, None, None), -1))
        >>> match_forecaster(nn.Linear(8, 8)) is None
        True
    """
    kinds = [type(module) for module in model.modules()]
    if type(model) in _LAYERS or sum(kind in _LAYERS for kind in kinds) != 1 or kinds.count(nn.Linear) != 1:
        return None
    try:
        optional = list(inspect.signature(model.forward).parameters.values())[1:]
        graph = fx.Tracer().trace(model, {p.name: p.default for p in optional if p.default is not p.empty})
    except Exception:  # torch.fx raises many kinds for what it can't trace
        return None
    parts = _read(model, graph)
    return parts if parts and parts.path in _paths(cast(nn.RNNBase, model.get_submodule(parts.body))) else None


def _paths(layer: nn.RNNBase) -> list[tuple[Any, ...]]:
    """Return what indexes the result of a layer to give the last row's outputs."""
    paths: list[tuple[Any, ...]] = [(0, (_ALL, _LAST)), (0, (_ALL, _LAST, _ALL))]
    if not layer.batch_first:
        paths = [(0, _LAST), (0, (_LAST,))]
    if not layer.bidirectional:  # the state of the last layer is its last output
        paths.append((1, 0, _LAST) if type(layer) is nn.LSTM else (1, _LAST))
    return paths


def _read(model: nn.Module, graph: fx.Graph) -> ForecasterParts | None:
    """Return the parts if the graph is input, recurrent layers, indices, Linear, output, and nothing more."""
    used: set[fx.Node] = set()

    def calls(node: Any, kinds: tuple[type[nn.Module], ...]) -> bool:
        if not isinstance(node, fx.Node):
            return False
        used.add(node)
        alone = len(node.args) == 1 and not node.kwargs
        return node.op == "call_module" and alone and type(model.get_submodule(str(node.target))) in kinds

    def before(node: Any) -> Any:
        while calls(node, (nn.Dropout, nn.Identity)):
            node = node.args[0]
        return node

    end = next(node for node in graph.nodes if node.op == "output")
    head = before(end.args[0])
    if not calls(head, (nn.Linear,)):
        return None
    node, path = before(head.args[0]), list[Any]()
    while isinstance(node, fx.Node) and node.target is operator.getitem:
        path.insert(0, node.args[1])
        node = before(node.args[0])
    if not calls(node, _LAYERS) or node.args[0].op != "placeholder":
        return None
    # What is not used may still change its input in place, unless it only picks a part of a result.
    rest = [other for other in graph.nodes if other not in used and other.op not in ("output", "placeholder")]
    if any(other.target is not operator.getitem for other in rest):
        return None
    return ForecasterParts(str(node.target), str(head.target), tuple(path))

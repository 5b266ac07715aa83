"""Feed a recurrent network one row at a time and carry its state, checked against whole windows."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from synaptic_pruning.export.batch import describe_difference, tensors_in
from synaptic_pruning.export.shrinking import check_runs
from synaptic_pruning.export.sparse import FastForecaster, SparseRecurrent

_TOLERANCE = 1e-5  # of the largest output, in float32
State = tuple[Any, ...]
"""One entry a recurrent layer, as the layer itself returns it: ``(h, c)`` for an LSTM, ``h`` for others."""


class NoStreaming(ValueError):
    """A network that gives other outputs a row at a time than for a window, or cannot run so."""


class StreamingStep(nn.Module):
    """A recurrent network that takes one row at a time; made by `streaming`.

    Attributes:
        axis: The dimension of the window that counted its rows.
    """

    def __init__(self, model: nn.Module, axis: int) -> None:
        super().__init__()
        self.model, self.axis = model, axis
        self._layers = recurrent_layers(model)
        super().train(False)

    def train(self, mode: bool = True) -> Self:
        """Refuse training mode; evaluation mode is accepted and changes nothing.

        Raises:
            RuntimeError: ``mode`` is true.
        """
        if mode:
            raise RuntimeError("a streaming step is for inference only; keep the original model for training")
        return super().train(False)

    def forward(self, row: Tensor, state: State | None = None) -> tuple[Any, State]:
        """Return `step`."""
        return self.step(row, state)

    @torch.no_grad()
    def step(self, row: Tensor, state: State | None = None) -> tuple[Any, State]:
        """Take one row of every sample and return the forecast after it, and the state to hand to the next call.

        A call computes no gradients. One object serves one thread at a time; copies share nothing.

        Args:
            row: The example's shape without the dimension of its rows, such as (batch, channels). The batch is free.
            state: What the call before returned; None starts anew. It is not changed.

        Returns:
            What the model returns for a window of this one row, and the state after it.

        Raises:
            ValueError: ``state`` is of another network, or of another batch than ``row``.
        """
        layers = self._layers
        if state is not None and (not isinstance(state, tuple) or len(state) != len(layers)):
            raise ValueError(f"state must be what step returned, a tuple of {len(layers)}, not {type(state).__name__}")
        if isinstance(self.model, FastForecaster):
            outputs, after_row = self.model.step(row, None if state is None else state[0])
            return outputs, (after_row,)
        window = row.unsqueeze(self.axis)
        with _carried(layers, state) as after:
            try:
                outputs = self.model(window)
            except RuntimeError as error:
                if state is None:
                    raise
                reason = str(error).partition("\n")[0]
                raise ValueError(
                    f"state must fit a row of shape {tuple(row.shape)}; it failed with: {reason}"
                ) from error
        return outputs, tuple(after)


def streaming(model: nn.Module, example_window: Tensor) -> StreamingStep:
    """Return a network that takes one row at a time and carries its state: ``y, state = small.step(row, state)``.

    It works for recurrent layers (RNN, LSTM, GRU, also as `compact` makes them), whatever acts row by row before
    them, and whatever acts on the last output after them. This is not read off the code but tried: outputs row by
    row from the zero state must equal those of the window, on the example and on random numbers.

    After k steps the forecast is that of one window of all k rows. It is not that of the last rows alone, since the
    state remembers older ones. Networks trained on windows of a fixed length have not seen such states; those
    trained statefully have. To repeat a window's forecast exactly, start with ``state=None`` and feed its rows.

    Args:
        model: The network, or what `compact` returned. It is copied.
        example_window: A window that it runs on, of at least 2 rows, such as (batch, rows, channels).

    Returns:
        A `StreamingStep`.

    Raises:
        NoStreaming: The network has no recurrent layer, a bidirectional one, one called more than once, or gives other
            outputs row by row than for the window.
        ValueError: The model does not run on ``example_window``, or that is no window of float32 numbers.

    Example:
        >>> class Forecaster(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.body, self.head = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 2)
        ...     def forward(self, window):
        ...         return self.head(self.body(window)[0][:, -1])
        >>> model, window, state = Forecaster().eval(), torch.randn(1, 30, 3), None
        >>> small = streaming(model, window)
        >>> for row in window.unbind(1):
        ...     forecast, state = small.step(row, state)
        >>> torch.allclose(forecast, model(window), atol=1e-5)
        True
    """
    if not isinstance(example_window, Tensor) or example_window.dim() < 2:
        raise ValueError("example_window must be one tensor with a dimension of rows, such as (1, 30, channels)")
    if example_window.dtype != torch.float32:
        raise ValueError(f"example_window must be float32, not {example_window.dtype}; give example_window.float()")
    model = copy.deepcopy(model).eval().requires_grad_(False)
    layers = recurrent_layers(model)
    if not layers:
        raise NoStreaming(f"{type(model).__name__} has no RNN, LSTM or GRU layer, so it has no state to carry")
    for name, layer in layers.items():
        if _both_ways(layer):
            raise NoStreaming(f"{name} is bidirectional: it reads the window from its end, which a step has not seen")
    with torch.no_grad():
        check_runs(model, (example_window,))
        batch_first = next(iter(layers.values())).batch_first
        likely = (1, 0) if batch_first and example_window.dim() > 2 else (0, 1)
        axes = [axis for axis in likely if example_window.shape[axis] > 1 and axis < example_window.dim() - 1]
        if not axes:
            raise ValueError(
                f"example_window must have 2 rows or more to check steps against, not {tuple(example_window.shape)}"
            )
        problems = []
        for axis in axes:
            small = StreamingStep(model, axis)
            if not (problem := _difference(small, example_window)):
                return small
            problems.append(problem)
    raise NoStreaming(f"{type(model).__name__} cannot run a row at a time: {problems[0]}")


def recurrent_layers(model: nn.Module) -> dict[str, Any]:
    """Return every recurrent layer inside a model by its name; a model that is one itself has the name "model"."""
    return {name or "model": m for name, m in model.named_modules() if isinstance(m, nn.RNNBase | SparseRecurrent)}


def _both_ways(layer: Any) -> bool:
    return layer.directions > 1 if isinstance(layer, SparseRecurrent) else bool(layer.bidirectional)


def _difference(small: StreamingStep, window: Tensor) -> str:
    """Return how steps from the zero state differ from the whole window, as a message; empty if they do not."""
    noise = torch.randn(window.shape, generator=torch.Generator().manual_seed(0)).to(window)
    for what, rows in (("the example", window), ("random numbers", noise)):
        want = tensors_in(small.model(rows))
        state, steps = None, []
        for row in rows.unbind(small.axis):
            try:
                outputs, state = small.step(row, state)
            except Exception as error:  # the model's own code may raise anything on a window of one row
                return f"it fails on a window of one row ({str(error).partition(chr(10))[0]})"
            steps.append(tensors_in(outputs))
        if len(want) != len(steps[-1]):
            return "it returns another number of tensors for one row"
        got = [_joined([step[k] for step in steps], x) for k, x in enumerate(want)]
        if problem := describe_difference(want, got, _TOLERANCE, f"from those of the window, on {what}"):
            return problem
    return ""


def _joined(steps: list[Tensor], whole: Tensor) -> Tensor:
    """Return the last step's output or, where the window's output has one entry a row, all of them in a row."""
    last = steps[-1]
    if last.dim() == whole.dim():
        for axis, (size, rows) in enumerate(zip(last.shape, whole.shape, strict=True)):
            if size == 1 and rows == len(steps) > 1:
                return torch.cat(steps, axis)
    return last


@contextmanager
def _carried(layers: dict[str, Any], state: State | None) -> Iterator[list[Any]]:
    """Start every layer from the given state inside the block; yield the list that its calls fill with states after."""
    after: list[Any] = []
    seen: set[str] = set()

    def start(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if name in seen:
                raise NoStreaming(f"{name} is called more than once for a window; give each call its own layer")
            seen.add(name)
            if state is None:
                return None
            return (args or (kwargs.get("input", kwargs.get("x")),))[0], state[len(after)]

        return lambda *call: None if (changed := hook(*call)) is None else (changed, {})

    def end(_: nn.Module, args: tuple[Any, ...], outputs: Any) -> None:
        after.append(outputs[1])

    hooks = [layer.register_forward_pre_hook(start(name), with_kwargs=True) for name, layer in layers.items()]
    hooks += [layer.register_forward_hook(end) for layer in layers.values()]
    try:
        yield after
    finally:
        for hook in hooks:
            hook.remove()

"""The tensors of one run, and the arrays of the C code that hold them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from synaptic_pruning.export.deploy.c_code.constants import Constants
from synaptic_pruning.export.deploy.c_code.loops import Operand, comment_lines, every, pointer, strided
from synaptic_pruning.export.deploy.c_code.memory import Buffer, Function, Kind


class Values:
    """Every storage of a tensor is an array in the C code, and PyTorch says where a view's elements lie in it.

    What lies in no array is a constant; it gets one when the C code reads it.

    Args:
        function: Where statements go.
        constants: Where constant arrays go.

    Attributes:
        names: Names of the network's parameters and buffers, by storage.
    """

    def __init__(self, function: Function, constants: Constants) -> None:
        self.function, self.constants = function, constants
        self.names: dict[int, str] = {}
        self._buffers: dict[int, Buffer] = {}
        self._kept: list[Tensor] = []  # so that no storage's address is given to another

    def name(self, x: Tensor, name: str) -> Tensor:
        """Give a parameter its name, and return its tensor."""
        self._kept.append(x)
        self.names[storage(x)] = name
        return x.detach()

    def is_constant(self, x: Tensor) -> bool:
        """Return whether a tensor is a constant of the network, or computed of such alone."""
        buffer = self._buffers.get(storage(x))
        return buffer is None or buffer.kind is Kind.CONSTANT

    def register(self, x: Tensor, buffer: Buffer) -> Tensor:
        """Let an array of the C code hold the tensor's storage, and return the tensor."""
        self._kept.append(x)
        self._buffers[storage(x)] = buffer
        return x

    def new(self, value: Tensor) -> Tensor:
        """Return a value in a scratch array of its own."""
        fresh = torch.empty(value.shape)
        fresh.copy_(value)
        return self.register(fresh, self.function.scratch(value.numel()))

    def known(self, x: Tensor) -> Tensor:
        """Return the value, in an array of the C code even if it is a constant."""
        if storage(x) in self._buffers:
            return x
        fresh = x.detach().clone(memory_format=torch.contiguous_format)
        name = self.constants.vector(self.names.get(storage(x), "constant"), fresh)
        return self.register(fresh, Buffer(name, x.numel(), Kind.CONSTANT))

    def buffer(self, x: Tensor) -> Buffer:
        """Return the array that holds a tensor."""
        return self._buffers[storage(x)]

    def operand(self, x: Tensor) -> Operand:
        """Return where a tensor's elements lie."""
        return strided(self.buffer(x).name, x)

    def pointer(self, x: Tensor) -> str:
        """Return the C expression of the place of a tensor's first element."""
        return pointer(self.buffer(x).name, int(x.storage_offset()))

    def contiguous(self, x: Tensor) -> Tensor:
        """Return the value with its elements in a row, copied if they are not."""
        x = self.known(x)
        if x.is_contiguous():
            return x
        copy = self.new(x)
        self.map([copy, x], lambda y, x: [f"{y} = {x};"])
        return copy

    def map(self, operands: Sequence[Tensor], body: Callable[..., list[str]], comment: str = "") -> None:
        """Add loops over all elements of the first operand; the others are broadcast."""
        shape = operands[0].shape
        views = [operands[0], *(x.expand(shape) for x in operands[1:])]
        lines = every(shape, [self.operand(x) for x in views], body)
        self.function.add([*comment_lines(comment), *lines], *(self.buffer(x) for x in views))

    def view_of(self, source: Tensor, value: Any) -> Any:
        """Return what a reshaping call gave; a copy in it becomes one in the C code."""
        if not isinstance(value, Tensor):
            return value
        if storage(value) == storage(source):
            return value
        copy = self.new(value)
        self.map([copy.view(source.shape), self.known(source)], lambda y, x: [f"{y} = {x};"])
        return copy


def storage(x: Tensor) -> int:
    """Return what tells one tensor's memory from another's."""
    return x.untyped_storage().data_ptr()

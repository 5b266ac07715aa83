"""Statements of one C function, the arrays they use, and where scratch arrays lie: as early as is free."""

from dataclasses import dataclass, field
from enum import Enum, auto


class Kind(Enum):
    """Where an array lies."""

    INPUT = auto()
    OUTPUT = auto()
    SCRATCH = auto()
    STATE = auto()
    CONSTANT = auto()


@dataclass(eq=False)
class Buffer:
    """An array of floats in the C code.

    Attributes:
        name: Its C expression.
        size: Number of floats.
        kind: Where it lies.
        offset: Its place in the scratch memory, after `Function.place`.
    """

    name: str
    size: int
    kind: Kind
    offset: int = 0


@dataclass
class Function:
    """The body of one C function.

    Attributes:
        lines: C lines of each statement.
        uses: The arrays that each statement reads or writes.
    """

    lines: list[list[str]] = field(default_factory=list)
    uses: list[set[Buffer]] = field(default_factory=list)
    _scratch: int = 0

    def add(self, lines: list[str], *buffers: Buffer) -> None:
        """Append a statement."""
        self.lines.append(lines)
        self.uses.append(set(buffers))

    def scratch(self, size: int) -> Buffer:
        """Return a new scratch array."""
        self._scratch += 1
        return Buffer(f"t{self._scratch - 1}", size, Kind.SCRATCH)

    def place(self) -> tuple[list[Buffer], int]:
        """Give every scratch array its place; return them in order, and the floats that all take together.

        Arrays share memory unless some statement lies between the first and the last use of both.
        """
        lives: dict[Buffer, tuple[int, int]] = {}
        for number, used in enumerate(self.uses):
            for buffer in sorted(used, key=lambda b: b.name):
                if buffer.kind is Kind.SCRATCH:
                    lives[buffer] = (lives.get(buffer, (number, number))[0], number)
        placed: list[Buffer] = []
        for buffer in sorted(lives, key=lambda b: (-b.size, lives[b])):
            first, last = lives[buffer]
            others = [b for b in placed if lives[b][0] <= last and first <= lives[b][1]]
            buffer.offset = 0
            for other in sorted(others, key=lambda b: b.offset):
                if other.offset < buffer.offset + buffer.size:
                    buffer.offset = max(buffer.offset, other.offset + other.size)
            placed.append(buffer)
        return sorted(placed, key=lambda b: lives[b]), max((b.offset + b.size for b in placed), default=0)

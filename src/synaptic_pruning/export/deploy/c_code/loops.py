"""Text of C loops over strided arrays: every element once, neighbouring dimensions merged."""

from collections.abc import Callable, Sequence

from torch import Tensor

_NAMES = "ijklmnpq"
Operand = tuple[str, int, Sequence[int]]
"""An array's name, the place of its first element, and one stride a dimension."""


def strided(name: str, x: Tensor) -> Operand:
    """Return where a tensor's elements lie in the array that holds its storage."""
    return name, int(x.storage_offset()), x.stride()


def pointer(name: str, offset: int) -> str:
    """Return the C expression of an array's element as a pointer."""
    return f"{name} + {offset}" if offset else name


def literal(value: float) -> str:
    """Return a float32 as a C constant, which reads back to the same bits.

    Example:
        >>> literal(0.5), literal(1e-10), literal(3)
        ('0.5f', '1e-10f', '3.0f')
    """
    text = f"{value:.9g}"
    return f"{text}f" if set(text) & {".", "e"} else f"{text}.0f"


def comment_lines(text: str) -> list[str]:
    """Return a comment in C; nothing for an empty text.

    Example:
        >>> comment_lines("head (Linear)")
        ['/* head (Linear) */']
    """
    return [f"/* {closed_never(text)} */"] if text else []


def closed_never(text: str) -> str:
    """Return a text that does not end the comment around it."""
    return text.replace("*/", "* /")


def every(shape: Sequence[int], operands: Sequence[Operand], body: Callable[..., list[str]]) -> list[str]:
    """Return loops over a shape around ``body``, which gets the C expression of every operand's element.

    Example:
        >>> print(*every((2, 3), [("y", 0, (3, 1)), ("x", 5, (1, 2))], lambda y, x: [f"{y} = {x};"]), sep=chr(10))
        for (int i = 0; i < 2; i++) {
            for (int j = 0; j < 3; j++) {
                y[i * 3 + j] = x[5 + i + j * 2];
            }
        }
    """
    sizes, strides = _merge(shape, [operand[2] for operand in operands])
    # Loops inside of `body` have their own names.
    names = _NAMES[: len(sizes)]
    elements = [
        f"{name}[{_place(offset, names, steps)}]" for (name, offset, _), steps in zip(operands, strides, strict=True)
    ]
    lines = body(*elements)
    for name, size in zip(names[::-1], sizes[::-1], strict=True):
        inner = [f"    {line}" for line in lines]
        lines = [f"for (int {name} = 0; {name} < {size}; {name}++) {{", *inner, "}"]
    return lines


def reduce(
    shape: Sequence[int],
    inner: Sequence[int],
    target: Operand,
    sources: Sequence[Operand],
    before: Sequence[str],
    update: Callable[..., str],
    result: str,
) -> list[str]:
    """Return loops that fold the inner dimensions of sources into one number for every element of a target.

    Args:
        shape: Sizes of the target.
        inner: Sizes folded; the sources have them after ``shape``.
        target: Where results go.
        sources: What is read.
        before: Lines that start a fold.
        update: Returns the line for one element, given the sources' elements.
        result: The folded number.
    """
    outer, count = len(shape), len(shape) + len(inner)
    names = [f"{name}{number}" for number, name in enumerate("r" * len(inner))]

    def fold(written: str, *starts: str) -> list[str]:
        elements = []
        for start, (_, _, strides) in zip(starts, sources, strict=True):
            steps = [_term(name, strides[axis]) for name, axis in zip(names, range(outer, count), strict=True)]
            elements.append(f"{start[:-1]}{''.join(f' + {step}' for step in steps if step)}]")
        lines = [update(*elements)]
        for name, size in zip(names[::-1], inner[::-1], strict=True):
            lines = [
                f"for (int {name} = 0; {name} < {size}; {name}++) {{",
                *(f"    {line}" for line in lines),
                "}",
            ]
        return ["{", *(f"    {line}" for line in (*before, *lines, f"{written} = {result};")), "}"]

    return every(shape, [target, *((name, at, strides[:outer]) for name, at, strides in sources)], fold)


def _merge(shape: Sequence[int], strides: list[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """Drop dimensions of size 1, and join neighbours that every operand passes in one stride."""
    sizes: list[int] = []
    merged: list[list[int]] = [[] for _ in strides]
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        steps = [s[axis] for s in strides]
        if sizes and all(m[-1] == step * size for m, step in zip(merged, steps, strict=True)):
            sizes[-1] *= size
            for m, step in zip(merged, steps, strict=True):
                m[-1] = step
        else:
            sizes.append(size)
            for m, step in zip(merged, steps, strict=True):
                m.append(step)
    return sizes, merged


def _place(offset: int, names: str, strides: Sequence[int]) -> str:
    terms = [_term(name, step) for name, step in zip(names, strides, strict=True)]
    terms = [str(offset), *terms] if offset else terms
    return " + ".join(term for term in terms if term) or "0"


def _term(name: str, step: int) -> str:
    return "" if step == 0 else name if step == 1 else f"{name} * {step}"

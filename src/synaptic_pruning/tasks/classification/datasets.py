"""Load the image sets, split into training, validation and test parts and scaled by the training part alone."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from synaptic_pruning.tasks import download
from synaptic_pruning.tasks.classification.readers import find_file, read_cifar10, read_cifar10_archive, read_idx
from synaptic_pruning.tasks.classification.sources import FILES
from synaptic_pruning.tasks.errors import DataError
from synaptic_pruning.tasks.progress import show_progress

_Parts = tuple[Tensor, Tensor, Tensor, Tensor]  # images and labels to learn from, images and labels to test on


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images with their labels.

    Attributes:
        images: Images, float32, shape (n, channels, height, width).
        labels: Labels, int64, shape (n,).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Labelled":
        """Return a copy on a device."""
        return Labelled(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class ClassificationTask:
    """The three parts of an image set.

    Attributes:
        name: Name of the data set.
        train: Part that gradients are computed on.
        validation: Part that every choice is made on.
        test: Part for the one final figure.
        classes: Number of classes.
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
        """Return a copy on a device, such as ``"cuda"``; the model has to be on the same device."""
        train, validation, test = (part.to(device) for part in (self.train, self.validation, self.test))
        return replace(self, train=train, validation=validation, test=test)


def make_task(
    name: str = "digits", data_dir: Path | None = None, *, validation: float = 1 / 6, rows: int | None = None
) -> ClassificationTask:
    """Load a data set, minus the mean image of the training part, divided by the standard deviation that remains there.

    A pixel is then active as far as it departs from its mean. A pixel that never changes, such as one that is always
    black, reads 0 to networks and to rules that score by usage. One mean for all pixels would make the
    black ones active; no mean at all would make the bright ones active. The validation part is the end of the training
    images in a fixed random order.

    Args:
        name: A name in `DATASETS`; ``digits`` comes with scikit-learn.
        data_dir: Folder with ``mnist/``, ``fashion-mnist/`` and ``cifar10/``, which is never written to; by default
            the environment variable SYNAPTIC_PRUNING_DATA. Without either the files are fetched once into the user's
            cache, and compared with their sums each time.
        validation: Fraction of the training images held back, in (0, 1).
        rows: Take only so many training images (validation included), the first of the random order.

    Raises:
        DataError: The name is unknown, an argument is out of range, or files are missing or damaged.

    Example:
        >>> task = make_task("digits")
        >>> task.shape, len(task.train), len(task.validation), len(task.test)
        ((1, 8, 8), 1198, 239, 360)
    """
    if name not in DATASETS:
        raise DataError(f"data={name!r} is unknown; take one of {', '.join(DATASETS)}")
    if not 0 < validation < 1:
        raise DataError(f"validation={validation} must be in (0, 1): the fraction of training images held back")
    parts = images, labels, test_images, test_labels = DATASETS[name](download.local_folder(data_dir) or _fetched(name))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    if rows is not None:
        if not 2 <= rows <= len(labels):
            raise DataError(f"rows={rows} must be from 2 to the {len(labels):,} training images of {name}")
        order = order[:rows]
    held = max(1, int(validation * len(order)))
    kept, held_back = order[:-held], order[-held:]
    seen = images[kept].double()  # a sum of many bytes in float32 would lose digits
    mean = seen.mean(0)
    scale = max(float((seen - mean).std()), 1e-12)

    def part(images: Tensor, labels: Tensor) -> Labelled:
        scaled = (images.float() - mean.float()) / scale
        # Channels last in memory, which batches keep, is the layout that pooling on a CPU needs.
        return Labelled(scaled.contiguous(memory_format=torch.channels_last), labels.long())

    return ClassificationTask(
        name,
        part(images[kept], labels[kept]),
        part(images[held_back], labels[held_back]),
        part(test_images, test_labels),
        digest=_digest(parts),
    )


def _fetched(name: str) -> Path:
    for file, progress in show_progress(FILES[name]):
        download.fetch(file, progress=progress)
    return download.cache_folder() if FILES[name] else Path()


def _digest(parts: _Parts) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _digits(folder: Path) -> _Parts:
    """Load 1,797 images of 8 × 8; every fifth is for the test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = torch.as_tensor(bunch.images)[:, None], torch.as_tensor(bunch.target)
    tested = torch.arange(len(labels)) % 5 == 0
    return images[~tested], labels[~tested], images[tested], labels[tested]


def _idx(subfolder: str) -> Callable[[Path], _Parts]:
    def load(folder: Path) -> _Parts:
        parts = []
        for name in ("train", "t10k"):
            images = read_idx(find_file(folder / subfolder, f"{name}-images-idx3-ubyte"), 3)
            labels = read_idx(find_file(folder / subfolder, f"{name}-labels-idx1-ubyte"), 1)
            if len(images) != len(labels):
                raise DataError(
                    f"{subfolder} has {len(images):,} {name} images but {len(labels):,} labels; fetch both anew"
                )
            parts += [images[:, None], labels]
        return parts[0], parts[1], parts[2], parts[3]

    return load


def _cifar10(folder: Path) -> _Parts:
    """Read the published archive, else the training batches that exist, from the first on."""
    folder = folder / "cifar10"
    for path in (folder / "cifar-10-binary.tgz", folder / "cifar-10-binary.tar.gz"):
        if path.is_file():
            *batches, test = read_cifar10_archive(path)
            return *_joined(batches), *test
    batches = [read_cifar10(find_file(folder, "data_batch_1.bin"))]
    for number in range(2, 6):
        try:
            path = find_file(folder, f"data_batch_{number}.bin")
        except DataError:
            break
        batches.append(read_cifar10(path))
    return *_joined(batches), *read_cifar10(find_file(folder, "test_batch.bin"))


def _joined(batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


DATASETS: dict[str, Callable[[Path], _Parts]] = {
    "digits": _digits,
    "mnist": _idx("mnist"),
    "fashion-mnist": _idx("fashion-mnist"),
    "cifar10": _cifar10,
}
"""Functions that read a data set from the data folder, by name."""

"""Build small networks for images: a multilayer perceptron, a convolutional network and one in the style of VGG."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

_Shape = tuple[int, int, int]


def mlp(shape: _Shape, classes: int = 10, widths: Sequence[int] = (300, 100), dropout: float = 0.0) -> nn.Sequential:
    """Return a multilayer perceptron with ReLU, by default of LeNet-300-100's widths (LeCun et al. 1998).

    Example:
        >>> mlp((1, 28, 28))(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    layers: list[nn.Module] = [nn.Flatten()]
    wide = shape[0] * shape[1] * shape[2]
    for width in widths:
        layers += [nn.Linear(wide, width), nn.ReLU(), *_dropout(dropout)]
        wide = width
    return nn.Sequential(*layers, nn.Linear(wide, classes))


def cnn(shape: _Shape, classes: int = 10, channels: Sequence[int] = (16, 32), dropout: float = 0.0) -> nn.Sequential:
    """Return convolutions of 3 × 3, each with 2 × 2 pooling and ReLU, and two dense layers.

    Example:
        >>> cnn((1, 28, 28))(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    layers: list[nn.Module] = []
    planes, height, width = shape
    for wide in channels:
        # ReLU after pooling gives the same numbers as before it, on a quarter of the values.
        layers += [nn.Conv2d(planes, wide, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
        planes, height, width = wide, height // 2, width // 2
    layers += [nn.Flatten(), nn.Linear(planes * height * width, 128), nn.ReLU(), *_dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(128, classes))


def vgg(
    shape: _Shape, classes: int = 10, channels: Sequence[int] = (32, 64, 128), dropout: float = 0.0
) -> nn.Sequential:
    """Return blocks of two 3 × 3 convolutions with batch normalisation and pooling (after Simonyan & Zisserman 2015).

    Example:
        >>> vgg((3, 32, 32))(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    layers: list[nn.Module] = []
    planes = shape[0]
    for wide in channels:
        for _ in range(2):
            layers += [nn.Conv2d(planes, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
            planes = wide
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *_dropout(dropout), nn.Linear(planes, classes))


def _dropout(rate: float) -> list[nn.Module]:
    return [nn.Dropout(rate)] if rate else []


MODELS: dict[str, Callable[..., nn.Sequential]] = {"mlp": mlp, "cnn": cnn, "vgg": vgg}
"""The networks by name."""


def build_model(
    name: str, shape: _Shape, classes: int = 10, *, seed: int, dropout: float = 0.0, **sizes: Sequence[int]
) -> nn.Sequential:
    """Return a network with initial weights of a seed; the caller's random state is left as it was.

    Args:
        name: A name in `MODELS`.
        shape: Channels, height and width of an image.
        classes: Number of classes.
        seed: Seed of the initial weights.
        dropout: Dropout rate before the output layer (after every hidden layer in the MLP), in [0, 1).
        **sizes: ``widths`` of the MLP or ``channels`` of the others.

    Raises:
        ValueError: The name is unknown.
    """
    if name not in MODELS:
        raise ValueError(f"model={name!r} is unknown; take one of {', '.join(MODELS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name](shape, classes, dropout=dropout, **sizes)

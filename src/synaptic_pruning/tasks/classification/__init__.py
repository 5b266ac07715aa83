"""Image classification: digits, MNIST, Fashion-MNIST, CIFAR-10, small networks, training."""

from synaptic_pruning.tasks.classification.datasets import DATASETS, ClassificationTask, Labelled, make_task
from synaptic_pruning.tasks.classification.models import MODELS, build_model
from synaptic_pruning.tasks.classification.plots import (
    plot_receptive_fields,
    plot_streaks,
    receptive_fields,
    streak_counts,
)
from synaptic_pruning.tasks.classification.readers import read_cifar10, read_cifar10_archive, read_idx
from synaptic_pruning.tasks.classification.sources import FILES
from synaptic_pruning.tasks.classification.training import Training, accuracy, epochs_to, train
from synaptic_pruning.tasks.errors import DataError

__all__ = [
    "DATASETS",
    "FILES",
    "MODELS",
    "ClassificationTask",
    "DataError",
    "Labelled",
    "Training",
    "accuracy",
    "build_model",
    "epochs_to",
    "make_task",
    "plot_receptive_fields",
    "plot_streaks",
    "read_cifar10",
    "read_cifar10_archive",
    "read_idx",
    "receptive_fields",
    "streak_counts",
    "train",
]

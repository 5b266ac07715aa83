"""Image classification: digits, MNIST, Fashion-MNIST, CIFAR-10, small networks, training."""

from synaptic_pruning.tasks.classification.datasets import DATASETS as DATASETS
from synaptic_pruning.tasks.classification.datasets import ClassificationTask as ClassificationTask
from synaptic_pruning.tasks.classification.datasets import Labelled as Labelled
from synaptic_pruning.tasks.classification.datasets import make_task as make_task
from synaptic_pruning.tasks.classification.models import MODELS as MODELS
from synaptic_pruning.tasks.classification.models import build_model as build_model
from synaptic_pruning.tasks.classification.plots import plot_receptive_fields as plot_receptive_fields
from synaptic_pruning.tasks.classification.plots import plot_streaks as plot_streaks
from synaptic_pruning.tasks.classification.plots import receptive_fields as receptive_fields
from synaptic_pruning.tasks.classification.plots import streak_counts as streak_counts
from synaptic_pruning.tasks.classification.readers import DataError as DataError
from synaptic_pruning.tasks.classification.readers import read_cifar10 as read_cifar10
from synaptic_pruning.tasks.classification.readers import read_cifar10_archive as read_cifar10_archive
from synaptic_pruning.tasks.classification.readers import read_idx as read_idx
from synaptic_pruning.tasks.classification.sources import FILES as FILES
from synaptic_pruning.tasks.classification.training import Training as Training
from synaptic_pruning.tasks.classification.training import accuracy as accuracy
from synaptic_pruning.tasks.classification.training import epochs_to as epochs_to
from synaptic_pruning.tasks.classification.training import train as train

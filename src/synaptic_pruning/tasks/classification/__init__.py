"""Image classification: digits, MNIST, Fashion-MNIST, CIFAR-10, small networks, training."""

from .datasets import DATASETS as DATASETS
from .datasets import ClassificationTask as ClassificationTask
from .datasets import Labelled as Labelled
from .datasets import make_task as make_task
from .files import FILES as FILES
from .models import MODELS as MODELS
from .models import build_model as build_model
from .pictures import plot_receptive_fields as plot_receptive_fields
from .pictures import plot_streaks as plot_streaks
from .pictures import receptive_fields as receptive_fields
from .pictures import streak_counts as streak_counts
from .readers import DataError as DataError
from .readers import read_cifar10 as read_cifar10
from .readers import read_cifar10_archive as read_cifar10_archive
from .readers import read_idx as read_idx
from .training import Training as Training
from .training import accuracy as accuracy
from .training import epochs_to as epochs_to
from .training import train as train

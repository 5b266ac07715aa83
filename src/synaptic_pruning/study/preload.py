"""Import what the processes of cells need: the fork server does it once for all of them."""

import numpy.ctypeslib  # noqa: F401
import safetensors.torch  # noqa: F401
import torch
import torch._dynamo

import synaptic_pruning.tasks.classification  # noqa: F401
from synaptic_pruning.study.classification import TRAINING_CODE as IMAGE_CODE
from synaptic_pruning.study.engine import code_digest
from synaptic_pruning.study.forecasting import BASELINE_CODE, TRAINING_CODE
from synaptic_pruning.tasks.forecasting import MODELS, build_model


def _warm() -> None:
    """Make PyTorch set up what it sets up when first used.

    Forward only: the backward pass may ask for accelerators, and a process forked after that could not use them.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for code in (BASELINE_CODE, TRAINING_CODE, IMAGE_CODE):
        code_digest(*code)  # a third of a second that every cell would take
    for name in MODELS:
        build_model(name, channels=1, length=4, horizon=1)(torch.zeros(2, 4, 1))


_warm()

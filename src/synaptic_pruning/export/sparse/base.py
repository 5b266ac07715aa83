"""Base class of the sparse modules: inference only, float32 on a CPU."""

from typing import Self

import torch
from torch import Tensor, nn


class Inference(nn.Module):
    """A module that only computes outputs; it refuses to train and to carry gradients.

    Attributes:
        threads: Number of threads a product may use; None means as many as PyTorch uses.
    """

    threads: int | None = None

    def thread_count(self) -> int:
        """Return the number of threads for the next product."""
        return self.threads or torch.get_num_threads()

    def train(self, mode: bool = True) -> Self:
        """Refuse training mode; evaluation mode is accepted and changes nothing.

        Raises:
            RuntimeError: ``mode`` is true.
        """
        if mode:
            raise RuntimeError(
                f"{type(self).__name__} is for inference only; keep the original model for training "
                "and compact it again"
            )
        return super().train(False)

    def check_inputs(self, *inputs: Tensor) -> None:
        """Refuse inputs that the kernels cannot take.

        Raises:
            RuntimeError: An input wants a gradient.
            TypeError: An input is not float32 on the CPU.
        """
        for x in inputs:
            if x.requires_grad and torch.is_grad_enabled():
                raise RuntimeError(
                    f"{type(self).__name__} computes no gradients; keep the original model for training, "
                    "or call this one under torch.inference_mode()"
                )
            if x.dtype != torch.float32 or x.device.type != "cpu":
                raise TypeError(
                    f"{type(self).__name__} takes float32 input on the CPU, not {x.dtype} on {x.device}; "
                    "convert it first"
                )

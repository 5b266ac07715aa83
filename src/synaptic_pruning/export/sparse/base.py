"""Base class of the sparse modules: inference only, float32 on a CPU."""

from typing import Self

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad


class Inference(nn.Module):
    """A module that only computes outputs; it refuses to train and to carry gradients.

    Under autocast it computes in float32 and returns float32, as autocast does with operations that want precision.

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

    def accept(self, x: Tensor) -> Tensor:
        """Return an input as the kernels take it, float32 on the CPU; what autocast had rounded is widened.

        Raises:
            RuntimeError: The input wants a gradient.
            TypeError: The input is of another type or lies elsewhere.
        """
        backward = x.requires_grad and torch.is_grad_enabled()
        if backward or (forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None):
            raise RuntimeError(
                f"{type(self).__name__} computes no gradients; keep the original model for training, "
                "or call this one under torch.inference_mode()"
            )
        if x.device.type == "cpu":
            if x.dtype == torch.float32:
                return x
            if x.dtype in (torch.bfloat16, torch.float16) and torch.is_autocast_enabled("cpu"):
                return x.float()
        raise TypeError(
            f"{type(self).__name__} takes float32 input on the CPU, not {x.dtype} on {x.device}; convert it first"
        )

"""Run sparse Linear and convolution layers on a CPU, for inference only."""

from torch import Tensor, nn
from torch.nn import functional

from synaptic_pruning.export.sparse.base import Inference
from synaptic_pruning.export.sparse.matrix import SparseMatrix


class SparseLinear(Inference):
    """Compute `nn.Linear` from its non-zero weights, float32 on the CPU.

    Args:
        layer: The layer to copy the non-zero weights and the bias of.

    Example:
        >>> import torch
        >>> layer = nn.Linear(4, 2)
        >>> x = torch.ones(3, 4)
        >>> torch.allclose(SparseLinear(layer)(x), layer(x), atol=1e-6)
        True
    """

    matrix: SparseMatrix

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.matrix = SparseMatrix(layer.weight, layer.bias)
        super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs (..., out_features) for ``x`` (..., in_features).

        Raises:
            ValueError: The last dimension of ``x`` has another size.
        """
        x = self.accept(x)
        matrix, shape = self.matrix, x.shape
        if shape[-1] != matrix.inputs:
            raise ValueError(f"the last dimension of x must be {matrix.inputs}, not {shape[-1]}")
        rows = x.detach() if x.requires_grad else x
        if len(shape) == 2 and rows.is_contiguous():
            return matrix.product(rows, self.thread_count())
        rows = rows.reshape(-1, matrix.inputs).contiguous()
        return matrix.product(rows, self.thread_count()).view(*shape[:-1], matrix.outputs)


class SparseConv(Inference):
    """Compute `nn.Conv1d` or 1x1 `nn.Conv2d` from its non-zero weights, float32 on the CPU.

    Args:
        layer: The convolution to copy, with zero padding and one group.

    Raises:
        ValueError: The layer is of another kind (see `SparseConv.supports`).

    Example:
        >>> import torch
        >>> layer = nn.Conv1d(2, 3, kernel_size=3, padding=1)
        >>> x = torch.randn(1, 2, 8)
        >>> torch.allclose(SparseConv(layer)(x), layer(x), atol=1e-6)
        True
    """

    matrix: SparseMatrix

    def __init__(self, layer: nn.Conv1d | nn.Conv2d) -> None:
        super().__init__()
        if not self.supports(layer):
            raise ValueError(f"layer must be a Conv1d or 1x1 Conv2d with zero padding and one group, not {layer}")
        self.matrix = SparseMatrix(layer.weight.flatten(1), layer.bias)
        self.kernel, self.stride, self.dilation = layer.kernel_size[0], layer.stride[0], layer.dilation[0]
        self.spatial = layer.weight.dim() - 2
        reach = self.dilation * (self.kernel - 1)
        if layer.padding == "same":
            self.padding = (reach // 2, reach - reach // 2)
        elif layer.padding == "valid":
            self.padding = (0, 0)
        else:
            self.padding = (int(layer.padding[0]), int(layer.padding[0]))
        super().train(False)

    @staticmethod
    def supports(layer: nn.Module) -> bool:
        """Return whether this class computes the same as ``layer``."""
        if not isinstance(layer, nn.Conv1d | nn.Conv2d) or layer.groups != 1 or layer.padding_mode != "zeros":
            return False
        point = layer.padding in ((0, 0), "same", "valid") and layer.kernel_size == layer.stride == (1, 1)
        return isinstance(layer, nn.Conv1d) or point

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution's outputs for ``x`` (batch, channels, …) or (channels, …).

        Raises:
            ValueError: ``x`` has other dimensions or another number of channels.
        """
        x = self.accept(x)
        channels = self.matrix.inputs // self.kernel
        batched = x.dim() == self.spatial + 2
        if (not batched and x.dim() != self.spatial + 1) or x.shape[-self.spatial - 1] != channels:
            raise ValueError(f"x must be (batch, {channels}, ...), not {tuple(x.shape)}")
        signal = (x if batched else x[None]).detach().flatten(2)
        if self.padding != (0, 0):
            signal = functional.pad(signal, self.padding)
        steps = (signal.shape[2] - self.dilation * (self.kernel - 1) - 1) // self.stride + 1
        windows = signal.as_strided(
            (signal.shape[0], steps, channels, self.kernel),
            (
                signal.stride(0),
                signal.stride(2) * self.stride,
                signal.stride(1),
                signal.stride(2) * self.dilation,
            ),
        )
        rows = windows.reshape(-1, self.matrix.inputs)
        y = self.matrix.product(rows, self.thread_count())
        y = y.view(signal.shape[0], steps, -1).transpose(1, 2)
        y = y.unflatten(2, x.shape[-2:]) if self.spatial == 2 else y
        return y if batched else y[0]

"""Run a whole transformer block in one compiled call."""

import copy
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from synaptic_pruning.export.sparse.base import Inference
from synaptic_pruning.export.sparse.linear import SparseLinear
from synaptic_pruning.export.sparse.matrix import SparseMatrix, split_over_threads
from synaptic_pruning.export.sparse.transformer_match import match_block
from synaptic_pruning.export.unfused import Attention


class FastBlock(Inference):
    """Compute a transformer block from its non-zero weights in one call, float32 on the CPU, without gradients.

    A block is, in evaluation mode, self-attention without mask and a feed-forward with ReLU or GELU. Each has a
    shortcut, and a layer norm before or after it. `match_block` recognises them, such as an unfused
    `nn.TransformerEncoderLayer`. Called with a mask the block runs module by module.

    Args:
        block: The block, its attention unfused. It is copied.

    Raises:
        ValueError: ``block`` is something else.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        parts = match_block(block)
        if parts is None:
            raise ValueError("block must be self-attention and feed-forward with shortcuts and layer norms")
        self.parts, self.block = parts, copy.deepcopy(block)
        projections = [f"{parts.attention}.{name}" for name in ("query", "key", "value", "out_proj")]
        for name in (*projections, parts.linear1, parts.linear2):
            self.block.set_submodule(name, SparseLinear(cast(nn.Linear, self.block.get_submodule(name))))
        self._bound: tuple[Any, ...] | None = None
        super().train(False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_bound": None}

    def forward(self, x: Tensor, *masks: Any, **options: Any) -> Tensor:
        """Return outputs for ``x`` (batch, tokens, features); other arguments are those of the block.

        Raises:
            ValueError: ``x`` has another number of features.
        """
        masked = any(mask is not None and mask is not False for mask in (*masks, *options.values()))
        if masked or x.dim() != 3 or 0 in x.shape:
            return cast(Tensor, self.block(x, *masks, **options))
        x = self.accept(x)
        if self._bound is None:
            self._bound = self._bind()
        fixed, batch_first, features, kernel = self._bound
        if x.shape[2] != features:
            raise ValueError(f"the last dimension of x must be {features}, not {x.shape[2]}")
        x = (x if batch_first else x.transpose(0, 1)).detach().contiguous()
        y = torch.empty_like(x)
        arrays, tokens = (x.view(-1).numpy(), y.view(-1).numpy()), x.shape[1]

        def part(first: int, last: int) -> None:
            kernel(*arrays, tokens, first, last, *fixed)

        split_over_threads(part, len(x), self.thread_count())
        return y if batch_first else y.transpose(0, 1)

    def _attention(self) -> Attention:
        return cast(Attention, self.block.get_submodule(self.parts.attention))

    def _bind(self) -> tuple[Any, ...]:
        """Return the kernel and those of its arguments that stay the same from call to call."""
        from synaptic_pruning.export.kernels import transformer_block

        parts, attention = self.parts, self._attention()
        norms = [cast(nn.LayerNorm, self.block.get_submodule(name)) for name in (parts.norm1, parts.norm2)]
        ins = [cast(SparseLinear, layer).matrix for layer in (attention.query, attention.key, attention.value)]
        layers = (attention.out_proj, *(self.block.get_submodule(name) for name in (parts.linear1, parts.linear2)))
        qkv = SparseMatrix(torch.cat([m.dense() for m in ins]), torch.cat([m.bias for m in ins]))
        matrices = [qkv, *(cast(SparseLinear, layer).matrix for layer in layers)]
        heads = attention.num_heads
        numbers = (parts.norm_first, parts.gelu, heads, ins[0].outputs // heads, ins[2].outputs // heads)
        fixed = (
            *(*numbers, np.float32(attention.scale)),
            *(value for norm in norms for value in _norm_arguments(norm)),
            *(array for matrix in matrices for array in (*matrix.tiles(), matrix.bias.numpy())),
        )
        return fixed, attention.batch_first, qkv.inputs, transformer_block


def _norm_arguments(layer: nn.LayerNorm) -> tuple[Any, ...]:
    """Return epsilon, scale and shift of a layer norm; scale 1 and shift 0 where it has none."""
    zeros = torch.zeros(layer.normalized_shape, dtype=torch.float32, device="cpu")
    ones = torch.ones_like(zeros)
    given = zip((layer.weight, layer.bias), (ones, zeros), strict=True)
    scale, shift = (default if value is None else value.detach() for value, default in given)
    return np.float32(layer.eps), scale.contiguous().numpy(), shift.contiguous().numpy()

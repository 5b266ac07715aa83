"""Transformer blocks in one compiled call."""

import copy
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from synaptic_pruning.export.sparse.base import Inference
from synaptic_pruning.export.sparse.linear import SparseLinear
from synaptic_pruning.export.sparse.matrix import SparseMatrix, in_parts
from synaptic_pruning.export.sparse.transformer_match import find_parts
from synaptic_pruning.export.unfused import Attention


class FastBlock(Inference):
    """A transformer block of which only the non-zero weights are kept, computed sample by sample in one call.

    Stands for any module that is, in evaluation mode, self-attention without mask and a feed-forward with ReLU
    or GELU, each with a shortcut and a layer norm before it or after it (`find_parts` tells), such as
    `nn.TransformerEncoderLayer` taken apart. Called with a mask it runs its parts one by one. Float32 on the
    CPU, no gradients.

    Raises:
        ValueError: `block` is something else.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        parts = find_parts(block)
        if parts is None:
            raise ValueError("block must be self-attention and feed-forward with shortcuts and layer norms")
        self.parts, self.block = parts, copy.deepcopy(block)
        inside = [f"{parts.attention}.{name}" for name in ("query", "key", "value", "out_proj")]
        for name in (*inside, parts.widen, parts.narrow):
            self.block.set_submodule(name, SparseLinear(cast(nn.Linear, self.block.get_submodule(name))))
        self._bound: tuple[Any, ...] | None = None
        super().train(False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_bound": None}

    def forward(self, x: Tensor, *masks: Any, **options: Any) -> Tensor:
        """Outputs for `x`; what follows is as in the block this stands for."""
        asked = any(mask is not None and mask is not False for mask in (*masks, *options.values()))
        if asked or x.dim() != 3 or 0 in x.shape:
            return cast(Tensor, self.block(x, *masks, **options))
        self.check(x)
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

        in_parts(part, len(x), self.thread_count())
        return y if batch_first else y.transpose(0, 1)

    def _attention(self) -> Attention:
        return cast(Attention, self.block.get_submodule(self.parts.attention))

    def _bind(self) -> tuple[Any, ...]:
        """What stays the same from call to call, as the kernel takes it."""
        from synaptic_pruning.export.kernels.transformer import transformer_block

        parts, attention = self.parts, self._attention()
        norms = [cast(nn.LayerNorm, self.block.get_submodule(name)) for name in (parts.norm1, parts.norm2)]
        ins = [cast(SparseLinear, layer).matrix for layer in (attention.query, attention.key, attention.value)]
        layers = (attention.out_proj, *(self.block.get_submodule(name) for name in (parts.widen, parts.narrow)))
        together = SparseMatrix(torch.cat([m.dense() for m in ins]), torch.cat([m.bias for m in ins]))
        matrices = [together, *(cast(SparseLinear, layer).matrix for layer in layers)]
        heads = attention.num_heads
        numbers = (parts.norm_first, parts.gelu, heads, ins[0].outputs // heads, ins[2].outputs // heads)
        fixed = (
            *(*numbers, np.float32(attention.scale)),
            *(value for norm in norms for value in _norm(norm)),
            *(array for matrix in matrices for array in (*matrix.tiles(), matrix.bias.numpy())),
        )
        return fixed, attention.batch_first, together.inputs, transformer_block


def _norm(layer: nn.LayerNorm) -> tuple[Any, ...]:
    """Epsilon, scale and shift, where there are none 1 and 0."""
    ones, zeros = torch.ones(layer.normalized_shape), torch.zeros(layer.normalized_shape)
    given = zip((layer.weight, layer.bias), (ones, zeros), strict=True)
    scale, shift = (default if value is None else value.detach() for value, default in given)
    return np.float32(layer.eps), scale.contiguous().numpy(), shift.contiguous().numpy()

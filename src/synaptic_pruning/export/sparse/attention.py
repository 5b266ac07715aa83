"""Run attention in one compiled loop, so that little time passes between sparse projections.

The figures of PatchTST in docs/results/export.md are with this loop; the gain is not a matter of sparsity.
"""

from typing import Any

import numpy as np
from torch import Tensor

from synaptic_pruning.export.sparse.base import Inference
from synaptic_pruning.export.sparse.matrix import split_over_threads
from synaptic_pruning.export.unfused import Attention


class FastAttention(Attention, Inference):
    """Compute `Attention` with a compiled loop, float32 on the CPU, without gradients.

    The loop takes a batch without masks whose attention weights are not asked for. Other calls go through
    `Attention`.

    Args:
        attention: The attention whose projections are taken over.
    """

    def __init__(self, attention: Attention) -> None:
        Inference.__init__(self)
        self._modules = dict(attention._modules)
        self.num_heads, self.batch_first = attention.num_heads, attention.batch_first
        self.scale = attention.scale
        Inference.train(self, False)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return what `Attention.forward` returns."""
        query, key, value = self.accept(query), self.accept(key), self.accept(value)
        if need_weights or query.dim() == 2 or key_padding_mask is not None or attn_mask is not None or is_causal:
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        from synaptic_pruning.export.kernels import attend

        inputs = [x if self.batch_first else x.transpose(0, 1) for x in (query, key, value)]
        layers = (self.query, self.key, self.value)
        q, k, v = (self.accept(layer(x)).contiguous() for layer, x in zip(layers, inputs, strict=True))
        mixed = q.new_empty(*q.shape[:2], v.shape[2])
        arrays: list[Any] = [x.view(-1).numpy() for x in (q, k, v, mixed)]
        widths = (q.shape[2] // self.num_heads, v.shape[2] // self.num_heads)
        sizes = (q.shape[1], k.shape[1], self.num_heads, *widths)
        scale = np.float32(self.scale)

        def part(first: int, last: int) -> None:
            attend(*arrays[:3], scale, arrays[3], *sizes, first, last)

        split_over_threads(part, q.shape[0], self.thread_count())
        y = self.out_proj(mixed)
        return (y if self.batch_first else y.transpose(0, 1)), None

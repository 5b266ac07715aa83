"""Attention over short sequences in one compiled loop, so that sparse projections are not drowned by what
lies between.

PyTorch's attention on a CPU spends most of its time on small heads in layout changes and a scalar softmax.
Here a lane is a query: scores, softmax and the weighted sum stay in registers and the first-level cache.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from synaptic_pruning.export.sparse.base import Inference
from synaptic_pruning.export.sparse.matrix import in_parts
from synaptic_pruning.export.unfused import Attention


class FastAttention(Attention, Inference):
    """`Attention` with the compiled loop where it applies: a batch, no mask, attention weights not asked for.

    Otherwise it computes what `Attention` does. Float32 on the CPU, no gradients.
    """

    def __init__(self, attention: Attention) -> None:
        Inference.__init__(self)
        self._modules = dict(attention._modules)
        self.num_heads, self.batch_first, self.scale = (
            attention.num_heads,
            attention.batch_first,
            attention.scale,
        )
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
        """As `Attention.forward`."""
        from synaptic_pruning.export.kernels.attention import attend

        self.check(query, key, value)
        if need_weights or query.dim() == 2 or key_padding_mask is not None or attn_mask is not None or is_causal:
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        inputs = [x if self.batch_first else x.transpose(0, 1) for x in (query, key, value)]
        layers = (self.query, self.key, self.value)
        q, k, v = (layer(x).contiguous() for layer, x in zip(layers, inputs, strict=True))
        mixed = torch.empty(*q.shape[:2], v.shape[2])
        arrays: list[Any] = [x.view(-1).numpy() for x in (q, k, v, mixed)]
        sizes = (
            q.shape[1],
            k.shape[1],
            self.num_heads,
            q.shape[2] // self.num_heads,
            v.shape[2] // self.num_heads,
        )
        scale = np.float32(self.scale)

        def part(first: int, last: int) -> None:
            attend(*arrays[:3], scale, arrays[3], *sizes, first, last)

        in_parts(part, q.shape[0], self.thread_count())
        y = self.out_proj(mixed)
        return (y if self.batch_first else y.transpose(0, 1)), None

"""Attention taken apart into plain layers, so that each projection can be shrunk or made sparse on its own.

`nn.MultiheadAttention` and `nn.TransformerEncoderLayer` hide their projections behind fused calls; the
modules here compute the same outputs in evaluation mode from ordinary `nn.Linear` children.
"""

import math
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional


class Attention(nn.Module):
    """`nn.MultiheadAttention` in evaluation mode, from four Linear layers; the call and its result are the
    same.

    Heads may be fewer, and narrower in queries and keys (`query_width`) or values (`value_width`), than in
    the original.

    Raises:
        ValueError: the layer adds key or value biases or a zero key (`Attention.fits` tells).
    """

    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__()
        if not self.fits(layer):
            raise ValueError("layer must be a MultiheadAttention without add_bias_kv and add_zero_attn")
        self.num_heads, self.batch_first, self.scale = (
            layer.num_heads,
            layer.batch_first,
            layer.head_dim**-0.5,
        )
        if layer.in_proj_weight is None:
            weights = [cast(Tensor, w) for w in (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)]
        else:
            weights = list(layer.in_proj_weight.chunk(3))
        biases = [None] * 3 if layer.in_proj_bias is None else list(layer.in_proj_bias.chunk(3))
        self.query, self.key, self.value = (linear(w, b) for w, b in zip(weights, biases, strict=True))
        self.out_proj = linear(layer.out_proj.weight, layer.out_proj.bias)
        self.eval()

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Whether this class can stand for `layer`."""
        return isinstance(layer, nn.MultiheadAttention) and layer.bias_k is None and not layer.add_zero_attn

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
        """Outputs and, if wanted, attention weights; `is_causal` needs `attn_mask`."""
        batched = query.dim() == 3
        if is_causal and attn_mask is None:
            raise ValueError("is_causal is a hint about attn_mask; give attn_mask as well")
        inputs = [query, key, value]
        if not batched:
            inputs = [x[None] for x in inputs]
        elif not self.batch_first:
            inputs = [x.transpose(0, 1) for x in inputs]
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer, x in zip((self.query, self.key, self.value), inputs, strict=True)
        )
        mask = self._mask(attn_mask, key_padding_mask, q, k)
        weights: Tensor | None = None
        if need_weights:
            scores = q @ k.transpose(-1, -2) * self.scale
            weights = (scores if mask is None else scores + mask).softmax(-1)
            mixed = weights @ v
        else:
            mixed = functional.scaled_dot_product_attention(q, k, v, mask, scale=self.scale)
        y = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if weights is not None:
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights[0]
        if not batched:
            return y[0], weights
        return (y if self.batch_first else y.transpose(0, 1)), weights

    def _mask(self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
        """Both masks as one additive mask that broadcasts over (batch, heads, queries, keys)."""
        total: Tensor | None = None
        if attn_mask is not None:
            total = _additive(attn_mask, q)
            if total.dim() == 3:  # (batch · heads, queries, keys)
                total = total.view(q.shape[0], -1, *total.shape[1:])
        if padding is not None:
            extra = _additive(padding, q).view(q.shape[0], 1, 1, k.shape[2])
            total = extra if total is None else total + extra
        return total


class EncoderLayer(nn.Module):
    """`nn.TransformerEncoderLayer` in evaluation mode, its attention taken apart; the call is the same."""

    def __init__(self, layer: nn.TransformerEncoderLayer) -> None:
        super().__init__()
        attention = cast(nn.Module, layer.self_attn)
        self.self_attn = Attention(attention) if isinstance(attention, nn.MultiheadAttention) else attention
        self.linear1, self.linear2 = layer.linear1, layer.linear2
        self.norm1, self.norm2, self.norm_first = layer.norm1, layer.norm2, layer.norm_first
        self.activation = layer.activation
        self.eval()

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Outputs for `src`, masks as in PyTorch."""
        x = self.norm1(src) if self.norm_first else src
        x = self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)[0]
        x = src + x
        if self.norm_first:
            return cast(Tensor, x + self.linear2(self.activation(self.linear1(self.norm2(x)))))
        x = self.norm1(x)
        return cast(Tensor, self.norm2(x + self.linear2(self.activation(self.linear1(x)))))


class Encoder(nn.Module):
    """`nn.TransformerEncoder` in evaluation mode, without its fused path; the call is the same."""

    def __init__(self, encoder: nn.TransformerEncoder) -> None:
        super().__init__()
        self.layers, self.norm = encoder.layers, encoder.norm
        self.eval()

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Outputs for `src`, masks as in PyTorch."""
        for layer in self.layers:
            src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask)
        return src if self.norm is None else cast(Tensor, self.norm(src))


class UnfusedTracer(fx.Tracer):
    """A torch.fx tracer to which PyTorch's own modules and `Attention` are single nodes."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Return whether a call of `module` is one node."""
        return isinstance(module, Attention) or super().is_leaf_module(module, name)


def take_apart(model: nn.Module) -> nn.Module:
    """Replace every attention and encoder layer inside `model` by its plain form, in place; returns the
    model.

    Outputs stay the same in evaluation mode. A subclass may compute something else, so only the exact classes
    go.
    """
    for name, child in model.named_children():
        setattr(model, name, take_apart(child))
    if type(model) is nn.MultiheadAttention and Attention.fits(model):
        return Attention(model)
    if type(model) is nn.TransformerEncoderLayer and isinstance(model.self_attn, Attention):
        return EncoderLayer(model)
    if type(model) is nn.TransformerEncoder:
        return Encoder(model)
    return model


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """An `nn.Linear` that holds copies of these values."""
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return layer


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=like.dtype).masked_fill(mask, -math.inf)

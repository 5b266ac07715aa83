"""Rewrite fused attention and encoder layers as plain Linear layers, with the same outputs in evaluation mode.

`nn.MultiheadAttention` and `nn.TransformerEncoderLayer` hide their projections behind fused calls. Here every
projection is an ordinary `nn.Linear`, which can be shrunk or made sparse on its own.
"""

import math
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional


class Attention(nn.Module):
    """Compute `nn.MultiheadAttention` in evaluation mode from four Linear layers.

    The call and its result are those of the original. Heads may be fewer than there, and of other widths in
    queries and keys than in values.

    Args:
        layer: The attention to copy the weights of.

    Raises:
        ValueError: The layer adds key or value biases or a zero key (see `Attention.supports`).

    Example:
        >>> layer, x = nn.MultiheadAttention(8, 2).eval(), torch.randn(5, 1, 8)
        >>> torch.allclose(Attention(layer)(x, x, x)[0], layer(x, x, x)[0], atol=1e-6)
        True
    """

    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__()
        if not self.supports(layer):
            raise ValueError("layer must be a MultiheadAttention without add_bias_kv and add_zero_attn")
        self.num_heads, self.batch_first, self.scale = layer.num_heads, layer.batch_first, layer.head_dim**-0.5
        if layer.in_proj_weight is None:
            weights = [cast(Tensor, w) for w in (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)]
        else:
            weights = list(layer.in_proj_weight.chunk(3))
        biases = [None] * 3 if layer.in_proj_bias is None else list(layer.in_proj_bias.chunk(3))
        self.query, self.key, self.value = (make_linear(w, b) for w, b in zip(weights, biases, strict=True))
        self.out_proj = make_linear(layer.out_proj.weight, layer.out_proj.bias)
        self.eval()

    @staticmethod
    def supports(layer: nn.Module) -> bool:
        """Return whether this class computes the same as ``layer``."""
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
        """Return outputs and, if ``need_weights``, attention weights; arguments as in `nn.MultiheadAttention`.

        Raises:
            ValueError: ``is_causal`` is given without ``attn_mask``.
        """
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
        mask = self._combine_masks(attn_mask, key_padding_mask, q, k)
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

    def _combine_masks(self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
        """Return both masks as one additive mask that broadcasts over (batch, heads, queries, keys)."""
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
    """Compute `nn.TransformerEncoderLayer` in evaluation mode with unfused attention; the call is the same.

    Args:
        layer: The encoder layer. Its modules are taken over, except the attention, which is copied.
    """

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
        """Return outputs for ``src``; masks as in PyTorch."""
        x = self.norm1(src) if self.norm_first else src
        x = self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)[0]
        x = src + x
        if self.norm_first:
            return cast(Tensor, x + self.linear2(self.activation(self.linear1(self.norm2(x)))))
        x = self.norm1(x)
        return cast(Tensor, self.norm2(x + self.linear2(self.activation(self.linear1(x)))))


class Encoder(nn.Module):
    """Compute `nn.TransformerEncoder` in evaluation mode without its fused path; the call is the same.

    Args:
        encoder: The encoder, whose layers and norm are taken over.
    """

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
        """Return outputs for ``src``; masks as in PyTorch."""
        for layer in self.layers:
            src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask)
        return src if self.norm is None else cast(Tensor, self.norm(src))


class UnfusedTracer(fx.Tracer):
    """Trace a model with torch.fx; PyTorch's own modules and `Attention` become single nodes."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Return whether a call of ``module`` is one node."""
        return isinstance(module, Attention) or super().is_leaf_module(module, name)


def unfuse(model: nn.Module) -> nn.Module:
    """Replace every attention and encoder layer inside a model by its plain form, in place.

    Outputs stay the same in evaluation mode. Subclasses stay as they are, since they may compute something else.

    Args:
        model: Any module.

    Returns:
        ``model``, or its plain form if ``model`` itself is such a layer.

    Example:
        >>> unfuse(nn.Sequential(nn.MultiheadAttention(8, 2)))[0].query
        Linear(in_features=8, out_features=8, bias=True)
    """
    for name, child in model.named_children():
        setattr(model, name, unfuse(child))
    if type(model) is nn.MultiheadAttention and Attention.supports(model):
        return Attention(model)
    if type(model) is nn.TransformerEncoderLayer and isinstance(model.self_attn, Attention):
        return EncoderLayer(model)
    if type(model) is nn.TransformerEncoder:
        return Encoder(model)
    return model


def make_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return an `nn.Linear` that holds copies of a weight (outputs, inputs) and a bias (outputs)."""
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return layer


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -math.inf)

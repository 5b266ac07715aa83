import copy
import itertools

import pytest
import torch
from torch import nn

from synaptic_pruning.export.sparse import FastAttention
from synaptic_pruning.export.unfused import Attention, unfuse


@pytest.mark.parametrize(
    ("bias", "batch_first", "need_weights", "average"),
    list(itertools.product((True, False), repeat=4)),
)
def test_attention_equals_torch(bias: bool, batch_first: bool, need_weights: bool, average: bool) -> None:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(12, 3, bias=bias, batch_first=batch_first).double().eval()
    query, key = torch.randn(2, 5, 12).double(), torch.randn(2, 5, 12).double()
    options = {"need_weights": need_weights, "average_attn_weights": average}
    want, want_weights = layer(query, key, key, **options)
    got, got_weights = Attention(layer)(query, key, key, **options)
    torch.testing.assert_close(got, want, atol=1e-12, rtol=0)
    assert (got_weights is None) == (want_weights is None)
    if want_weights is not None:
        torch.testing.assert_close(got_weights, want_weights, atol=1e-12, rtol=0)


@pytest.mark.parametrize("need_weights", [True, False])
def test_attention_masks_and_other_key_sizes(need_weights: bool) -> None:
    torch.manual_seed(1)
    layer = nn.MultiheadAttention(8, 2, kdim=6, vdim=10, batch_first=True).double().eval()
    query, key, value = (torch.randn(3, n, d).double() for n, d in ((4, 8), (5, 6), (5, 10)))
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 5])
    causal = torch.ones(4, 5, dtype=torch.bool).triu(1)
    per_head = torch.randn(6, 4, 5).double()
    for options in (
        {"key_padding_mask": padding},
        {"attn_mask": causal},
        {"attn_mask": causal, "key_padding_mask": padding},
        {"attn_mask": per_head},
    ):
        want = layer(query, key, value, need_weights=need_weights, **options)[0]
        got = Attention(layer)(query, key, value, need_weights=need_weights, **options)[0]
        torch.testing.assert_close(got, want, atol=1e-12, rtol=0)


def test_attention_without_batch_and_refusals() -> None:
    layer = nn.MultiheadAttention(8, 2).double().eval()
    x = torch.randn(5, 8).double()
    torch.testing.assert_close(Attention(layer)(x, x, x)[0], layer(x, x, x)[0], atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="add_bias_kv"):
        Attention(nn.MultiheadAttention(8, 2, add_bias_kv=True))
    with pytest.raises(ValueError, match="attn_mask"):
        Attention(layer)(x, x, x, is_causal=True)


@pytest.mark.parametrize(("norm_first", "activation"), [(True, "gelu"), (False, "relu")])
def test_encoder_equals_torch(norm_first: bool, activation: str) -> None:
    torch.manual_seed(2)
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation=activation, batch_first=True, norm_first=norm_first)
    encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False).double().eval()
    plain = unfuse(copy.deepcopy(encoder))
    assert not any(isinstance(m, nn.MultiheadAttention | nn.TransformerEncoderLayer) for m in plain.modules())
    x, causal = (
        torch.randn(3, 6, 8).double(),
        nn.Transformer.generate_square_subsequent_mask(6, dtype=torch.double),
    )
    with torch.no_grad():
        torch.testing.assert_close(plain(x), encoder(x), atol=1e-12, rtol=0)
        torch.testing.assert_close(plain(x, mask=causal), encoder(x, mask=causal), atol=1e-12, rtol=0)


def test_unfuse_leaves_subclasses_alone() -> None:
    class Mine(nn.MultiheadAttention):
        pass

    model = nn.Sequential(Mine(8, 2))
    assert isinstance(unfuse(model)[0], Mine)


@pytest.mark.parametrize(
    ("queries", "keys", "width"), [(1, 1, 4), (16, 16, 64), (42, 42, 32), (17, 5, 12), (5, 50, 128)]
)
@pytest.mark.parametrize("batch_first", [True, False])
def test_fast_attention_equals_torch(queries: int, keys: int, width: int, batch_first: bool) -> None:
    torch.manual_seed(4)
    layer = nn.MultiheadAttention(width, 4, batch_first=batch_first).eval().requires_grad_(False)
    fast = FastAttention(Attention(layer))
    for scale in (1, 30):  # large inputs make a softmax of almost 0 and 1
        drawn = [torch.randn(40, n, width) * scale for n in (queries, keys, keys)]
        everything = [x if batch_first else x.transpose(0, 1) for x in drawn]
        want, exact = layer(*everything), copy.deepcopy(layer).double()(*(x.double() for x in everything))[0]
        # Of the whole draw: what a few numbers are rounded by is luck, and depends on the processor.
        rounding = float((want[0] - exact).abs().max())
        for batch in (1, 3, 40):
            here = slice(batch) if batch_first else (slice(None), slice(batch))
            inputs = [x[here] for x in everything]
            got = fast(*inputs, need_weights=False)[0]
            torch.testing.assert_close(got.double(), exact[here], atol=10 * rounding + 1e-6, rtol=0)
            torch.testing.assert_close(fast(*inputs)[1], want[1][:batch], atol=1e-5 * scale**2, rtol=0)
    fast.threads = 2
    assert fast(*inputs, need_weights=False)[0].equal(got)
    assert copy.deepcopy(fast)(*inputs)[0].equal(fast(*inputs)[0])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_fast_attention_spreads_what_is_not_finite(value: float) -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True).eval().requires_grad_(False)
    x = torch.randn(3, 20, 8)
    x[1, 4, 2] = value
    got, want = FastAttention(Attention(layer))(x, x, x, need_weights=False)[0], layer(x, x, x, need_weights=False)[0]
    assert got.isfinite().equal(want.isfinite())


def test_fast_attention_refuses_gradients() -> None:
    fast = FastAttention(Attention(nn.MultiheadAttention(8, 2)))
    x = torch.randn(3, 2, 8, requires_grad=True)
    with pytest.raises(RuntimeError, match="keep the original model"):
        fast(x, x, x)
    with pytest.raises(RuntimeError, match="inference only"):
        fast.train()

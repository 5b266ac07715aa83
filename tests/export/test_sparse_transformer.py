import copy
import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from synaptic_pruning.export import compact
from synaptic_pruning.export.kernels.transformer import activate
from synaptic_pruning.export.sparse import FastBlock, match_block
from synaptic_pruning.export.unfused import EncoderLayer, unfuse
from synaptic_pruning.tasks.forecasting.models import PatchTSTForecaster

WIDTH = 12


class Block(nn.Module):
    """A block in the user's own words; a test overrides one line of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH, eps=1e-3), nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.attention = nn.MultiheadAttention(WIDTH, 3, batch_first=True)
        self.up, self.act, self.down = nn.Linear(WIDTH, 20, bias=False), nn.GELU(), nn.Linear(20, WIDTH)
        self.dropout = nn.Dropout(0.3)

    def attend(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]

    def join(self, x: Tensor, y: Tensor) -> Tensor:
        return y + x

    def forward(self, x: Tensor) -> Tensor:
        x = self.join(x, self.dropout(self.attend(self.first(x))))
        return torch.add(x, self.dropout(self.down(self.dropout(self.act(self.up(self.second(x)))))))


class Crossed(Block):
    def attend(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x.flip(1))[0]


class Scaled(Block):
    def join(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.add(x, y, alpha=2)


class InPlace(Block):
    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2)
        return super().forward(x)


class WrongShortcut(Block):
    def forward(self, x: Tensor) -> Tensor:
        y = x + self.attend(self.first(x))
        return x + self.down(self.act(self.up(self.second(y))))


class Branching(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.mean() > 0 else x


def own(change: Callable[[Block], object] = lambda block: None, kind: type[Block] = Block) -> nn.Module:
    block = kind()
    change(block)
    return block


def encoder_layer(**options: object) -> nn.Module:
    return nn.TransformerEncoderLayer(WIDTH, 3, 20, **options)


BLOCKS = {
    "post": lambda: encoder_layer(batch_first=True),
    "pre": lambda: encoder_layer(batch_first=True, norm_first=True),
    "gelu": lambda: encoder_layer(activation="gelu", batch_first=True, bias=False),
    "gelu module": lambda: encoder_layer(activation=nn.GELU(), norm_first=True),
    "own": own,
    "forecaster": lambda: PatchTSTForecaster(channels=1, length=9, horizon=1, width=WIDTH, heads=3).blocks[0],
}
OTHERS = {
    "another key": lambda: own(kind=Crossed),
    "scaled shortcut": lambda: own(kind=Scaled),
    "changes its input": lambda: own(kind=InPlace),
    "shortcut around both": lambda: own(kind=WrongShortcut),
    "branches on values": lambda: own(kind=Branching),
    "approximate gelu": lambda: own(lambda b: setattr(b, "act", nn.GELU("tanh"))),
    "no gelu": lambda: own(lambda b: setattr(b, "act", nn.SiLU())),
    "norm of another kind": lambda: own(lambda b: setattr(b, "second", nn.RMSNorm(WIDTH))),
    "norm over tokens too": lambda: own(lambda b: setattr(b, "first", nn.LayerNorm((4, WIDTH)))),
    "broadcast output": lambda: own(lambda b: setattr(b, "down", nn.Linear(20, 1))),
    "added key": lambda: own(
        lambda b: setattr(b, "attention", nn.MultiheadAttention(WIDTH, 3, batch_first=True, add_zero_attn=True))
    ),
}


def pruned(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)  # biases and norms that are not 0 and 1
            if parameter.dim() > 1:
                parameter *= torch.rand_like(parameter) < 0.3
    return module.eval().requires_grad_(False)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("tokens", [1, 5, 16, 33, 70])
def test_a_block_equals_its_original(name: str, tokens: int) -> None:
    block = pruned(BLOCKS[name]())
    fast = FastBlock(unfuse(copy.deepcopy(block)))
    for samples in (1, 3, 40):
        for scale in (1, 20):
            x = torch.randn(samples, tokens, WIDTH) * scale
            exact = copy.deepcopy(block).double()(x.double())
            rounding = float((block(x) - exact).abs().max())
            torch.testing.assert_close(
                fast(x).double(), exact, atol=10 * rounding + 1e-6 * float(exact.abs().max()), rtol=0
            )
    fast.threads = 2
    got = fast(x)
    fast.threads = 1
    assert fast(x).equal(got)
    assert pickle.loads(pickle.dumps(fast))(x).equal(copy.deepcopy(fast)(x))


@pytest.mark.parametrize("name", OTHERS)
def test_anything_else_is_not_taken_for_a_block(name: str) -> None:
    other = unfuse(pruned(OTHERS[name]()))
    assert match_block(other) is None
    with pytest.raises(ValueError, match="block must be"):
        FastBlock(other)


def test_masks_and_single_samples_go_through_the_parts() -> None:
    layer = pruned(encoder_layer(batch_first=True))
    fast = FastBlock(unfuse(copy.deepcopy(layer)))
    x = torch.randn(3, 6, WIDTH)
    causal = nn.Transformer.generate_square_subsequent_mask(6)
    torch.testing.assert_close(fast(x, causal), layer(x, causal), atol=1e-5, rtol=0)
    torch.testing.assert_close(fast(x[0]), layer(x[0]), atol=1e-5, rtol=0)
    assert not fast(x).allclose(fast(x, src_mask=causal), atol=1e-2)
    with pytest.raises(ValueError, match=f"must be {WIDTH}, not 5"):
        fast(x[..., :5])
    with pytest.raises(RuntimeError, match="keep the original model"):
        fast(x.requires_grad_())


def test_heads_narrower_in_values_than_in_queries() -> None:
    plain = unfuse(pruned(encoder_layer(batch_first=True)))
    assert isinstance(plain, EncoderLayer)
    plain.self_attn.value, plain.self_attn.out_proj = nn.Linear(WIDTH, 6), nn.Linear(6, WIDTH)
    x = torch.randn(2, 37, WIDTH)
    with torch.no_grad():
        torch.testing.assert_close(FastBlock(plain)(x), plain(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_what_is_not_finite_stays_in_its_sample(value: float) -> None:
    if value == 1e30 and not nn.LayerNorm(2)(torch.tensor([value, 0.0])).isfinite().all():
        pytest.skip("the LayerNorm of this PyTorch overflows itself")
    layer = encoder_layer(batch_first=True, norm_first=True, activation="gelu").eval().requires_grad_(False)
    x = torch.randn(3, 20, WIDTH)
    x[1, 4, 2] = value
    got = FastBlock(unfuse(copy.deepcopy(layer)))(x)
    assert got.isfinite().equal(layer(x).isfinite())


def test_gelu_error() -> None:
    x = np.concatenate([np.linspace(-12, 12, 100_000), [0.0, 30.0, -30.0] * 4]).astype(np.float32)
    x = x[: x.size // 16 * 16]
    got = x.copy()
    activate(True, got)
    exact = np.array([v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in x.astype(np.float64)])
    assert (np.abs(got - exact) <= 2.5e-7 * np.maximum(1, np.abs(x))).all()
    relu = x.copy()
    activate(False, relu)
    assert (relu == functional.relu(torch.from_numpy(x)).numpy()).all()


@pytest.mark.parametrize("sparsity", [0.9, 0.0])
def test_compact_takes_blocks_where_they_are_faster(sparsity: float) -> None:
    model = PatchTSTForecaster(channels=1, length=60, horizon=4, width=64).eval()
    with torch.no_grad():
        for block in model.blocks.parameters():
            if block.dim() > 1:
                block *= torch.rand_like(block) >= sparsity
    small = compact(model, torch.randn(1, 60, 1), threads=1)
    assert sum(isinstance(m, FastBlock) for m in small.modules()) == (2 if sparsity else 0)
    x = torch.randn(5, 60, 1)
    with torch.inference_mode():
        torch.testing.assert_close(small(x), model(x), atol=1e-5, rtol=1e-5)

"""One buffer against the passes digit by digit, and both against NumPy's stable sort."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from synaptic_pruning.core.topk import LazyScores, sampled, select, smallest_k

SIZES = (1, 40, 5_000, 7_000)  # more than two samples' worth
KINDS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "magnitudes": lambda rng, n: np.abs(rng.normal(size=n)),
    "few values": lambda rng, n: rng.integers(-2, 3, n) * 0.5,
    "one value": lambda rng, n: np.full(n, 0.25),
    "both zeros": lambda rng, n: np.where(rng.random(n) < 0.5, 0.0, -0.0),
    "infinities": lambda rng, n: rng.choice([-math.inf, 1.0, math.inf], n),
    "sorted": lambda rng, n: np.arange(n, dtype=float),
    "periodic": lambda rng, n: np.arange(n) % 5 - 1e9 * (np.arange(n) % 5 == 1),  # a sample sees one value of five
}


def _sorted(tensors: list[Tensor], alive: list[Tensor], k: int) -> list[Tensor]:
    values = np.concatenate([t.double().numpy() for t in tensors]) + 0.0
    places = np.flatnonzero(np.concatenate([a.numpy() for a in alive]))
    marked = np.zeros(len(values), dtype=bool)
    marked[places[np.argsort(values[places], kind="stable")[:k]]] = True
    return list(torch.from_numpy(marked).split([len(t) for t in tensors]))


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.tuples(st.sampled_from(SIZES), st.sampled_from(sorted(KINDS))), min_size=1, max_size=4),
    st.sampled_from([torch.bfloat16, torch.float32, torch.float64]),
    st.sampled_from([0.0, 0.1, 0.6, 1.0]),
    st.floats(0, 1),
)
def test_equals_numpy_and_the_passes(seed, kinds, dtype, pruned, part):
    rng = np.random.default_rng(seed)
    tensors = [torch.from_numpy(KINDS[kind](rng, n)).to(dtype) for n, kind in kinds]
    alive = [torch.from_numpy(rng.random(n) >= pruned) for n, _ in kinds]
    scores = [LazyScores.of(t, alive=a) for t, a in zip(tensors, alive, strict=True)]
    k = round(part * sum(int(a.sum()) for a in alive))
    expected = _sorted(tensors, alive, k)
    assert all(map(torch.equal, smallest_k(scores, k), expected))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "_FEW", 0)
        assert all(map(torch.equal, smallest_k(scores, k), expected))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.data())
def test_limits_are_kept_alike(seed, data):
    rng = np.random.default_rng(seed)
    tensors = [torch.from_numpy(np.abs(rng.normal(size=n)) * s).float() for n, s in ((64, 0.01), (5_000, 1), (300, 3))]
    most = [data.draw(st.integers(0, len(t))) for t in tensors]
    k = data.draw(st.integers(0, sum(most)))
    found = smallest_k(tensors, k, most=most)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "_FEW", 0)
        assert all(map(torch.equal, found, smallest_k(tensors, k, most=most)))


def test_what_is_wrong_is_left_to_the_passes():
    nan = torch.tensor([1.0, math.nan, 2.0])
    assert sampled.smallest_k_sampled(nan.clone(), 1) is None
    assert sampled.smallest_k_sampled(nan.clone(), 1, nan.isfinite()).tolist() == [True, False, False]
    assert sampled.smallest_k_sampled(torch.ones(3), 3, torch.tensor([True, True, False])) is None
    scores = [LazyScores.of(torch.ones(3), "a"), LazyScores.of(nan, "b")]
    with pytest.raises(ValueError, match=r"^b holds NaN"):
        smallest_k(scores, 1)


def test_scores_are_left_as_they_are():
    for tensor in (torch.tensor([3.0, -1.0, -0.0]), torch.tensor([3.0, -1.0, -0.0], dtype=torch.float64)):
        before = tensor.view(torch.uint8).clone()
        for kept in (1 << 20, 0):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(select, "_FEW", kept)
                smallest_k([tensor], 2)
            assert torch.equal(tensor.view(torch.uint8), before)

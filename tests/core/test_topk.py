"""Against brute force: concatenate everything and sort."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from synaptic_pruning.core.topk import LazyScores, kth_smallest, radix, smallest_k

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
# Few values, so that ties are heavy; signed zeros, denormals of each width and infinities among them.
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e-45, -1e-45, 1e-40, 6e-8, 5e-324, math.inf, -math.inf, 65504.0, -3e38]


@st.composite
def tensor_lists(draw):
    mixed = draw(st.booleans())
    one = draw(st.sampled_from(DTYPES))
    tensors = []
    for _ in range(draw(st.integers(1, 4))):
        values = draw(
            st.one_of(
                st.lists(st.sampled_from(SPECIAL), max_size=40),
                st.lists(st.floats(allow_nan=False, width=32), max_size=40),
            )
        )
        dtype = draw(st.sampled_from(DTYPES)) if mixed else one
        tensors.append(torch.tensor(values, dtype=torch.float64).to(dtype))
    return tensors


def brute_force(tensors: list[Tensor], k: int, alive: list[Tensor] | None = None) -> list[Tensor]:
    """Mark the k smallest by a stable sort of everything; position breaks ties."""
    flat = [
        (value, layer, place)
        for layer, tensor in enumerate(tensors)
        for place, value in enumerate(tensor.reshape(-1).double().tolist())
        if alive is None or alive[layer][place]
    ]
    marked = [torch.zeros(tensor.numel(), dtype=torch.bool) for tensor in tensors]
    for _, layer, place in sorted(flat)[:k]:
        marked[layer][place] = True
    return marked


@settings(deadline=None, max_examples=300)
@given(tensor_lists(), st.data())
def test_equals_sorting(tensors, data):
    total = sum(tensor.numel() for tensor in tensors)
    k = data.draw(st.integers(0, total))
    assert all(map(torch.equal, smallest_k(tensors, k), brute_force(tensors, k)))
    if k > 0:
        ordered = sorted(value for tensor in tensors for value in tensor.double().tolist())
        assert kth_smallest(tensors, k) == ordered[k - 1]


@settings(deadline=None, max_examples=100)
@given(tensor_lists(), st.data())
def test_the_pruned_take_no_part(tensors, data):
    alive = [torch.tensor([data.draw(st.booleans()) for _ in range(t.numel())], dtype=torch.bool) for t in tensors]
    scores = [LazyScores.of(tensor, alive=mask) for tensor, mask in zip(tensors, alive, strict=True)]
    k = data.draw(st.integers(0, sum(int(mask.sum()) for mask in alive)))
    assert all(map(torch.equal, smallest_k(scores, k), brute_force(tensors, k, alive)))


@settings(deadline=None, max_examples=100)
@given(tensor_lists(), st.data())
def test_a_limit_a_tensor_is_kept_and_the_others_give_its_share(tensors, data):
    most = [data.draw(st.integers(0, tensor.numel())) for tensor in tensors]
    k = data.draw(st.integers(0, sum(most)))
    marked = smallest_k(tensors, k, most=most)
    taken = [int(mask.sum()) for mask in marked]
    assert sum(taken) == k
    assert all(count <= limit for count, limit in zip(taken, most, strict=True))
    for tensor, mask, count in zip(tensors, marked, taken, strict=True):
        assert torch.equal(mask, brute_force([tensor], count)[0]), "within a tensor the smallest go"
    # Nothing marked is above anything that was spared in a tensor with room left.
    spared = [
        t[~m].double().min().item()
        for t, m, c, most_ in zip(tensors, marked, taken, most, strict=True)
        if c < most_ and not m.all()
    ]
    free = [
        t[m].double().max().item()
        for t, m, c, most_ in zip(tensors, marked, taken, most, strict=True)
        if m.any() and c < most_
    ]
    assert not spared or not free or max(free) <= min(spared)


def test_pieces_join_without_a_seam(monkeypatch):
    monkeypatch.setattr(radix, "_CHUNK", 7)
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randint(-3, 3, (size,), generator=generator).float() for size in (1, 7, 8, 50)]
    for k in range(67):
        assert all(map(torch.equal, smallest_k(tensors, k), brute_force(tensors, k)))


def test_strides_do_not_matter():
    tensor = torch.arange(6.0).reshape(2, 3).t()
    assert torch.equal(
        smallest_k([tensor], 2)[0].view(3, 2), torch.tensor([[True, False], [True, False], [False, False]])
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_is_refused_by_name(dtype):
    tensors = [
        LazyScores.of(torch.ones(3, dtype=dtype), "a"),
        LazyScores.of(torch.tensor([1, math.nan], dtype=dtype), "b"),
    ]
    with pytest.raises(ValueError, match=r"^b holds NaN"):
        smallest_k(tensors, 1)
    assert kth_smallest([torch.tensor([math.inf, -math.inf], dtype=dtype)], 1) == -math.inf, "infinities are no NaN"


@pytest.mark.parametrize("k", [0, 4, -1])
def test_rank_out_of_range(k):
    with pytest.raises(ValueError, match=f"k={k} must be between 1 and the number of entries, 3"):
        kth_smallest([torch.ones(3)], k)


def test_wrong_dtype_and_impossible_limits():
    with pytest.raises(ValueError, match=r"torch\.int64; scores must be"):
        smallest_k([torch.ones(3, dtype=torch.int64)], 1)
    with pytest.raises(ValueError, match=r"k=3 .* allows 2"):
        smallest_k([torch.ones(3)], 3, most=[2])

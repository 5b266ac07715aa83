"""The sparsity path against hand-worked points and a brute-force reading of its definition."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import synaptic_pruning as sp


def path_of(points):
    path = sp.SparsityPath()
    for sparsity, error in points:
        path.report(sparsity, error)
    return path


def test_errors_are_averaged_with_their_neighbours():
    path = path_of([(0.0, 3.0), (0.2, 6.0), (0.4, 0.0), (0.6, 9.0)])
    assert path.smoothed() == [(0.0, 4.5), (0.2, 3.0), (0.4, 5.0), (0.6, 4.5)]


def test_the_sparsest_within_the_tolerance():
    flat = [(s / 10, 1.0) for s in range(6)] + [(0.6, 1.03), (0.7, 1.06), (0.8, 1.3), (0.9, 2.0)]
    assert path_of(flat).sparsest(0.0) == 0.4  # 0.5 is averaged with 1.03
    assert path_of(flat).sparsest(0.01) == 0.5  # (1 + 1 + 1.03) / 3
    assert path_of(flat).sparsest(0.03) == 0.6  # (1 + 1.03 + 1.06) / 3
    assert path_of(flat).sparsest(0.5) == 0.8  # (1.06 + 1.3 + 2) / 3


def test_one_lucky_epoch_decides_nothing():
    noisy = [(0.0, 1.0)] * 5 + [(0.5, 1.4), (0.7, 0.99), (0.9, 1.6), (0.9, 1.6)]
    assert path_of(noisy).sparsest(0.01) == 0.0


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(-5, 5)), min_size=1, max_size=12),
    st.floats(0, 2),
)
def test_against_the_definition(points, tolerance):
    path = path_of(points)
    errors = [e for _, e in points]
    smooth = [
        math.fsum(errors[j] for j in range(len(errors)) if abs(i - j) <= 1)
        / sum(abs(i - j) <= 1 for j in range(len(errors)))
        for i in range(len(errors))
    ]
    chosen = path.sparsest(tolerance)
    limit = min(smooth) + tolerance * abs(min(smooth))
    assert chosen in [s for s, _ in points]
    assert (
        chosen
        >= max(s for (s, _), e in zip(points, smooth, strict=True) if e <= limit - 1e-9 or e == min(smooth)) - 1e-12
    )
    assert any(s >= chosen and e <= limit + 1e-9 for (s, _), e in zip(points, smooth, strict=True))


def test_a_training_reports_along_the_way():
    import torch

    torch.manual_seed(0)
    model = torch.nn.Linear(20, 20)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    pruner = sp.SynapticPruner(
        model, optimizer, sp.ToSparsity(sp.linear(0.9, begin=0.2, end=0.8)), total_steps=10, every=1
    )
    path = sp.SparsityPath()
    for _ in range(10):
        model(torch.ones(1, 20)).sum().backward()
        optimizer.step()
        path.report(pruner.sparsity(), float(pruner.sparsity() > 0.5))
    assert path.points[-1] == (0.9, 1.0)
    assert 0.2 < path.sparsest(0.0) <= 0.5


@pytest.mark.parametrize(("sparsity", "error"), [(-0.1, 1.0), (1.1, 1.0), (0.5, float("nan")), (0.5, float("inf"))])
def test_bad_reports(sparsity, error):
    with pytest.raises(ValueError, match=r"sparsity=|error="):
        sp.SparsityPath().report(sparsity, error)


def test_bad_questions():
    with pytest.raises(ValueError, match="nothing was reported"):
        sp.SparsityPath().sparsest()
    with pytest.raises(ValueError, match=r"tolerance=-0\.1"):
        path_of([(0.0, 1.0)]).sparsest(-0.1)

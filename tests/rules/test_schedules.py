from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import synaptic_pruning as sp

RAMPS = [sp.cubic, sp.cubic_ease_in, sp.linear]
fractions = st.floats(0, 1)
targets = st.floats(0, 1, exclude_max=True)


@given(st.sampled_from(RAMPS), targets, targets, fractions, fractions, st.lists(fractions, min_size=2))
def test_schedules_rise_from_zero_to_the_target(ramp, a, b, c, d, progress):
    initial, final, begin, end = min(a, b), max(a, b), min(c, d), max(c, d)
    schedule = ramp(final, begin=begin, end=end, initial=initial)
    values = [schedule(p) for p in sorted(progress)]
    assert all(x <= y + 1e-12 for x, y in pairwise(values))
    assert schedule(1.0) == schedule(end) == final
    assert all(0 <= value <= final + 1e-12 for value in values)
    if begin > 0:
        assert schedule(begin * 0.999) == 0 or begin * 0.999 == begin


def test_by_hand():
    # p = 0.25 of the ramp: Zhu & Gupta .8·(1 − .75³) = .4625; ease-in .8·.25³ = .0125; linear .2
    values = [ramp(0.8, begin=0.1, end=0.5)(0.2) for ramp in RAMPS]
    assert values == pytest.approx([0.4625, 0.0125, 0.2])


def test_the_two_cubics_mirror_each_other():
    fast, slow = sp.cubic(0.6), sp.cubic_ease_in(0.6)
    assert [fast(p) for p in (0.2, 0.7)] == pytest.approx([0.6 - slow(1 - p) for p in (0.2, 0.7)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"final": 1.0}, r"final=1.0 must be in \[0, 1\)"),
        ({"final": -0.1}, r"final=-0.1 must be in \[0, 1\)"),
        ({"final": 90}, r"final=90 must be in .* 0.9 for 90 %"),
        ({"final": 0.9, "initial": 1.2}, r"initial=1.2 must be in"),
        ({"final": 0.5, "initial": 0.6}, r"final=0.5 is below initial=0.6"),
        ({"final": 0.9, "begin": 0.6, "end": 0.5}, r"end=0.5 is before begin=0.6"),
        ({"final": 0.9, "end": 20}, r"end=20 must be in \[0, 1\]"),
        ({"final": 0.9, "begin": float("nan")}, r"begin=nan must be in"),
    ],
)
@pytest.mark.parametrize("ramp", RAMPS)
def test_bad_arguments(ramp, arguments, message):
    with pytest.raises(ValueError, match=message):
        ramp(**arguments)


def test_bad_calls():
    with pytest.raises(ValueError, match="begin=2 must"):
        sp.one_shot(0.9, at=2)
    with pytest.raises(ValueError, match=r"progress=-0\.1"):
        sp.linear(0.9)(-0.1)
    with pytest.raises(ValueError, match="points=1"):
        sp.linear(0.9).preview(1)
    assert sp.cubic(0.9)(1.5) == 0.9

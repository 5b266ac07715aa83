"""The colours of the arms, looked at with every kind of eye."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from synaptic_pruning.study.forecasting.arms import ARMS
from synaptic_pruning.study.plots import COLOURS, DASHES, colour, line

# Machado, Oliveira & Fernandes (2009), severity 1: linear RGB as seen without one kind of cone.
EYES = {
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_CONES = np.array([[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]])
TO_LAB = np.array([[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]])


def linear(name):
    rgb = np.array(to_rgb(COLOURS[name]))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def seen(name, eye):
    return TO_LAB @ np.cbrt(TO_CONES @ np.clip(np.array(EYES[eye]) @ linear(name), 0, 1))


@pytest.mark.parametrize("eye", EYES)
def test_any_two_arms_look_different(eye):
    for first, second in itertools.combinations(COLOURS, 2):
        if COLOURS[first] == COLOURS[second]:
            assert DASHES[first] != DASHES[second], (first, second)
            continue
        assert np.linalg.norm(seen(first, eye) - seen(second, eye)) > 0.09, (first, second)


def test_every_colour_stands_out_from_white():
    for name in COLOURS:
        assert 1.05 / (linear(name) @ [0.2126, 0.7152, 0.0722] + 0.05) > 2.5


def test_every_arm_has_a_colour_and_dashes_the_page_can_draw():
    assert set(ARMS) <= set(COLOURS)
    assert set(DASHES) == set(COLOURS)
    assert set(DASHES.values()) <= {"-", "--", ":"}
    assert len(set(COLOURS.values())) == 13


def test_an_unknown_arm_is_drawn_in_grey():
    assert colour("<script>") not in COLOURS.values()
    assert line("<script>") == {"color": colour("<script>"), "linestyle": "-"}

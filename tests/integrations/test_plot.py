"""Pictures, read back from their axes and held against masks that are counted by hand."""

import sys
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import pytest
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from torch import Tensor, nn

import synaptic_pruning as sp
from helpers.small_network import STEPS, learn_step, small_net


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    mpl.use("agg")
    yield
    pyplot.close("all")


def _trained(rule: sp.Rule, every: int = 4, steps: int = STEPS) -> tuple[sp.SynapticPruner, list[dict[str, Tensor]]]:
    """Return a pruner and the masks after every step, those of the start first."""
    net = small_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=STEPS, every=every)
    seen = [pruner.masks()]
    for step in range(steps):
        learn_step(net, optimizer, step)
        seen.append(pruner.masks())
    return pruner, seen


def _pruned(masks: dict[str, Tensor]) -> float:
    return sum(int((~mask).sum()) for mask in masks.values()) / 70


def _at(ax: Axes, step: int) -> float:
    """Read the height of a line of steps."""
    (line,) = ax.get_lines()
    assert line.get_drawstyle() == "steps-post"
    return [float(y) for x, y in line.get_xydata() if x <= step][-1]


RULES = {
    "ramp": lambda: sp.ToSparsity(sp.cubic(0.8, begin=0.1, end=0.7)),
    "granet": lambda: sp.GraNet(0.8, begin=0.1, ramp_end=0.7),
    "cycles": lambda: sp.Cycles(0.8, members=2, first=0.5),
    "disuse": lambda: sp.Disuse(patience=1, threshold=0.5),
}


@pytest.mark.parametrize("name", RULES)
def test_the_sparsity_of_every_step_can_be_read_off(name: str):
    pruner, seen = _trained(RULES[name](), steps=STEPS - 1)  # the last step drawn is no event
    ax = sp.plot.sparsity(pruner)
    assert [_at(ax, step) for step in range(STEPS)] == pytest.approx([_pruned(masks) for masks in seen])
    assert ax.get_lines()[0].get_xdata()[-1] == STEPS - 1
    assert _pruned(seen[-1]) > 0
    assert ax.get_title() == f"{70 - round(70 * _pruned(seen[-1]))} of 70 weights alive"
    events = sp.plot.sparsity(pruner.summary())
    assert events.get_lines()[0].get_xdata()[-1] == pruner.last_event
    assert _at(events, STEPS) == pytest.approx(_pruned(seen[-1]))


def test_a_picture_goes_on_the_axes_that_are_given():
    pruner, _ = _trained(sp.SET(0.8), steps=5)
    axes = pyplot.subplots(1, 2)[1]
    assert sp.plot.sparsity(pruner, axes[0]) is axes[0]
    assert sp.plot.survival(pruner, axes[1]) is axes[1]
    assert all(ax.get_lines() for ax in axes)
    assert len(pyplot.get_fignums()) == 1


def test_a_line_of_survival_is_the_part_of_a_generation_that_is_alive():
    pruner, seen = _trained(sp.SET(0.6), every=6)
    lines = sp.plot.survival(pruner).get_lines()
    alive = [torch.cat([mask.flatten() for mask in masks.values()]) for masks in seen]
    here, expected = alive[0], []
    for step, now in enumerate(alive):
        here = here & now  # a weight that grows again belongs to a new generation
        if step % 6 == 0 and step <= 18:
            expected.append([step, int(here.sum()) / int(alive[0].sum())])
    torch.testing.assert_close(torch.tensor(lines[0].get_xydata()), torch.tensor(expected, dtype=torch.float64))
    assert len(lines) == len({0, *(s for s in (6, 12, 18) if bool((alive[s] & ~alive[s - 1]).any()))})
    assert len(lines) > 1


def test_a_pixel_of_a_small_mask_is_a_weight():
    pruner, _ = _trained(sp.ToSparsity(sp.one_shot(0.5, at=0.1)))
    axes = sp.plot.masks(pruner).axes
    assert len(axes) == 2
    for ax, (name, mask) in zip(axes, pruner.masks().items(), strict=True):
        assert ax.get_images()[0].get_array().tolist() == mask.float().tolist()
        assert ax.get_title() == f"{name}\n{int(mask.sum())} of {mask.numel()} alive"
        assert ax.get_images()[0].get_clim() == (0, 1)


def test_a_pixel_of_a_large_mask_is_the_part_alive_of_its_weights():
    mask = torch.zeros(512, 3, dtype=torch.bool)
    mask[:4] = True  # two pixels wholly alive
    mask[5, 1] = True  # half of the third
    kernels = torch.rand(5, 2, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    figure = sp.plot.masks({"large": mask, "kernels": kernels, **{str(n): torch.tensor([True]) for n in range(4)}})
    assert len(figure.axes) == 6  # on two rows of at most four
    image = torch.tensor(figure.axes[0].get_images()[0].get_array())
    assert image.shape == (256, 3)
    assert image[:3].tolist() == [[1, 1, 1], [1, 1, 1], [0, 0.5, 0]]
    assert image[3:].sum() == 0
    assert figure.axes[0].get_title() == "large\n13 of 1,536 alive"
    assert figure.axes[1].get_images()[0].get_array().tolist() == kernels.view(5, 18).float().tolist()
    assert (figure.axes[1].get_ylabel(), figure.axes[1].get_xlabel()) == ("5 rows", "18 columns")
    assert figure.axes[2].get_xlabel() == "1 column"


WEIGHT = [[0.5, 0.0, -3.0, 0.1, 0.0], [0.0, 0.2, 4.0, 0.0, 1.25]]  # norms of columns: 0.5, 0.2, 5, 0.1, 1.25
NAMES = ["load", "wind", "hour $x_1$", "rain", "day"]


def _inputs(**arguments: Any) -> sp.SynapticPruner:
    net = nn.Sequential(nn.Linear(5, 2), nn.Linear(2, 1))
    net[0].weight.data = torch.tensor(WEIGHT)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    pruner = sp.SynapticPruner(net, optimizer, sp.Inputs(sp.one_shot(0.4)), total_steps=1, **arguments)
    net(torch.ones(1, 5)).sum().backward()
    optimizer.step()
    return pruner


def test_which_inputs_are_left_in_words():
    pruner = _inputs()
    assert sp.plot.inputs_table(pruner, NAMES).splitlines() == [
        "3 of 5 inputs left",
        "hour $x_1$  5",
        "day         1.25",
        "load        0.5",
        "pruned: wind, rain",
    ]
    assert sp.plot.inputs_table(pruner, range(5)).splitlines()[1:] == ["2  5", "4  1.25", "0  0.5", "pruned: 1, 3"]


def test_which_inputs_are_left_as_a_picture():
    ax = sp.plot.inputs(_inputs(), NAMES)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([0.5, 0, 5, 0, 1.25])
    assert [(bar.get_y() + bar.get_height() / 2) for bar in ax.patches] == pytest.approx([0, 1, 2, 3, 4])
    assert [label.get_text() for label in ax.get_yticklabels()] == NAMES
    assert not any(label.get_parse_math() for label in ax.get_yticklabels())
    assert [(text.get_text(), text.xy[1]) for text in ax.texts] == [("pruned", 1), ("pruned", 3)]
    assert ax.yaxis_inverted()  # the first at the top
    assert ax.get_title() == "3 of 5 inputs left"
    given = pyplot.subplots()[1]
    assert sp.plot.inputs(_inputs(), NAMES, given) is given


class Unlike:
    """Neither a pruner nor a summary."""

    def __repr__(self) -> str:
        return "it"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: sp.plot.sparsity(Unlike()), "source=it must be a SynapticPruner or what its summary"),
        (lambda: sp.plot.survival(Unlike()), "source=it must be a SynapticPruner or what its summary"),
        (lambda: sp.plot.sparsity(sp.Summary.of(sp.Synapses(nn.Linear(1, 1)))), "must be a SynapticPruner"),
        (lambda: sp.plot.masks({}), "holds no mask"),
        (lambda: sp.plot.masks(Unlike()), "source=it holds no mask"),
        (lambda: sp.plot.masks({"w": torch.ones(2)}), r"source\['w'\] must be a bool tensor with entries"),
        (lambda: sp.plot.masks({"w": torch.ones(0, 2).bool()}), r"source\['w'\] must be a bool tensor with entries"),
        (lambda: sp.plot.inputs(_trained(sp.SET(0.8), steps=0)[0], NAMES), "with SET: .* with the rule Inputs"),
        (lambda: sp.plot.inputs(sp.Inputs(sp.one_shot(0.5)), NAMES), r"pruner=Inputs\(.* must be a SynapticPruner"),
        (lambda: sp.plot.inputs(_inputs(), NAMES[:4]), r"names=\['load', .* must be a list of 5 names"),
        (lambda: sp.plot.inputs_table(_inputs(), "loads"), r"names=\['loads'\] must be a list of 5 names"),
    ],
)
def test_refusals_draw_nothing(draw: Any, message: str):
    with pytest.raises(ValueError, match=message):
        draw()
    assert not pyplot.get_fignums()


def test_without_matplotlib_it_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "synaptic_pruning.integrations.plot")
    with pytest.raises(ModuleNotFoundError, match=r"draws with matplotlib.*synaptic-pruning\[plot\]"):
        sp.plot  # noqa: B018

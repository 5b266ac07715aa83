"""One table of algorithms above both tasks: a name means the same rule for series and for images."""

import inspect
from dataclasses import replace

import pytest

import synaptic_pruning as sp
from synaptic_pruning.study import ALGORITHMS, DEFAULT, Ramp
from synaptic_pruning.study import classification as images
from synaptic_pruning.study import forecasting as series
from synaptic_pruning.study.engine import stable_repr

RAMP = Ramp(0.2, 0.6)
CONTROLS = {"none", "dropout", "mc-dropout", "locked-dropout", "narrow", "identical", "broken"}
ENSEMBLES = {name for name, arm in series.ARMS.items() if arm.ensemble}


def rule_of(name: str, ramp: Ramp = RAMP, sparsity: float = 0.8, seed: int = 3) -> sp.Rule | float:
    return ALGORITHMS[name].rule(sparsity, seed, ramp)


def test_the_default_is_the_rule_that_users_get():
    assert rule_of(DEFAULT, seed=0) == inspect.signature(sp.SynapticPruner).parameters["rule"].default == 0.8


def test_arms_are_named_after_their_algorithms_in_both_tasks():
    named = (
        dict.fromkeys(CONTROLS, "")
        | {name: name for name in ALGORITHMS}
        | dict.fromkeys(("synaptic", "synaptic-dropout", "wide"), DEFAULT)
    )
    grid = series.Grid(sparsity=(0.8,))
    for name, arm in series.ARMS.items():
        if name not in ENSEMBLES:
            assert {option.algorithm for option in arm.options(grid)} == {named[name]}
    for name, arm in images.ARMS.items():
        assert arm.algorithm == named[name]
    assert {"synaptic", "set", "magnitude", "disuse", "rigl", "random-ramp"} <= set(images.ARMS)
    assert set(ALGORITHMS) <= set(series.ARMS)


@pytest.mark.parametrize("name", [name for name, arm in images.ARMS.items() if arm.prunes])
def test_a_name_means_the_same_rule_for_series_and_images_but_for_the_ramp(name):
    arm = series.ARMS[name]
    (option,) = arm.options(series.Grid(sparsity=(0.8,)))
    of_series, of_images = option.rule(seed=3), images.ARMS[name].rule(0.8, 3)
    assert type(of_series) is type(of_images)
    if isinstance(of_series, sp.ToSparsity):  # the ramp alone is the task's
        assert of_series.schedule.final == of_images.schedule.final == 0.8
        of_images = replace(of_images, schedule=of_series.schedule)
    assert stable_repr(of_images) == stable_repr(of_series)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_is_told_in_words_and_makes_a_fresh_rule_each_time(name):
    assert "{" not in ALGORITHMS[name].describe(RAMP)
    if name in (DEFAULT, "uncompensated"):  # the pruner makes the default rule, of a sparsity
        assert rule_of(name) == 0.8
    else:
        assert isinstance(rule_of(name), sp.Rule)
        assert rule_of(name) is not rule_of(name)
    sparsity = ALGORITHMS[name].sparsity
    assert sparsity is None or 0 <= sparsity < 1


def test_a_ramp_is_where_a_task_says():
    schedule = rule_of("magnitude").schedule
    assert [schedule(progress) for progress in (0.1, 0.6, 1.0)] == [0, 0.8, 0.8]
    assert 0 < schedule(0.4) < 0.8
    assert rule_of("one-shot").end == 0.2
    assert "from 20 % to 60 % of training" in ALGORITHMS["magnitude"].describe(RAMP)

"""Specs: a good one becomes a plan, a bad one a sentence with the entry, the value and the fix."""

import numpy as np
import pytest

import synaptic_pruning as sp
from synaptic_pruning.study.forecasting.arms import ARMS, Grid
from synaptic_pruning.study.forecasting.plan import Plan, expand
from synaptic_pruning.study.forecasting.spec import presets, read_spec
from synaptic_pruning.tasks.forecasting.data.series import DataError

GOOD = """
title = "Tides"
datasets = ["sunspots", "elnino"]
development = ["elnino"]
rows = 120
models = ["lstm", "rnn"]
arms = ["none", "synaptic"]
lengths = [3, 7]
horizon = 2
seeds = 4
steps = 50
learning_rate = { rnn = 1e-2, lstm = 3e-3 }
schedule = "cosine"

[grid]
dropout = [0.1, 0.3]
sparsity = [0.5, 0.9]
weight_decay = [1e-4, 1e-2]
"""
SHORT = 'title = "t"\ndatasets = ["sunspots"]\nmodels = ["rnn"]\nsteps = 5\n'


@pytest.fixture
def write(tmp_path):
    def _write(text):
        path = tmp_path / "spec.toml"
        path.write_text(text)
        return path

    return _write


def test_a_spec_becomes_a_plan(write):
    spec = read_spec(write(GOOD))
    assert spec.plan() == Plan(
        models=("lstm", "rnn"),
        arms=("none", "synaptic"),
        lengths=(3, 7),
        horizon=2,
        seeds=(0, 1, 2, 3),
        epochs=0,
        steps=50,
        learning_rates={"rnn": 1e-2, "lstm": 3e-3},
        schedule="cosine",
        grid=Grid(dropout=(0.1, 0.3), sparsity=(0.5, 0.9), weight_decay=(1e-4, 1e-2)),
    )
    assert [(one.name, one.values.shape) for one in spec.series()] == [("sunspots", (120, 1)), ("elnino", (120, 1))]
    assert spec.blocks() == {"sunspots": "sunspots", "elnino": "elnino"}
    # data set × model × length × seed × (none + two sparsities), each model at its own rate, sparse ones at twice
    cells = expand(spec.plan(), spec.series())
    assert len(cells) == 2 * 2 * 2 * 4 * 3
    rates = {(cell.model, cell.regime.sparsity, cell.learning_rate) for cell in cells}
    assert rates == {(m, s, lr * (2 if s else 1)) for m, lr in (("rnn", 1e-2), ("lstm", 3e-3)) for s in (0, 0.5, 0.9)}


def test_what_users_get_by_default_is_what_the_studies_train():
    assert [regime.rule() for regime in ARMS["synaptic"].candidates(Grid())] == [sp.default_rule()]


def test_what_is_left_out_has_a_default(write):
    spec = read_spec(write(SHORT))
    assert (spec.lengths, spec.seeds, spec.predict, spec.protocol) == ((24,), 3, "delta", "rigorous")
    assert spec.plan().grid == Grid()
    assert spec.plan().learning_rates == {"rnn": 1e-3}


BAD = {
    "data set": (
        SHORT.replace("sunspots", "bitcion"),
        "datasets: data set 'bitcion' is unknown; did you mean 'bitcoin'",
    ),
    "arm": (SHORT + 'arms = ["none", "nome"]', "arms: arm 'nome' is unknown; choose from none, dropout, mc-dropout"),
    "model": (SHORT.replace("rnn", "gru"), "models.0: should be 'rnn', 'lstm' or 'patchtst' (given: 'gru')."),
    "grids": (
        SHORT + "[grid]\ndropout = [0.1, 0.2]",
        "grid: the grids have 2 dropout rates, 1 sparsities and 1 weight",
    ),
    "no grid": (SHORT + "[grid]\ndropout = []\nsparsity = []\nweight_decay = []", "grid: the grids have 0 dropout"),
    "grid range": (
        SHORT + "[grid]\nsparsity = [1.5]",
        "grid: 1.5 is out of range; dropout rates and sparsities lie in",
    ),
    "grid sign": (SHORT + "[grid]\nweight_decay = [0]", "grid: 0 is out of range"),
    "grid twice": (
        SHORT + "[grid]\ndropout = [0.1, 0.1]\nsparsity = [0.5, 0.7]\nweight_decay = [1e-4, 1e-3]",
        "grid: 0.1 stands there 2 times; name it once.",
    ),
    "steps and epochs": (SHORT + "epochs = 3", "steps is 5 and epochs is 3; give one of them, at least 1."),
    "neither": (SHORT.replace("steps = 5", ""), "steps is 0 and epochs is 0; give one of them, at least 1."),
    "negative": (SHORT.replace("= 5", "= -5"), "steps: should be greater than or equal to 0 (given: -5)."),
    "no ensemble": (
        SHORT + 'arms = ["synaptic-ensemble"]\n[grid]\nsparsity = [0.4]',
        "grid.sparsity goes up to 0.4, and several networks that sparse have more weights than one dense network; for "
        "an ensemble add a sparsity of at least 0.5.",
    ),
    "extra": (SHORT + 'arsm = ["none"]', "arsm is no entry; did you mean arms?"),
    "extra in grid": (SHORT + "[grid]\nsparsities = [0.5]", "grid.sparsities is no entry; did you mean sparsity?"),
    "extra and far": (SHORT + "qqq = 1", "qqq is no entry; there are title, datasets, development, rows"),
    "missing": (SHORT.replace('title = "t"', ""), "title is missing; add it."),
    "twice": (SHORT.replace('"sunspots"', '"co2", "co2"'), "datasets: 'co2' stands there 2 times; name it once."),
    "arm twice": (SHORT + 'arms = ["none", "none"]', "arms: 'none' stands there 2 times; name it once."),
    "no data": (SHORT.replace('"sunspots"', ""), "datasets: "),
    "length": (SHORT + "lengths = [0]", "lengths.0: should be greater than or equal to 1 (given: 0)."),
    "text": (SHORT + 'seeds = "many"', "seeds: should be a valid integer (given: 'many')."),
    "truth": (SHORT + "seeds = true", "seeds: should be a valid integer (given: True)."),
    "rows": (SHORT + "rows = 10", "rows: should be greater than or equal to 50 (given: 10)."),
    "rate": (SHORT + "learning_rate = 0", "learning_rate: should be greater than 0 (given: 0)."),
    "rate of no model": (SHORT + "[learning_rate]\ngru = 1e-3", "learning_rate.gru: should be 'rnn', 'lstm' or"),
    "rate of a model": (
        SHORT + "[learning_rate]\nlstm = 1e-3",
        "learning_rate has no entry for 'rnn'; give one number",
    ),
    "development": (
        SHORT + 'development = ["co2"]',
        "development names 'co2', which is not in datasets; add it there too.",
    ),
    "protocol": (SHORT + 'protocol = "leaky"', "protocol: should be 'rigorous' or 'paper' (given: 'leaky')."),
    "not TOML": ("title = ", "is not TOML"),
    "not text": (b"\xff\xfe\x00", "is not TOML"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_spec_is_refused_in_one_sentence(tmp_path, kind):
    text, sentence = BAD[kind]
    path = tmp_path / "spec.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as caught:
        read_spec(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert sentence in message
    assert "\n" not in message
    assert message.endswith((".", "?"))


def test_rows_may_be_left_out_before_those_that_are_used(write):
    whole = read_spec(write(SHORT)).series()[0]
    for rows in ("rows = 120", ""):
        (part,) = read_spec(write(SHORT + "skip_rows = 100\n" + rows)).series()
        end = 220 if rows else len(whole.times)
        assert np.array_equal(part.values, whole.values[100:end])
        assert np.array_equal(part.times, whole.times[100:end])
    spec = read_spec(write(SHORT + f"skip_rows = {len(whole.times) - 1}"))
    with pytest.raises(DataError, match=r"skip_rows=\d+ leaves 1 rows of 'sunspots'; skip fewer, or leave it out"):
        spec.series()


def test_a_missing_file_is_told_with_the_specs_that_ship(tmp_path):
    with pytest.raises(DataError, match=r"there is no spec '.*absent\.toml'; give a file, or one of .*smoke"):
        read_spec(tmp_path / "absent.toml")
    with pytest.raises(DataError, match="there is no spec"):
        read_spec(tmp_path)


@pytest.mark.parametrize("name", presets())
def test_every_spec_that_ships_can_be_read(name):
    spec = read_spec(name)
    plan = spec.plan()
    assert plan.seeds
    assert set(plan.arms) <= set(ARMS)
    assert set(spec.blocks()) == set(spec.datasets)


@pytest.mark.parametrize("arm", ARMS)
def test_the_hash_of_a_cell_is_the_same_in_another_process(arm, write, hashes_elsewhere):
    path = write(SHORT + f'arms = ["{arm}"]')
    assert [cell.hash for cell in expand(read_spec(path).plan(), read_spec(path).series())] == hashes_elsewhere[arm]


@pytest.fixture(scope="module")
def hashes_elsewhere(other_interpreter):
    """The hashes of every arm's cells, by a process that has never seen this one; all at once, to be quick."""
    code = f"""
from synaptic_pruning.study.forecasting.spec import Spec
from synaptic_pruning.study.forecasting.plan import expand
from synaptic_pruning.study.forecasting.arms import ARMS
import tomllib
answer = dict()
for arm in ARMS:
    spec = Spec.model_validate(tomllib.loads({SHORT!r}) | dict(arms=[arm]))
    answer[arm] = [cell.hash for cell in expand(spec.plan(), spec.series())]
"""
    return other_interpreter.answer(code)

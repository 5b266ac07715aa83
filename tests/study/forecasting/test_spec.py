"""Specs: a good one becomes a plan, a bad one a sentence with the entry, the value and the fix."""

import numpy as np
import pandas as pd
import pytest

from helpers.planned import planned
from synaptic_pruning.study.forecasting.arms import ARMS
from synaptic_pruning.study.forecasting.options import Grid
from synaptic_pruning.study.forecasting.plan import Plan
from synaptic_pruning.study.forecasting.spec import presets, read_spec
from synaptic_pruning.study.statistics import Hypothesis
from synaptic_pruning.tasks.forecasting.data.series import DataError

GOOD = """
title = "Tides"
datasets = ["sunspots", "elnino"]
development = ["elnino"]
rows = 120
models = ["lstm", "rnn"]
arms = ["none", "synaptic"]
lengths = [3, 7]
horizons = [2]
regimes = ["univariate", "features"]
seeds = 4
steps = 50
patience = 5
baselines = ["ridge"]
learning_rate = { rnn = 1e-2, lstm = 3e-3 }
schedule = "cosine"

[grid]
rate = [1, 3]
dropout = [0, 0.3]
sparsity = [0.5, 0.9]
weight_decay = [0, 1e-2]
options = 3

[domains]
sky = ["sunspots"]

[[hypotheses]]
name = "no worse"
regime = "features"
arm = "synaptic"
against = ["none"]
margin = 0.01
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
        horizons=(2,),
        seeds=4,
        epochs=0,
        regimes=("univariate", "features"),
        steps=50,
        patience=5,
        baselines=("ridge",),
        hypotheses=(Hypothesis("no worse", "features", "synaptic", ("none",), 0.01),),
        learning_rates={"rnn": 1e-2, "lstm": 3e-3},
        schedule="cosine",
        grid=Grid(rate=(1, 3), dropout=(0, 0.3), sparsity=(0.5, 0.9), weight_decay=(0, 1e-2), options=3),
    )
    assert [(one.name, one.values.shape) for one in spec.series()] == [("sunspots", (120, 1)), ("elnino", (120, 1))]
    assert spec.blocks() == {"sunspots": "sunspots", "elnino": "elnino"}
    assert spec.domain_of() == {"sunspots": "sky"}
    # data set × regime × model × length × (none + pruned) × options, each model at its own rate
    cells = planned(spec.plan(), spec.series())
    assert len(cells) == 2 * 2 * 2 * 2 * 2 * 3
    rates = {(cell.model, cell.option.sparsity, round(cell.learning_rate, 6)) for cell in cells}
    assert rates == {
        (model, sparsity, round(rate * factor, 6))
        for model, rate in (("rnn", 1e-2), ("lstm", 3e-3))
        for sparsity, factor in ((0, 1), (0, 3), (0.5, 1), (0.9, 3), (0.9, 1))
    }


def test_files_of_ones_own_are_data_sets(write, tmp_path, monkeypatch):
    days = pd.date_range("2024-01-01", periods=80)
    table = pd.DataFrame(
        {"day": days, "load": np.arange(80) % 7, "heat": np.arange(80.0), "x": 1 / (1 + np.arange(80))}
    )
    (tmp_path / "data").mkdir()
    table.to_csv(tmp_path / "data" / "grid.v2.csv.gz", index=False)
    path = write(
        SHORT.replace('datasets = ["sunspots"]', 'regimes = ["multivariate"]')
        + """
[[files]]
path = "grid.v2.csv.gz"
target = "load"
source = "utility"
domain = "energy"
inputs = ["heat"]
[[files]]
path = "data/grid.v2.csv.gz"
name = "heat"
target = "heat"
"""
    )
    spec = read_spec(path)
    monkeypatch.chdir(tmp_path)
    one, other = spec.series(tmp_path / "data")
    assert (one.name, one.columns, one.season) == ("grid", ("load", "heat"), 7)
    assert (other.name, other.columns) == ("heat", ("heat", "load", "x"))
    assert spec.names == ("grid", "heat")
    assert spec.blocks() == {"grid": "utility", "heat": "heat"}
    assert spec.domain_of() == {"grid": "energy"}
    with pytest.raises(DataError, match=r"grid\.v2"):
        spec.series()  # the first is neither there nor in the working directory


def test_what_users_get_by_default_is_what_the_studies_train():
    assert [option.rule() for option in ARMS["synaptic"].options(Grid())] == [0.8]


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
    "model": (SHORT.replace("rnn", "gru"), "models.0: should be 'rnn', 'lstm', 'patchtst' or 'mlp' (given: 'gru')."),
    "budgets": (
        SHORT + "[grid]\nrate = [1, 3]\noptions = 4\ndropout = [0, 0.1]\nsparsity = [0.5, 0.8]",
        "grid.options is 4, but arm 'none' has 2 combinations of learning rate and its own settings; add rates or",
    ),
    "no grid": (SHORT + "[grid]\ndropout = []", "grid.dropout: "),
    "baseline": (SHORT + 'baselines = ["arima"]', "baselines: baseline 'arima' is unknown; choose from persistence"),
    "recurrent": (
        SHORT.replace('"rnn"', '"rnn", "mlp"') + 'arms = ["locked-dropout"]',
        "arm 'locked-dropout' exists for rnn and lstm alone, not for 'mlp'.",
    ),
    "hypothesis": (
        SHORT + '[[hypotheses]]\nname = "h"\nregime = "univariate"\narm = "early"\nagainst = ["none"]',
        "hypotheses: 'early' of 'h' is not in arms; add it there too.",
    ),
    "its regime": (
        SHORT + '[[hypotheses]]\nname = "h"\nregime = "features"\narm = "none"\nagainst = ["dropout"]',
        "hypotheses: 'features' of 'h' is not in regimes; add it.",
    ),
    "itself": (
        SHORT + '[[hypotheses]]\nname = "h"\nregime = "univariate"\narm = "none"\nagainst = ["none"]',
        "hypotheses: 'h' compares 'none' with itself",
    ),
    "margin": (
        SHORT + '[[hypotheses]]\nname = "h"\nregime = "univariate"\narm = "none"\nagainst = ["dropout"]\nmargin = 2',
        "hypotheses.0.margin: should be less than 1 (given: 2)",
    ),
    "horizon": (SHORT + 'horizons = ["year"]', "horizons.0"),
    "file": (SHORT + '[[files]]\npath = "a.csv"\ntarget = "y"\nseperator = ";"', "files.0.seperator is no entry; did"),
    "names": (SHORT + '[[files]]\npath = "sunspots.csv"\ntarget = "y"', "'sunspots' stands there 2 times"),
    "domain": (SHORT + '[domains]\nsea = ["tides"]', "sea names 'tides', which is not in datasets; add it there too."),
    "grid range": (
        SHORT + "[grid]\nsparsity = [1.5]",
        "grid: 1.5 is out of range; dropout rates lie in [0, 1), sparsities in (0, 1)",
    ),
    "grid sign": (SHORT + "[grid]\nweight_decay = [-1]", "grid: -1 is out of range"),
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
        "'synaptic-ensemble' add a sparsity of at least 0.5.",
    ),
    "extra": (SHORT + 'arsm = ["none"]', "arsm is no entry; did you mean arms?"),
    "extra in grid": (SHORT + "[grid]\nsparsities = [0.5]", "grid.sparsities is no entry; did you mean sparsity?"),
    "extra and far": (SHORT + "qqq = 1", "qqq is no entry; there are title, datasets, files, development"),
    "missing": (SHORT.replace('title = "t"', ""), "title is missing; add it."),
    "twice": (SHORT.replace('"sunspots"', '"co2", "co2"'), "datasets: 'co2' stands there 2 times; name it once."),
    "arm twice": (SHORT + 'arms = ["none", "none"]', "arms: 'none' stands there 2 times; name it once."),
    "no data": (SHORT.replace('"sunspots"', ""), "there are no datasets and no files; name at least one."),
    "length": (SHORT + "lengths = [0]", "lengths.0: should be greater than or equal to 1 (given: 0)."),
    "text": (SHORT + 'seeds = "many"', "seeds: should be a valid integer (given: 'many')."),
    "truth": (SHORT + "seeds = true", "seeds: should be a valid integer (given: True)."),
    "rows": (SHORT + "rows = 10", "rows: should be greater than or equal to 50 (given: 10)."),
    "rate": (SHORT + "learning_rate = 0", "learning_rate: should be greater than 0 (given: 0)."),
    "rate of no model": (
        SHORT + "[learning_rate]\ngru = 1e-3",
        "learning_rate.gru: should be 'rnn', 'lstm', 'patchtst' or",
    ),
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
    assert set(spec.blocks()) == set(spec.names)


@pytest.mark.parametrize("arm", ARMS)
def test_the_hash_of_a_cell_is_the_same_in_another_process(arm, write, hashes_elsewhere):
    path = write(SHORT + f'arms = ["{arm}"]')
    assert [cell.hash for cell in planned(read_spec(path).plan(), read_spec(path).series())] == hashes_elsewhere[arm]


@pytest.fixture(scope="module")
def hashes_elsewhere(other_interpreter):
    """The hashes of every arm's cells, by a process that has never seen this one; all at once, to be quick."""
    code = f"""
from synaptic_pruning.study.forecasting.spec import Spec
from helpers.planned import planned
from synaptic_pruning.study.forecasting.arms import ARMS
import tomllib
answer = dict()
for arm in ARMS:
    spec = Spec.model_validate(tomllib.loads({SHORT!r}) | dict(arms=[arm]))
    answer[arm] = [cell.hash for cell in planned(spec.plan(), spec.series())]
"""
    return other_interpreter.answer(code)

"""The cells of the published studies keep their hashes, so that a folder of an earlier run is read and continued."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from synaptic_pruning.study.engine import provenance
from synaptic_pruning.study.forecasting.plan import expand
from synaptic_pruning.study.forecasting.spec import presets, read_spec

RESULTS = Path(__file__).parents[3] / "docs" / "results"
# Not the confirmation: its pruned arms were trained at another rate, by the commit that docs/results.md names.
STUDIES = ("standard", "unseen", "controls-all", "controls", "smoke", "paper-reduced")
DATA_SETS = 3


@pytest.mark.parametrize("study", STUDIES)
def test_every_arm_of_a_published_study_is_made_of_cells_of_the_same_hash(study, monkeypatch):
    table = pd.read_parquet(RESULTS / f"{study}.parquet")
    (versions,) = table["versions"].unique()
    published = dict(pair.split("=") for pair in versions.split())
    monkeypatch.setattr(provenance, "versions", lambda: published)
    spec = RESULTS / f"{study}.toml"
    plan = read_spec(spec if spec.exists() else presets()[study]).plan()
    digests = table.groupby("dataset", sort=False)["data_hash"].first()[:DATA_SETS]
    stand_ins = [SimpleNamespace(name=name, digest=digest) for name, digest in digests.items()]
    found = {cell.hash: cell for cell in expand(plan, stand_ins)}

    rows = table[table["dataset"].isin(digests.index)]
    assert set(rows["arm"]) == set(plan.arms)
    for row in rows.itertuples():
        cell = found[row.config_hash]
        assert (cell.dataset, cell.model, cell.length, cell.seed) == (row.dataset, row.model, row.length, row.seed)
        assert cell.regime in plan.candidates(row.arm)
        assert cell.regime.setting == row.setting.rpartition(" × ")[2]

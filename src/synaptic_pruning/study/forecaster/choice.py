"""Choose the network of a comparison with the smallest validation error."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from synaptic_pruning.study.forecasting import ARMS, Cell, CellRecord, Option, Plan
from synaptic_pruning.tasks.forecasting import DataError

_KEYS = ["model", "length", "arm"]
_CONTROLS = ("identical", "broken")


@dataclass(frozen=True)
class Choice:
    """What a comparison found best.

    Attributes:
        arm: Name of the arm.
        cell: Its training of the first seed.
        record: What came of it.
        epochs: Median over its seeds of the epochs after which the validation error was smallest.
        candidates: Number of combinations of model, window and arm that it was chosen from.
    """

    arm: str
    cell: Cell
    record: CellRecord
    epochs: int
    candidates: int


def check_plan(plan: Plan) -> None:
    """Refuse a plan whose outcome could not be kept as one network, asked once, that reads the columns as they are.

    Raises:
        DataError: It has an arm that averages, a control, several horizons, or another regime.
    """
    for name in plan.arms:
        if name not in _single():
            raise DataError(f"arm {name!r} is not one network asked once, which is what is kept; leave it out.")
    if len(plan.horizons) != 1 or plan.regimes != ("multivariate",) or plan.protocol != "rigorous":
        raise DataError(
            f"horizons={plan.horizons}, regimes={plan.regimes} and protocol={plan.protocol!r} must be one horizon, "
            "('multivariate',) and 'rigorous'."
        )


def _single() -> list[str]:
    return [name for name, arm in ARMS.items() if not (arm.ensemble or arm.passes or name in _CONTROLS)]


def choose_run(runs: pd.DataFrame, cells: Path, digest: str) -> Choice:
    """Return the model, window and arm of the smallest mean validation error over seeds. The test part has no say.

    Arms that average several networks or passes are left out: what is kept is one network, asked once.

    Args:
        runs: Table of runs, as `results.parquet` of a comparison holds it.
        cells: Folder with the records of its cells.
        digest: `Series.digest` of the data.

    Raises:
        DataError: No run is of these data, or of an arm of single networks; or runs differ in their horizon.
    """
    own = runs[(runs["data_hash"] == digest) & (runs["model"] != "")]
    if own.empty:
        raise DataError("the comparison holds no run of these data; read them with the options that it was run with.")
    own = own[(own["status"] == "ok") & (own["regime"] == "multivariate") & own["arm"].isin(_single())]
    own = own[own["protocol"] == "rigorous"]
    if own.empty:
        raise DataError("the comparison holds no finished run of one network asked once; add the arm none or synaptic.")
    if own["horizon"].nunique() > 1:
        horizons = ", ".join(map(str, sorted(own["horizon"].unique())))
        raise DataError(f"the comparison holds the horizons {horizons}; compare with the one that you forecast.")
    errors = own.groupby(_KEYS, sort=False)["validation_mae"].mean()
    model, length, arm = errors.index[int(errors.to_numpy().argmin())]
    group = own[(own["model"] == model) & (own["length"] == length) & (own["arm"] == arm)].sort_values("seed")
    record = _record(cells / f"{group.iloc[0]['config_hash']}.json")
    settings: dict[str, Any] = {field.name: record["cell"].get(field.name, False) for field in fields(Cell)}
    settings |= {"option": Option(**settings["option"]), "passes": tuple(settings["passes"])}
    epochs = max(1, round(float(group["best_epoch"].median())))
    return Choice(str(arm), Cell(**settings), record, epochs, len(errors))


def _record(path: Path) -> CellRecord:
    try:
        record: CellRecord = json.loads(path.read_text())
    except (OSError, ValueError):
        raise DataError(
            f"{path} cannot be read, though the table of runs names it; run the comparison again."
        ) from None
    return record

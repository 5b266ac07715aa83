"""Average runs into blocks, the independent observations of every test, and compare two arms on them.

A block is a data set, or several from one source. Its value is a mean over seeds, window lengths and models, which
are not independent observations.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

CASE = ["dataset", "regime", "model", "length", "horizon"]
"""What errors are averaged within; a table without one of these columns has one value of it."""
TASK = ["dataset", "regime", "horizon"]
"""What all models are compared on."""


def paired(results: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Keep the runs that ended well in every arm.

    Args:
        results: Table of all runs, one row per run.

    Returns:
        The rows kept, and the number of rows left out: failed runs and their partners in the other arms.

    Example:
        >>> rows = [("a", "rnn", arm, 7, 1, s, "ok") for arm in ("none", "synaptic") for s in (0, 1)]
        >>> table = pd.DataFrame(rows, columns=["dataset", "model", "arm", "length", "horizon", "seed", "status"])
        >>> table.loc[0, "status"] = "diverged"
        >>> kept, left_out = paired(table)
        >>> len(kept), left_out
        (2, 2)
    """
    well = results[results["status"] == "ok"]
    complete = well.groupby([*_group(results), "seed"])["arm"].transform("nunique") == results["arm"].nunique()
    kept = well[complete]
    return kept, len(results) - len(kept)


def _group(results: pd.DataFrame) -> list[str]:
    return [name for name in CASE if name in results]


def block_means(results: pd.DataFrame, metric: str = "mae", block_of: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return the mean of every arm on every block.

    The value of an error is `exp(mean of log(mean over seeds))`. The outer mean runs over the block's data sets,
    models, window lengths and horizons. Ratios of two arms are then geometric means of ratios, so neither the units of
    a data set nor the model with the largest errors dominates. `skill`, which may be negative and has no unit, is
    averaged arithmetically.

    Args:
        results: Paired runs (`paired`).
        metric: Column to average: "mae", "rmse", "mase" or "skill".
        block_of: Block of a data set, for data sets that are no independent observations (several pollutants of one
            station); a data set that is not named is a block of its own.

    Returns:
        One row per block, one column per arm, both in order of appearance.

    Raises:
        ValueError: An arm has no value where another has one, or an error is not positive.

    Example:
        >>> rows = [("co", "none", 4.0), ("co", "synaptic", 2.0), ("no2", "none", 50.0), ("no2", "synaptic", 100.0)]
        >>> runs = pd.DataFrame(rows, columns=["dataset", "arm", "mae"]).assign(model="rnn", length=7, horizon=1)
        >>> block_means(runs, block_of={"co": "station", "no2": "station"}).round(6).to_dict("index")
        {'station': {'none': 14.142136, 'synaptic': 14.142136}}
    """
    arms = list(dict.fromkeys(results["arm"]))
    by_group = results.pivot_table(index=_group(results), columns="arm", values=metric, aggfunc="mean", sort=False)
    by_group = by_group.reindex(columns=arms).astype(float)
    if by_group.isna().any(axis=None):
        arm = next(name for name in arms if by_group[name].isna().any())
        raise ValueError(
            f"results: arm {arm!r} has no {metric} for {by_group.index[by_group[arm].isna()].tolist()[0]!r}; "
            "keep the runs that ended well in every arm with paired() first"
        )
    names = by_group.index.get_level_values("dataset")
    rows = names if block_of is None else names.map(lambda name: block_of.get(name, name)).rename("block")
    if metric == "skill":
        return by_group.groupby(rows, sort=False).mean()
    if not (by_group > 0).all(axis=None):
        raise ValueError(
            f"results: {metric} must be positive to be compared as a ratio, found {float(by_group.to_numpy().min())}; "
            "leave out the data sets that a network reproduces exactly"
        )
    return by_group.transform(np.log).groupby(rows, sort=False).mean().transform(np.exp)


def log_ratios(table: pd.DataFrame, arm: str, other: str) -> np.ndarray:
    """Return the logarithms of `arm / other`, one a block: what all tests are made on, for they have no unit.

    Args:
        table: Positive errors, one row per block, one column per arm (`block_means`), at least one row.
        arm: The column to judge.
        other: The column to compare it with.

    Raises:
        ValueError: An arm is no column of the table, the table has no rows, or an error is no positive number.

    Example:
        >>> log_ratios(pd.DataFrame({"none": [1.0, 2.0], "synaptic": [1.0, 1.0]}), "synaptic", "none").round(3)
        array([ 0.   , -0.693])
    """
    for name in (arm, other):
        if name not in table:
            raise ValueError(f"arm {name!r} is no column of the table; choose from {[str(c) for c in table]}")
    if table.empty:
        raise ValueError("table: needs at least one block, has none")
    errors = [table[name].to_numpy(dtype=float) for name in (arm, other)]
    for name, values in zip((arm, other), errors, strict=True):
        positive = np.isfinite(values) & (values > 0)
        if not positive.all():
            row = int(positive.argmin())
            raise ValueError(
                f"table: errors must be positive numbers, arm {name!r} has {values[row]} at {table.index[row]!r}; "
                "leave out that block"
            )
    logs: np.ndarray = np.log(errors[0] / errors[1])
    return logs


def several_of(runs: pd.DataFrame) -> list[str]:
    """Return those of regime and horizon that a table has several of.

    Example:
        >>> several_of(pd.DataFrame({"regime": "features", "horizon": [1, 24]}))
        ['horizon']
    """
    return [column for column in TASK[1:] if runs[column].nunique() > 1]


def case_name(task: Sequence[object], several: Sequence[str]) -> str:
    """Name a data set with its regime and horizon (`TASK`), those that there are `several_of`.

    Example:
        >>> case_name(("co2", "features", 12), ["regime", "horizon"]), case_name(("co2", "features", 12), [])
        ('co2 (features, horizon 12)', 'co2')
    """
    dataset, regime, horizon = task
    told = {"regime": f"{regime}", "horizon": f"horizon {horizon}"}
    inner = ", ".join(told[column] for column in several)
    return f"{dataset} ({inner})" if inner else f"{dataset}"

"""From runs to independent evidence: a block is a data set, its value a mean over seeds, window lengths and models.

Seeds, windows and window lengths of one data set are not independent evidence, so none of them is a block.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

_GROUP = ["dataset", "model", "length", "horizon"]
_RUN = [*_GROUP, "seed"]


def paired(results: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Keep the runs that ended well in every arm, and count the rows left out for their partners' sake or their own.

    Example:
        >>> rows = [("a", "rnn", arm, 7, 1, s, "ok") for arm in ("none", "synaptic") for s in (0, 1)]
        >>> table = pd.DataFrame(rows, columns=["dataset", "model", "arm", "length", "horizon", "seed", "status"])
        >>> table.loc[0, "status"] = "diverged"
        >>> kept, left_out = paired(table)
        >>> len(kept), left_out
        (2, 2)
    """
    well = results[results["status"] == "ok"]
    complete = well.groupby(_RUN)["arm"].transform("nunique") == results["arm"].nunique()
    kept = well[complete]
    return kept, len(results) - len(kept)


def blocks(results: pd.DataFrame, metric: str = "mae", block_of: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row a block, one column an arm (both in order of appearance), one value for each.

    The value of an error is `exp(mean of log(mean over seeds))`, the outer mean over the block's data sets, models,
    window lengths and horizons. Ratios of two arms are then geometric means of ratios, so neither the units of a data
    set nor the model with the largest errors has more say than another. `skill`, which may be negative and has no unit,
    is averaged plainly.

    Args:
        results: paired runs (`paired`).
        metric: "mae", "rmse", "mase" or "skill".
        block_of: the block that a data set belongs to, for data sets that are no independent evidence (several
            pollutants of one station); a data set that is not named is a block of its own.

    Raises:
        ValueError: an arm has no value where another has one, or an error is not positive.

    Example:
        >>> rows = [("co", "none", 4.0), ("co", "synaptic", 2.0), ("no2", "none", 50.0), ("no2", "synaptic", 100.0)]
        >>> runs = pd.DataFrame(rows, columns=["dataset", "arm", "mae"]).assign(model="rnn", length=7, horizon=1)
        >>> blocks(runs, block_of={"co": "station", "no2": "station"}).round(6).to_dict("index")
        {'station': {'none': 14.142136, 'synaptic': 14.142136}}
    """
    arms = list(dict.fromkeys(results["arm"]))
    by_group = results.pivot_table(index=_GROUP, columns="arm", values=metric, aggfunc="mean", sort=False)
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

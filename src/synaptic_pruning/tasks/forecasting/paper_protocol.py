"""Cut series by the released protocol of Vos et al., leaks included: for comparison with the paper only."""

import numpy as np

from synaptic_pruning.tasks.errors import DataError
from synaptic_pruning.tasks.forecasting.data import Series
from synaptic_pruning.tasks.forecasting.windows import ForecastingTask, Scaler, assemble

LEADS = 3
"""Number of lead features: the values one, two and three rows ahead, given to the network as inputs."""
_TRAIN = 0.8


def make_leaking_task(
    series: Series, *, length: int, horizon: int = 1, longest: int | None = None, leads: int = LEADS
) -> ForecastingTask:
    """Cut a series as the released code does: future targets as inputs, scaling on the whole, test = validation.

    Every row carries the target's next ``leads`` values beside its own, so the value to forecast is an input. Mean
    and scale are those of all rows, future included, and the last fifth of the rows is validation and test at once.
    The value itself is forecast, not the change.

    Args:
        series: Series to cut.
        length: Rows in a window.
        horizon: Rows to forecast.
        longest: Longest window of the comparison; by default ``length``. See `make_task`.
        leads: Number of lead features.

    Raises:
        DataError: The series is too short for such windows.

    Example:
        >>> line = Series("line", "y", ("y",), np.arange(40), np.arange(40.0)[:, None], season=1)
        >>> task = make_leaking_task(line, length=4)
        >>> inputs = task.scaler.mean[1] + task.scaler.scale[1] * task.test.inputs[0, -1, 1].double().numpy()
        >>> float(inputs.round(4)), task.truth(task.test)[0].tolist()      # the first lead feature is the answer
        (30.0, [30.0])

    Source: code released with arXiv 2508.09330.
    """
    longest = length if longest is None else longest
    target = series.values[:, 0]
    ahead = [np.concatenate([target[lead:], np.full(lead, np.nan)]) for lead in range(1, leads + 1)]
    columns = (*series.columns, *(f"{series.target} {lead} ahead" for lead in range(1, leads + 1)))
    leaking = Series(
        series.name, series.target, columns, series.times, np.column_stack([series.values, *ahead]), series.season
    )
    rows = len(target) - leads  # the released code drops the rows whose lead features are missing
    cut = round(rows * _TRAIN)
    last = (max(cut, longest) - 1, rows - horizon)
    spans = {"training": (longest - 1, cut - horizon), "validation": last, "test": last}
    if any(end <= first for first, end in spans.values()):
        raise DataError(
            f"series {series.name!r} with {len(target)} rows is too short for windows of {longest} rows and horizon "
            f"{horizon} after {leads} rows are lost to lead features; give more rows or a shorter window."
        )
    scaler = Scaler.fit(leaking.values)
    return assemble(leaking, scaler, spans, (cut, cut), length=length, horizon=horizon, predict="level")

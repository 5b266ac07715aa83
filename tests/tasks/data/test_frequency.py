"""The step of timestamps: what pandas makes of the whole series is what is inferred and continued from its start."""

import numpy as np
import pandas as pd
import pytest

from synaptic_pruning.tasks.forecasting import continued, frequency


@pytest.mark.parametrize(
    "step", ["D", "B", "h", "15min", "36h", "7D", "W-WED", "MS", "ME", "QS", "YS", "YE", "2MS", "10s"]
)
@pytest.mark.parametrize("start", ["2024-02-05", "2023-11-01 06:30"])
def test_what_follows_is_what_pandas_has_next(step: str, start: str):
    if step == "B":
        start = start[:10]  # business days with an hour have gaps, which readers refuse
    times = np.asarray(pd.date_range(start, periods=40, freq=step).as_unit("ns"))
    found = frequency(times[:30])
    np.testing.assert_array_equal(continued(times[29], found, 10), times[30:])
    np.testing.assert_array_equal(continued(times[0], found, 39), times[1:])


def test_a_day_within_the_month_goes_on_month_by_month():
    times = np.asarray(pd.to_datetime([f"2024-{month:02d}-29" for month in range(3, 9)]).as_unit("ns"))
    found = frequency(times)
    assert continued(times[-1], found, 6)[-1] == np.datetime64("2025-02-28")  # a February without a 29th


def test_gaps_do_not_hide_the_step():
    hours = np.asarray(pd.date_range("2024-01-01", periods=50, freq="h").as_unit("ns"))
    assert frequency(np.delete(hours, [7, 8, 30])) == "h"


def test_years_and_row_numbers():
    years = np.arange(1900, 1950, 5)
    assert frequency(years) == "5"
    assert continued(years[-1], "5", 3).tolist() == [1950, 1955, 1960]

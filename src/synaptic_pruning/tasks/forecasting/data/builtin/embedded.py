"""Provide the three real series that ship with statsmodels, so that a smoke test downloads nothing."""

import numpy as np

from synaptic_pruning.tasks.forecasting.data.series import Array, Series, Times


def embedded() -> list[Series]:
    """Return CO2 at Mauna Loa (weekly, ppm), sunspots (yearly), and sea temperature off Peru (monthly, °C).

    Times are dates for ``co2`` and ``elnino``, years for ``sunspots``. The season of ``sunspots`` is the
    solar cycle of about 11 years. CO2 has missing weeks, kept as NaN. Sources: see ``statsmodels.datasets``.

    Example:
        >>> [(series.name, series.values.shape, series.season) for series in embedded()]
        [('co2', (2284, 1), 52), ('sunspots', (309, 1), 11), ('elnino', (732, 1), 12)]
    """
    from statsmodels.datasets import co2, elnino, sunspots  # takes a second that forecasts need not wait

    weekly = co2.load_pandas().data["co2"]
    yearly = sunspots.load_pandas().data
    monthly = elnino.load_pandas().data.set_index("YEAR")  # one row a year, one column a month
    first = np.datetime64(f"{int(monthly.index[0])}-01", "M")
    months = first + np.arange(monthly.size)
    return [
        _series("co2", weekly.index.to_numpy().astype("datetime64[ns]"), weekly.to_numpy(), season=52),
        _series("sunspots", yearly["YEAR"].to_numpy().astype(np.int64), yearly["SUNACTIVITY"].to_numpy(), 11),
        _series("elnino", months.astype("datetime64[ns]"), monthly.to_numpy().ravel(), season=12),
    ]


def _series(name: str, times: Times, values: Array, season: int) -> Series:
    return Series(name, name, (name,), times, values.astype(np.float64)[:, None], season)

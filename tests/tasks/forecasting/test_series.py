"""A series refuses what cannot be used, and its digest follows its content."""

import numpy as np
import pytest

from synaptic_pruning.tasks.forecasting import DataError, Series, embedded


def make(**changes):
    fields = {
        "name": "s",
        "target": "y",
        "columns": ("y", "x"),
        "times": np.arange(3),
        "values": np.array([[1.0, 2.0], [np.nan, 3.0], [4.0, 5.0]]),
        "season": 1,
    }
    return Series(**(fields | changes))


BAD = {
    "shape": ({"values": np.zeros((3, 1))}, "need \\(3, 2\\)"),
    "target not first": ({"target": "x"}, "first column must be the target 'x'"),
    "one row": ({"times": np.arange(1), "values": np.zeros((1, 2))}, "1 row"),
    "times": ({"times": np.array([0, 2, 2])}, "times must increase strictly"),
    "infinite": ({"values": np.array([[1.0, 2.0], [3.0, np.inf], [4.0, 5.0]])}, "'x' is infinite in row 1"),
    "season": ({"season": 0}, "season is 0"),
    "constant": ({"values": np.array([[7.0, 1.0], [np.nan, 2.0], [7.0, 3.0]])}, "constant value 7"),
    "empty": ({"values": np.full((3, 2), np.nan)}, "no value at all"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_bad_series(changes, message):
    with pytest.raises(DataError, match=message):
        make(**changes)


def test_digest_follows_the_content_and_not_the_name():
    digest = make().digest
    assert make(name="other").digest == digest
    quiet = make()
    quiet.values.view(np.uint64)[1, 0] |= np.uint64(1)  # another NaN, the same missing value
    assert quiet.digest == digest
    changed = [
        make(values=make().values + np.array([1.0, 0.0])),
        make(times=np.arange(1, 4)),
        make(season=2),
        make(columns=("y", "z")),
        make(times=np.arange(3).astype("datetime64[ns]")),
    ]
    assert len({digest, *(series.digest for series in changed)}) == 6


def test_embedded_series_are_the_known_ones():
    co2, sunspots, elnino = embedded()
    assert co2.times[0] == np.datetime64("1958-03-29")
    assert co2.values[0, 0] == 316.1
    assert np.isnan(co2.values).sum() == 59
    assert (np.diff(co2.times) == np.timedelta64(7, "D")).all()
    assert sunspots.times[[0, -1]].tolist() == [1700, 2008]
    assert sunspots.values[257, 0] == 190.2  # 1957, the highest
    assert elnino.times[[0, -1]].tolist() == np.array(["1950-01", "2010-12"], "datetime64[ns]").tolist()
    assert elnino.values[:2, 0].tolist() == [23.11, 24.2]
    assert elnino.values[12, 0] == 24.19  # January of the second year

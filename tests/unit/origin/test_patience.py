"""For how long a peer is worth waiting for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from txglancecache.origin.patience import Patience


def test_silence() -> None:
    """Ends it after the time set, counted from the last byte."""
    patience = Patience(10)
    patience.waited(9)
    assert patience.complaint() is None
    assert patience.left == 1
    patience.came(1)
    patience.waited(9)
    assert patience.complaint() is None
    patience.waited(1)
    assert patience.complaint() == "nothing of use came from the origin for 10 s"


def test_a_slow_drip() -> None:
    """Ends it as well, if there is a least rate; each span of time is looked at by itself."""
    patience = Patience(10, rate=100)
    for expected in (None, "only 600 bytes came from the origin in 10 s"):
        for _ in range(10):
            assert patience.complaint() is None
            patience.waited(1)
            patience.came(60 if expected else 100)
        assert patience.complaint() == expected


@given(st.lists(st.tuples(st.floats(0, 9), st.integers(1, 2**20)), max_size=50))
def test_anything_will_do_without_a_rate(arrivals: list[tuple[float, int]]) -> None:
    """Only silence counts then; and there is always a time at which to look again."""
    patience = Patience(10)
    for waited, count in arrivals:
        patience.waited(waited)
        assert patience.complaint() is None
        assert 0 < patience.left <= 10
        patience.came(count)


@given(st.lists(st.tuples(st.floats(0.01, 5), st.integers(0, 3)), min_size=200, max_size=200))
def test_less_than_the_rate_never_goes_on(arrivals: list[tuple[float, int]]) -> None:
    """Whoever sends less than the least rate is complained about within two spans of time."""
    patience, waited = Patience(10, rate=400), 0.0
    for seconds, count in arrivals:
        patience.waited(seconds)
        waited += seconds
        if patience.complaint():
            return
        patience.came(count)
        assert waited < 20

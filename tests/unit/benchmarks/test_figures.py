"""Ratios, medians, targets, and who takes which turn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import Figure, Samples, at_least, at_most, below, percentile, ratios, turns


def test_ratios_are_of_the_same_round() -> None:
    """A machine that is half as fast in one round changes none of the ratios."""
    samples = Samples()
    for slowness in (1.0, 2.0, 1.0):
        samples.add("ours", {"speed": 12 / slowness})
        samples.add("theirs", {"speed": 10 / slowness})
    assert samples.ratios("speed", "ours", "theirs") == (1.2, 1.2, 1.2)


@pytest.mark.parametrize(("above", "under"), [([1.0, 2.0], [1.0]), ([1.0], [0.0])])
def test_no_ratio_of_what_does_not_belong_together(above: list[float], under: list[float]) -> None:
    """Rounds that are missing, or took nothing, are not glossed over."""
    with pytest.raises(ValueError, match=r"ratio to nothing|zip"):
        ratios(above, under)


def test_a_figure_is_its_median_and_its_spread() -> None:
    """One round that went wrong moves the spread, not the median."""
    figure = Figure("x", [1.1, 0.2, 1.2, 1.0, 1.3], target=at_least(1.0))
    assert (figure.median, figure.low, figure.high) == (1.1, 0.2, 1.3)
    assert figure.met is True


def test_a_figure_has_values() -> None:
    """Nothing measured is no figure."""
    with pytest.raises(ValueError, match="no values"):
        Figure("x", [])


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (at_least(1.0), 1.0, True),
        (at_least(1.0), 0.999, False),
        (at_most(15), 15.0, True),
        (at_most(15), 15.1, False),
        (below(1), 1.0, False),
        (below(1), 0.99, True),
    ],
)
def test_targets(target: object, value: float, met: bool) -> None:
    """Each bound is on its side of the limit, with the limit in or out."""
    assert Figure("x", [value], target=target).met is met  # type: ignore[arg-type]


def test_no_target_is_neither_met_nor_missed() -> None:
    assert Figure("x", [1.0]).met is None


def test_percentile() -> None:
    """The smallest value that so many percent do not exceed."""
    values = range(1, 101)
    assert [percentile(values, percent) for percent in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([7.0], 99) == 7.0


@given(st.integers(1, 6), st.integers(1, 12))
def test_everybody_takes_a_turn_in_each_round(servers: int, rounds: int) -> None:
    """And begins as often as the others, give or take one."""
    names = [str(number) for number in range(servers)]
    order = turns(names, rounds)
    assert all(sorted(names_of_round) == names for names_of_round in order)
    begins = [sum(names_of_round[0] == name for names_of_round in order) for name in names]
    assert max(begins) - min(begins) <= 1

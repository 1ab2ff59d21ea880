"""Pictures of figures."""

from pathlib import Path

import pytest

from benchmarks.figures import Figure, Target, at_least, at_most
from benchmarks.plots import _scored, draw
from benchmarks.report import PICTURES
from benchmarks.result import Result, Row

_SAMPLE = {"bytes_per_second": 1e9, "cpu_per_gib": 0.3}
_HITS = Row(
    "hits",
    "Hits",
    [Figure("hit / nginx", [1.0, 1.1], target=at_least(1.0))],
    {"ours; 1": [_SAMPLE], "nginx; 1": [_SAMPLE], "ours; 16": [_SAMPLE], "nginx; 16": [_SAMPLE]},
)
_EVICTION = Row("eviction", "Eviction", curves={"scans": {"S3-FIFO": [(5.0, 0.1), (10.0, 0.2)]}})


def _result(*rows: Row) -> Result:
    return Result("2026-01-02", 1.0, {}, {}, rows)


def test_the_same_figures_make_the_same_files(tmp_path: Path) -> None:
    """So that a page written anew differs only where figures do."""
    result = _result(_HITS, _EVICTION)
    draw(result, tmp_path / "one")
    draw(result, tmp_path / "two")
    for name in PICTURES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_what_was_not_measured_is_not_drawn(tmp_path: Path) -> None:
    """And a picture of an earlier run does not stay."""
    draw(_result(_HITS, _EVICTION), tmp_path)
    draw(_result(Row("hits", "Hits", error="no nginx"), _EVICTION), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["eviction.svg"]


@pytest.mark.parametrize(
    ("target", "value", "score"),
    [
        (at_least(2.0), 1.0, 0.5),
        (at_least(2.0), 4.0, 2.0),
        (at_most(20), 10.0, 2.0),
        (at_most(20), 40.0, 0.5),
        (at_most(20), -3.0, 20.0),
        (at_least(1.0), 1e6, 20.0),
        (at_most(1.0), 1e6, 0.05),
    ],
)
def test_more_is_better_than_the_target_whichever_way_it_is_bound(
    target: Target, value: float, score: float
) -> None:
    """1 is the target; what is far beyond is at the edge."""
    assert _scored(Figure("x", [value], target=target), value) == pytest.approx(score)

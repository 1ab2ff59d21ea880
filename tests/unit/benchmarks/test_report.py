"""A result on paper and back."""

from pathlib import Path

import pytest
from attrs import evolve

from benchmarks import report
from benchmarks.figures import Figure, at_least, at_most
from benchmarks.result import Result, Row

_ROWS = (
    Row(
        "hits",
        "Hits",
        [
            Figure("hit: throughput / nginx", [1.25, 1.5, 1.0], target=at_least(1.0)),
            Figure("a*b: p99", [20.0], "ms", at_most(15), note="on a Sunday"),
            Figure("hit: a second", [12345.6], "/s"),
        ],
        {"ours": [{"bytes_per_second": 1.0 / 3, "pace": 0.03}, {"pace": 0.02}]},
        {"scans": {"LRU": [(5.0, 0.25)]}},
        "More about it.",
        1.5,
    ),
    Row("miss", "Misses", error="it *broke*"),
)
RESULT = Result("2026-01-02", 600.0, {"Cores": "2"}, {"nginx": "1.22"}, _ROWS)


def test_json_and_back(tmp_path: Path) -> None:
    """The page can be written anew from the raw figures alone."""
    report.write(RESULT, tmp_path)
    known = report.load(tmp_path)
    assert known is not None
    assert report.page(known, tmp_path) == report.page(RESULT, tmp_path)
    assert known.rows[0].samples["ours"][0]["bytes_per_second"] == pytest.approx(1 / 3, rel=1e-5)


def test_nothing_measured_yet(tmp_path: Path) -> None:
    assert report.load(tmp_path) is None


def test_the_table_says_what_was_met_and_what_was_not(tmp_path: Path) -> None:
    """Each figure beside its target, and a row that failed with its reason."""
    text = report.overview(RESULT, tmp_path)
    assert "- 1.25\n     - 1.00 to 1.50\n     - ≥ 1\n     - yes\n" in text
    assert (
        "- a\\*b: p99 (on a Sunday)\n     - 20.0 ms\n     - 20.0 to 20.0\n     - ≤ 15 ms\n     - **no**\n"
        in text
    )
    assert "12,346 /s" in text
    assert "not measured: it \\*broke\\*" in text
    assert "1 of 2 targets are met. Not measured: Misses." in text


def test_judged_only(tmp_path: Path) -> None:
    """For the README: what has no target is left out."""
    text = report.overview(RESULT, tmp_path, judged_only=True)
    assert "hit: a second" not in text
    assert "hit: throughput" in text


def test_how_fast_the_machine_was(tmp_path: Path) -> None:
    """In a sentence, and for each part, against the machine at its best. What had no turns has no pace."""
    text = report.page(RESULT, tmp_path)
    assert "took 20 to 30 ms, 25 in the median" in text
    assert "   * - Hits\n     - 1.25\n     - 1.00 to 1.50\n" in text
    assert "Misses" not in text.partition("How fast the machine was")[2]
    assert "The same loop" not in report.page(evolve(RESULT, rows=_ROWS[1:]), tmp_path)


def test_what_each_server_took(tmp_path: Path) -> None:
    """Side by side, in medians; nothing stands where nothing was looked at."""
    turns = [{"bytes_per_second": speed, "cpu_per_gib": 0.25} for speed in (1e9, 2e9, 9e9)]
    samples = {
        "ours": turns,
        "theirs": [{**turn, "pss": 5 << 20} for turn in turns],
        "nobody": [{"pace": 0.1}],
    }
    row = evolve(_ROWS[0], samples=samples)
    costs = report.page(evolve(RESULT, rows=(row,)), tmp_path).partition("Throughput, CPU and memory")[2]
    assert "     - ours\n     - 2.00\n     - 0.25\n     -\n" in costs
    assert "     - theirs\n     - 2.00\n     - 0.25\n     - 5.00\n" in costs
    assert "nobody" not in costs
    assert "Throughput, CPU and memory" not in report.page(RESULT, tmp_path)


def test_what_people_say_and_the_pictures_come_along(tmp_path: Path) -> None:
    (tmp_path / report.SHORTFALLS).write_text("It rained.\n")
    (tmp_path / "hits.svg").write_text("<svg/>")
    text = report.overview(RESULT, tmp_path, at="docs/")
    assert "\nIt rained.\n" in text
    assert ".. image:: docs/hits.svg\n" in text
    assert "eviction.svg" not in text


@pytest.mark.parametrize(
    ("value", "text"), [(0.123, "0.12"), (9.999, "10.00"), (12.34, "12.3"), (1234.5, "1,234")]
)
def test_numbers(value: float, text: str) -> None:
    assert report.number(value) == text

"""What a progress bar says."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as some

from tests.unit.cli.node import GIB, A, job
from txglancecache.cli.progress import job_line, others_line, visible
from txglancecache.cli.values import Job

RUNNING = Job.of(job(1, A, "running", size=4 * GIB, done=GIB, rate=1e8, eta=32.2, started=10.0))


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (120, f"{A}  {'#' * 7}{'-' * 24}   25 %       1 GiB of 4 GiB     95.4 MiB/s     0:32"),
        (79, f"3f2a9c1e  {'#' * 4}{'-' * 14}   25 %       1 GiB of 4 GiB     95.4 MiB/s     0:32"),
        (60, f"3f2a9c1e  {'#' * 2}{'-' * 6}   25 %       1 GiB of 4 GiB     95.4 MiB/s"),
        (30, f"3f2a9c1e  {'#' * 3}{'-' * 10}   25 %"),
        (12, "3f2a9c1e   2"),
    ],
)
def test_widths(width: int, text: str) -> None:
    """Where there is less room it says less, and the bar stays."""
    line = job_line(RUNNING, width, unicode=False)
    assert " ".join(line.split()) == " ".join(text.split())
    assert len(line) <= width


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"size": None, "done": 5}, "running  5 B"),
        ({"state": "queued"}, "queued"),
        ({"state": "queued", "error": "no route"}, "queued again after: no route"),
        ({"state": "failed", "error": "no route"}, "failed: no route"),
        ({"state": "failed"}, "failed: for no known reason"),
        ({"state": "cancelled"}, "cancelled"),
        ({"state": "done", "finished": 24.0}, "done, 4 GiB in 14 s"),
        ({"state": "done", "kind": "verify", "size": None}, "verified"),
    ],
)
def test_states(changes: dict[str, object], text: str) -> None:
    """Each state in its own words."""
    one = evolve(RUNNING, **changes)  # type: ignore[arg-type]
    assert job_line(one, 79, unicode=True) == f"3f2a9c1e  {text}"


@given(
    some.lists(some.sampled_from(["queued", "running", "done", "failed"]), max_size=12), some.integers(1, 6)
)
def test_more_jobs_than_lines(states: list[str], lines: int) -> None:
    """None is lost; what runs is seen, in its order; there is a line left to count the others in."""
    jobs = [evolve(RUNNING, id=number, state=state) for number, state in enumerate(states)]
    shown, others = visible(jobs, lines)
    assert sorted([*shown, *others], key=lambda one: one.id) == jobs
    assert [one.id for one in shown] == sorted(one.id for one in shown)
    assert len(shown) + bool(others) <= lines
    if any(one.state == "running" for one in others):
        assert all(one.state == "running" for one in shown)


def test_others() -> None:
    """How many of them are how far."""
    jobs = [evolve(RUNNING, state=state) for state in ("done", "queued", "done")]
    assert others_line(jobs) == "and 3 more images: 2 done, 1 queued"

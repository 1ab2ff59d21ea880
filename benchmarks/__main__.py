"""``python -m benchmarks``: measure, and write the table, the pictures and the raw figures."""

import argparse
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from attrs import evolve

from benchmarks import report
from benchmarks.machine import machine, versions
from benchmarks.plots import draw
from benchmarks.result import Result, Row
from benchmarks.rows import SUBJECTS, Subject
from benchmarks.stage import SMALL, STATE, Scale, Stage
from tests.cloud.install import CHECKOUT, Installation
from tests.cloud.processes import Processes

OF_RECORD = CHECKOUT / "docs" / "benchmarks"
_DESCRIPTORS = 8192


def main(arguments: Sequence[str] | None = None) -> int:
    told = _parser().parse_args(arguments)
    if told.list:
        print("\n".join(subject.key for subject in SUBJECTS))
        return 0
    # a part of the whole, or a small one, is nothing to publish
    output = told.output or (STATE / "report" if told.only or told.scale == "small" else OF_RECORD)
    if told.report:
        known = report.load(output)
        if known is None:
            print(f"Nothing was measured yet in {output}", file=sys.stderr)
            return 1
        _render(known, output)
        return 0
    scale = SMALL if told.scale == "small" else Scale()
    if told.rounds:
        scale = evolve(scale, rounds=told.rounds)
    _allow_descriptors()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    subjects = [subject for subject in SUBJECTS if not told.only or subject.key in told.only]
    result = _measure(subjects, scale, told.minutes * 60)
    _render(result, output)
    _say(f"Written to {output}")
    return 1 if any(row.error for row in result.rows) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    keys = [subject.key for subject in SUBJECTS]
    parser.add_argument("--only", action="append", choices=keys, metavar="ROW", help="may be repeated")
    parser.add_argument("--list", action="store_true", help="name the rows and leave")
    parser.add_argument("--rounds", type=int, default=0, help="how many there are of each row")
    parser.add_argument(
        "--scale", choices=("full", "small"), default="full", help="small: seconds, to try it out"
    )
    parser.add_argument("--minutes", type=float, default=60, help="rows not begun by then are left out")
    parser.add_argument("--output", type=Path, help="where to; docs/benchmarks if it is all in full")
    parser.add_argument("--report", action="store_true", help="write the page anew from what was measured")
    return parser


def _measure(subjects: Sequence[Subject], scale: Scale, seconds: float) -> Result:
    began, rows = time.monotonic(), []
    _sweep()
    STATE.mkdir(exist_ok=True)
    where = machine(STATE)
    for subject in subjects:
        if time.monotonic() - began > seconds:
            rows.append(Row(subject.key, subject.key, error="no time was left"))
            continue
        _say(f"{subject.key} ({time.monotonic() - began:.0f} s so far)")
        rows.append(_row(subject, scale))
    cloud = CHECKOUT / ".cloud"
    return Result(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        seconds=time.monotonic() - began,
        machine=where,
        versions=versions(Installation(cloud) if cloud.exists() else None),
        rows=rows,
    )


def _sweep() -> None:
    """Remove what runs have left that were killed."""
    for left in (STATE / "run").glob("*"):
        if not Path("/proc", left.name.rpartition("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)


def _row(subject: Subject, scale: Scale) -> Row:
    began = time.monotonic()
    try:
        with _stage(subject.key, scale) as stage:
            row = subject.run(stage)
    except Exception as error:  # the other rows can be measured all the same
        traceback.print_exc()
        row = Row(subject.key, subject.key, error=f"{type(error).__name__}: {str(error)[:200]}")
    row = evolve(row, seconds=time.monotonic() - began)
    for figure in row.figures:
        verdict = {True: "met", False: "NOT MET", None: ""}[figure.met]
        _say(f"  {report.number(figure.median):>9} {figure.unit:<6} {verdict:<8} {figure.what}")
    return row


@contextmanager
def _stage(key: str, scale: Scale) -> Iterator[Stage]:
    """A stage, and nothing left of it afterwards but its logs."""
    directory, logs = STATE / "run" / f"{key}-{os.getpid()}", STATE / "log" / key
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    directory.mkdir(parents=True)
    stage = Stage(scale, Processes(directory, logs), _say)
    try:
        try:
            yield stage
        finally:
            stage.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _render(result: Result, output: Path) -> None:
    draw(result, output)
    report.write(result, output)


def _allow_descriptors() -> None:
    """Let this process and what it starts have as many as a thousand downloads take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(_DESCRIPTORS, hard), hard))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

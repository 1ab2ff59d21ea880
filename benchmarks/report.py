"""A result as reStructuredText: a table with each figure beside its target, and where it was measured.

What is said about shortfalls is not made here: people write it, in ``shortfalls.rst`` beside the result, and
it is taken over as it is."""

import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure
from benchmarks.result import Result, Row

RESULTS, SUMMARY, SHORTFALLS = "results.json", "summary.rst", "shortfalls.rst"
#: What the pictures show, by file name.
PICTURES = {
    "hits.svg": "Throughput of hits, and CPU for each GiB, by the number of clients",
    "targets.svg": "Each figure and its spread against its target",
    "eviction.svg": "Part of the bytes served from the cache, by its size, for policies of eviction",
}

_WIDTH = 110

_ABOUT = """\
A ratio compares two servers that did the same work in turns, on the same machine and in the same minutes,
round by round; its spread is that of the rounds. CPU is user and system time of the server and its children.
The clients are one process on the same machine, which has the kernel discard what it receives.
"""


def overview(result: Result, folder: Path, *, at: str = "", judged_only: bool = False) -> str:
    """The table, what people say about it, and the pictures, as a part of a page without a title of its own.

    :param folder: where `write` has put it all.
    :param at: where that is, seen from the page; with a slash at the end.
    :param judged_only: leave out the figures that have no target.
    """
    machine = "; ".join(f"{name.lower()}: {value}" for name, value in result.machine.items())
    software = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    lines = [
        f"Measured on {result.date} in {result.seconds / 60:.0f} minutes.",
        *textwrap.wrap(f"Machine: {machine}.", _WIDTH),
        *textwrap.wrap(f"Software: {software}.", _WIDTH),
        "",
        *_ABOUT.splitlines(),
        "",
        _counted(result),
        *_busy(result),
        *_pace(result),
        "",
        *_table(result.rows, judged_only),
    ]
    shortfalls = folder / SHORTFALLS
    if shortfalls.exists() and (said := shortfalls.read_text(encoding="utf-8").strip()):
        lines += ["", said]
    for name, what in PICTURES.items():
        if (folder / name).exists():
            lines += ["", f".. image:: {at}{name}", f"   :alt: {what}"]
    return "\n".join(lines) + "\n"


def page(result: Result, folder: Path) -> str:
    """All of it, with a title."""
    parts = ["Measured\n========\n\n.. Written by `make bench`.", overview(result, folder)]
    parts += [row.text for row in result.rows if row.text]
    parts += ["\n".join(_costs(result)), "\n".join(_paces(result))]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def load(folder: Path) -> Result | None:
    """What was measured last; None if nothing was."""
    path = folder / RESULTS
    return Result.from_json(path.read_text(encoding="utf-8")) if path.exists() else None


def write(result: Result, folder: Path) -> None:
    """Write the raw figures and the page into ``folder``, where the pictures are already."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULTS).write_text(result.to_json(), encoding="utf-8")
    (folder / SUMMARY).write_text(page(result, folder), encoding="utf-8")


def _counted(result: Result) -> str:
    judged = [figure for row in result.rows for figure in row.figures if figure.target]
    met = sum(bool(figure.met) for figure in judged)
    failed = [row.title for row in result.rows if row.error]
    text = f"{met} of {len(judged)} targets are met."
    return text + (f" Not measured: {', '.join(failed)}." if failed else "")


def _of_all(name: str, rows: Iterable[Row]) -> list[float]:
    """What every sample that has it says of this."""
    return [
        sample[name]
        for row in rows
        for samples in row.samples.values()
        for sample in samples
        if name in sample
    ]


def _pace(result: Result) -> list[str]:
    """Whether the machine was the same all the time."""
    paces = _of_all("pace", result.rows)
    if not paces:
        return []
    return [
        f"The same loop of Python, run before each turn, took {min(paces) * 1000:.0f} to "
        f"{max(paces) * 1000:.0f} ms, {median(paces) * 1000:.0f} in the median:",
        "what is in seconds bears that.",
    ]


def _costs(result: Result) -> Iterator[str]:
    """What each server did, and what of the machine it took for that."""
    taken = [
        (row, server, samples)
        for row in result.rows
        for server, samples in row.samples.items()
        if samples and all("cpu_per_gib" in sample for sample in samples)
    ]
    if not taken:
        return
    yield "Throughput, CPU and memory"
    yield "--------------------------"
    yield ""
    yield "Medians. Behind a server's name stands what was asked of it: the number of clients, or the image."
    yield "CPU: seconds of the server and its children for each GiB. Memory: its proportional set size (PSS)"
    yield "at the end of a turn, where it was looked at; what processes share is divided by their number."
    yield ""
    yield from (".. list-table::", "   :header-rows: 1", "")
    yield from _cells("Part", "Server", "GB/s", "CPU, s/GiB", "Memory, MiB")
    for row, server, samples in taken:
        speed, cpu = (median(each[key] for each in samples) for key in ("bytes_per_second", "cpu_per_gib"))
        memory = [each["pss"] / (1 << 20) for each in samples if "pss" in each]
        yield from _cells(
            _escaped(row.title),
            _escaped(server),
            number(speed / 1e9),
            number(cpu),
            number(median(memory)) if memory else "",
        )


def _paces(result: Result) -> Iterator[str]:
    """How fast the machine was while each row was measured, against its best of the whole run."""
    best = min(_of_all("pace", result.rows), default=0.0)
    if not best:
        return
    yield "How fast the machine was"
    yield "------------------------"
    yield ""
    yield "How long a loop of Python took before each turn of a part, against the shortest of the whole run."
    yield ""
    yield from (".. list-table::", "   :header-rows: 1", "")
    yield from _cells("Part", "Median", "Spread")
    for row in result.rows:
        if paces := [pace / best for pace in _of_all("pace", [row])]:
            spread = f"{number(min(paces))} to {number(max(paces))}"
            yield from _cells(_escaped(row.title), number(median(paces)), spread)


def _busy(result: Result) -> list[str]:
    """Whether the load could have been what was slow."""
    parts = _of_all("client_busy", result.rows)
    if not parts:
        return []
    return [
        f"The clients' process was on a processor for {median(parts):.0%} of a turn's time in the median,",
        f"and for {max(parts):.0%} at most.",
    ]


def _table(rows: tuple[Row, ...], judged_only: bool) -> Iterator[str]:
    yield from (".. list-table::", "   :header-rows: 1", "   :widths: 58 12 16 8 6", "")
    yield from _cells("What", "Median", "Spread", "Target", "Met")
    for row in rows:
        if row.error:
            yield from _cells(row.title, "", "", "", f"not measured: {_escaped(row.error)}")
        for figure in row.figures:
            if figure.target or not judged_only:
                yield from _cells(*_texts(figure))


def _texts(figure: Figure) -> Iterator[str]:
    yield _escaped(figure.what) + (f" ({_escaped(figure.note)})" if figure.note else "")
    unit = "" if figure.unit == "x" else f" {figure.unit}"
    yield f"{number(figure.median)}{unit}"
    yield f"{number(figure.low)} to {number(figure.high)}"
    yield f"{figure.target.bound.value} {figure.target.limit:g}{unit}" if figure.target else ""
    yield {True: "yes", False: "**no**", None: ""}[figure.met]


def number(value: float) -> str:
    """Three digits that count, and never an exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _cells(first: str, *others: str) -> Iterator[str]:
    yield f"   * - {first}".rstrip()
    for text in others:
        yield f"     - {text}".rstrip()


def _escaped(text: str) -> str:
    return (
        " ".join(text.split())
        .replace("\\", "\\\\")
        .replace("*", "\\*")
        .replace("`", "\\`")
        .replace("|", "\\|")
    )

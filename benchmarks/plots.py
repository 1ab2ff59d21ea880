"""Pictures of a result, as small SVG files that are the same for the same figures."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from benchmarks.figures import Bound, Figure, Samples
from benchmarks.policies import FORESIGHT, OWN
from benchmarks.report import PICTURES
from benchmarks.result import Result, Row
from benchmarks.rows import eviction, hits

_COLORS = ("#0b6e8a", "#e07b39", "#b8b8b8", "#6b6b6b", "#7d5ba6", "#3f8f4f", "#c94f4f")
_WORST, _BEST = 0.05, 20.0  # what is beyond is drawn at the edge
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text, so files stay small
    "svg.hashsalt": "txglancecache",
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(result: Result, folder: Path) -> None:
    """Draw what the result has figures for, and remove what was drawn before."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {row.key: row for row in result.rows if not row.error}
    judged = [figure for row in rows.values() for figure in row.figures if figure.target]
    for name in PICTURES:
        (folder / name).unlink(missing_ok=True)
    with matplotlib.rc_context(_STYLE):
        if hits.KEY in rows:
            _save(_hits(rows[hits.KEY]), folder / "hits.svg")
        if judged:
            _save(_targets(judged), folder / "targets.svg")
        if eviction.KEY in rows:
            _save(_curves(rows[eviction.KEY]), folder / "eviction.svg")


def _save(drawing: Drawing, path: Path) -> None:
    # without the date, which would make each a different file; and on white, whatever the page is on
    drawing.savefig(path, format="svg", bbox_inches="tight", facecolor="white", metadata={"Date": None})


def _hits(row: Row) -> Drawing:
    drawing = Drawing(figsize=(7.5, 3))
    left, right = drawing.subplots(1, 2)
    samples = Samples(dict(row.samples))
    names = list(dict.fromkeys(name.rpartition("; ")[0] for name in samples.by_server))
    counts = list(dict.fromkeys(name.rpartition("; ")[2] for name in samples.by_server))
    _bars(left, samples, names, counts, "bytes_per_second", 1e9)
    left.set_ylabel("GB/s")
    _bars(right, samples, names, counts, "cpu_per_gib", 1.0)
    right.set_ylabel("CPU seconds for each GiB")
    drawing.legend(*left.get_legend_handles_labels(), loc="upper center", ncols=3, frameon=False)
    drawing.subplots_adjust(top=0.8, wspace=0.25)
    return drawing


def _bars(axes: Axes, samples: Samples, names: list[str], counts: list[str], value: str, unit: float) -> None:
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        places = [group + (number - (len(names) - 1) / 2) * width for group in range(len(counts))]
        all_values = [samples.values(f"{name}; {count}", value) for count in counts]
        middles = [samples.median(f"{name}; {count}", value) / unit for count in counts]
        below = [middle - min(values) / unit for middle, values in zip(middles, all_values, strict=True)]
        above = [max(values) / unit - middle for middle, values in zip(middles, all_values, strict=True)]
        axes.bar(
            places,
            middles,
            width * 0.9,
            yerr=[below, above],
            label=name,
            color=_COLORS[number % len(_COLORS)],
            error_kw={"linewidth": 0.7},
        )
    axes.set_xticks(range(len(counts)), counts)
    axes.set_xlabel("clients")


def _targets(figures: list[Figure]) -> Drawing:
    """Where 1 is the target and further right is better."""
    drawing = Drawing(figsize=(4.5, 0.4 + 0.17 * len(figures)))
    axes = drawing.subplots()
    for place, figure in enumerate(reversed(figures)):
        low, middle, high = (_scored(figure, value) for value in (figure.low, figure.median, figure.high))
        color = _COLORS[0] if figure.met else _COLORS[6]
        axes.plot([low, high], [place, place], color=color, linewidth=1.5, alpha=0.5)
        axes.plot([middle], [place], marker="o", markersize=4, color=color)
    axes.axvline(1.0, color="#6b6b6b", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set_yticks(range(len(figures)), [figure.what for figure in reversed(figures)])
    axes.tick_params(axis="y", labelsize=6)
    axes.set_xlabel("times as good as the target")
    return drawing


def _scored(figure: Figure, value: float) -> float:
    """How many times as good as its target a value is."""
    assert figure.target is not None
    limit = figure.target.limit
    if figure.target.bound is Bound.AT_LEAST:
        value, limit = limit, value
    return min(max(limit / value, _WORST), _BEST) if value > 0 else _BEST


def _curves(row: Row) -> Drawing:
    drawing = Drawing(figsize=(7.5, 2.2))
    panels = drawing.subplots(1, len(row.curves), sharey=True, squeeze=False)[0]
    for axes, (kind, curves) in zip(panels, row.curves.items(), strict=True):
        for number, (policy, points) in enumerate(curves.items()):
            axes.plot(
                [point[0] for point in points],
                [point[1] for point in points],
                label=policy,
                color=_COLORS[number % len(_COLORS)],
                linewidth=2 if policy == OWN else 1,
                linestyle=":" if policy == FORESIGHT else "-",
            )
        axes.set_title(kind, fontsize=8)
        axes.set_xlabel("cache, %")
    panels[0].set_ylabel("part of the bytes")
    drawing.legend(*panels[0].get_legend_handles_labels(), loc="upper center", ncols=6, frameon=False)
    drawing.subplots_adjust(top=0.75, wspace=0.1)
    return drawing

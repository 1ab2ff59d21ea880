"""Jobs as bars that move: what one line says, which lines there is room for, and drawing them again."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field

from txglancecache.cli.screen import Screen
from txglancecache.cli.values import Job
from txglancecache.cli.wording import bar, clean, clock, count, duration, percent, rate
from txglancecache.sizes import format_size

COLOURS = {"running": "cyan", "done": "green", "failed": "red", "cancelled": "yellow", "queued": "dim"}
_SHORT = 8  # characters of an id where there is no room for all of it
_ROOMY = 110
_MOST_BAR = 40
_LEAST_BAR = 8


def job_line(job: Job, width: int, *, unicode: bool) -> str:
    """One job, in at most so many characters."""
    label = job.image_id if width >= _ROOMY else job.image_id[:_SHORT]
    match job.state:
        case "running":
            text = f"{label}  {_running(job, width - len(label) - 2, unicode=unicode)}"
        case "done":
            text = f"{label}  {_finished(job)}"
        case "failed":
            text = f"{label}  failed: {job.error or 'for no known reason'}"
        case "queued" if job.error:
            text = f"{label}  queued again after: {job.error}"
        case state:
            text = f"{label}  {state}"
    return clean(text)[:width]


def _running(job: Job, width: int, *, unicode: bool) -> str:
    if job.size is None:
        return f"running  {format_size(job.done)}" if job.done else "running"
    figures = [
        f"{percent(job.done, job.size):>5}",
        f"{format_size(job.done):>10} of {format_size(job.size)}",
        f"{rate(job.rate):>12}",
        f"{clock(job.eta) if job.eta is not None else '':>7}",
    ]
    # Where there is no room, the bar matters more than the last of the figures.
    while len(figures) > 1 and sum(map(len, figures)) + 2 * len(figures) + _LEAST_BAR > width:
        figures.pop()
    length = min(width - sum(map(len, figures)) - 2 * len(figures), _MOST_BAR)
    return "  ".join([*([bar(job.fraction, length, unicode=unicode)] if length > 0 else []), *figures])


def _finished(job: Job) -> str:
    text = "verified" if job.kind == "verify" else "done"
    if job.size is not None:
        text += f", {format_size(job.size)}"
    if job.started is not None and job.finished is not None:
        text += f" in {duration(job.finished - job.started)}"
    return text


def visible(jobs: Sequence[Job], lines: int) -> tuple[Sequence[Job], Sequence[Job]]:
    """The jobs there is room for, in their order, and the others: what runs comes first, then what went
    wrong."""
    if len(jobs) <= lines:
        return jobs, ()
    urgency = {"running": 0, "failed": 1, "queued": 2}
    order = sorted(range(len(jobs)), key=lambda index: urgency.get(jobs[index].state, 3))
    chosen = set(order[: max(lines - 1, 0)])
    return (
        [job for index, job in enumerate(jobs) if index in chosen],
        [job for index, job in enumerate(jobs) if index not in chosen],
    )


def others_line(others: Sequence[Job]) -> str:
    """The jobs that there is no room for."""
    states = {state: sum(job.state == state for job in others) for state in COLOURS}
    told = ", ".join(f"{number} {state}" for state, number in states.items() if number)
    return f"and {count(len(others), 'more image')}: {told}"


@define(eq=False)
class Board:
    """One line for each job, on a terminal; without one, a line whenever a job's state is another."""

    _screen: Screen
    _drawn: int = 0
    _states: dict[int, str] = field(factory=dict)

    def show(self, jobs: Sequence[Job]) -> None:
        if self._screen.shows_progress:
            self._draw(jobs)
        else:
            self._tell(jobs)

    def _draw(self, jobs: Sequence[Job]) -> None:
        screen = self._screen
        columns, height = screen.progress_size
        shown, others = visible(jobs, height - 1)
        # One column less: a cursor behind the last one would be on the next line already.
        lines = [
            screen.paint_progress(
                job_line(job, columns - 1, unicode=screen.progress_unicode), COLOURS.get(job.state, "dim")
            )
            for job in shown
        ]
        if others:
            lines.append(others_line(others)[: columns - 1])
        back = f"\x1b[{self._drawn}F" if self._drawn else ""
        screen.progress(back + "".join(f"\x1b[2K{line}\n" for line in lines) + "\x1b[J")
        self._drawn = len(lines)

    def _tell(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if self._states.get(job.id) != job.state:
                self._states[job.id] = job.state
                text = f"{job.image_id}: {job.state}" if job.state == "running" else _told(job)
                self._screen.remark(text)


def _told(job: Job) -> str:
    return job_line(job, _ROOMY + len(job.error or ""), unicode=False).replace("  ", ": ", 1)

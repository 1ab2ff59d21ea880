"""Jobs: fetching images ahead of their first use, verifying them again, and the queue of both."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from typing import Any

from txglancecache.cli.command import Command, Context, Tally
from txglancecache.cli.commands import options
from txglancecache.cli.commands.images import path
from txglancecache.cli.listing import pages
from txglancecache.cli.naming import begins, cached, named, wanted
from txglancecache.cli.outcome import (
    CommandError,
    Exit,
    NotAllowed,
    NotFound,
    Unavailable,
    Unreachable,
    UsageError,
)
from txglancecache.cli.progress import COLOURS, Board
from txglancecache.cli.tables import Column
from txglancecache.cli.values import Job
from txglancecache.cli.waiting import wait_for, what_became_of
from txglancecache.cli.wording import NONE, ago, count, duration, percent, rate
from txglancecache.sizes import format_size

_MOST = 500  # images in one request


def _progress(job: Job) -> str:
    if job.size is None:
        return format_size(job.done) if job.done else NONE
    return f"{percent(job.size if job.state == 'done' else job.done, job.size)} of {format_size(job.size)}"


def _remark(job: Job, now: float) -> str:
    if job.state == "queued" and job.next_try is not None and job.next_try > now:
        return f"again in {duration(job.next_try - now)}: {job.error or 'failed'}"
    if job.is_finished and job.finished is not None:
        when = ago(job.finished, now)
        return f"{when}: {job.error}" if job.error else when
    return job.error or ""


def _columns(now: float) -> list[Column[Job]]:
    return [
        Column("JOB", lambda job: str(job.id), right=True),
        Column("KIND", lambda job: job.kind, spare=2),
        Column("IMAGE", lambda job: job.image_id),
        Column("STATE", lambda job: job.state, colour=lambda job: COLOURS.get(job.state)),
        Column("PROGRESS", _progress, right=True),
        Column("RATE", lambda job: rate(job.rate) if job.state == "running" else NONE, right=True, spare=3),
        Column("LEFT", lambda job: NONE if job.eta is None else duration(job.eta), right=True, spare=1),
        Column("PRIORITY", lambda job: str(job.priority), right=True, spare=4),
        Column("REMARK", lambda job: _remark(job, now)),
    ]


def _follow(context: Context, values: Sequence[Mapping[str, Any]], tally: Tally) -> Exit:
    """Tell of the jobs that the node has accepted, and wait for them if so asked."""
    screen, time = context.screen, context.time
    if not context.arguments.wait:
        if screen.as_json:
            screen.document({"jobs": values, "failed": tally.failures()})
        elif values:
            screen.table(_columns(time.now()), [Job.of(value) for value in values])
        return tally.exit
    try:
        values = wait_for(context.node, values, Board(screen).show, time)
    except KeyboardInterrupt:
        screen.remark("the node goes on; see: txglancecache queue")
        raise
    jobs = [Job.of(value) for value in values]
    if screen.as_json:
        screen.document({"jobs": values, "failed": tally.failures()})
    elif jobs and not screen.shows_progress:
        screen.table(_columns(time.now()), jobs)
    return Exit.FAILED if any(job.state != "done" for job in jobs) else tally.exit


def _prefetch(context: Context) -> Exit:
    context.node.act_for_caller()
    tally = Tally(context.screen)
    names = named(context, tally, wanted, context.arguments.ids)
    return _follow(context, _submitted(context, names, tally), tally)


def _submitted(context: Context, names: Sequence[str], tally: Tally) -> list[dict[str, Any]]:
    """The jobs for these images. The node takes all of a request or none, so they are asked for one by one
    where it does not take all."""
    if len(names) > _MOST:
        return [
            job
            for first in range(0, len(names), _MOST)
            for job in _submitted(context, names[first : first + _MOST], tally)
        ]
    if not names:
        return []
    body = {"images": list(names), "priority": context.arguments.priority}
    try:
        jobs: list[dict[str, Any]] = context.node.call("POST", "/cache/prefetch", body)["jobs"]
    except CommandError as error:
        if isinstance(error, (Unreachable, Unavailable)):
            raise
        if len(names) > 1:
            return [job for name in names for job in _submitted(context, [name], tally)]
        tally.went_wrong(names[0], error)
        return []
    return jobs


def _configure_prefetch(parser: ArgumentParser) -> None:
    options.ids(parser)
    parser.add_argument(
        "--priority", type=int, default=0, metavar="N", help="jobs with a higher one go first [0]"
    )
    options.wait(parser)


def _verify(context: Context) -> Exit:
    tally = Tally(context.screen)
    values: list[Mapping[str, Any]] = []
    if context.arguments.all:
        if context.arguments.ids:
            raise UsageError("--all and ids exclude each other")
        values = _all_of(context, context.node.call("POST", "/cache/verify"))
    elif not context.arguments.ids:
        raise UsageError("which images? Give their ids, or --all")
    for name in named(context, tally, cached, context.arguments.ids):
        try:
            values.append(context.node.call("POST", f"{path(name)}/verify"))
        except (Unreachable, Unavailable, NotAllowed):
            raise
        except CommandError as error:
            tally.went_wrong(name, error)
    return _follow(context, values, tally)


def _all_of(context: Context, queued: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All the jobs, of which the node tells no more than the numbers when there are very many."""
    known = {job["id"]: job for job in queued["jobs"]}
    rest = [number for number in queued["ids"] if number not in known]
    return [*known.values(), *what_became_of(context.node, rest, known)]


def _configure_verify(parser: ArgumentParser) -> None:
    options.ids_or_all(parser, "every complete image")
    options.wait(parser)


def _queue(context: Context) -> Exit:
    arguments, screen = context.arguments, context.screen
    state, kind = getattr(arguments, "state", None), getattr(arguments, "kind", None)
    values = list(pages(context.node, "jobs", state=state, kind=kind))
    if screen.as_json:
        screen.document({"jobs": values})
    elif values:
        screen.table(_columns(context.time.now()), [Job.of(value) for value in values])
    elif screen.is_terminal:
        screen.remark("the queue is empty")
    return Exit.OK


def _configure_queue_list(parser: ArgumentParser) -> None:
    states = ("queued", "running", "done", "failed", "cancelled")
    parser.add_argument("--state", choices=states, help="only these")
    parser.add_argument("--kind", choices=("prefetch", "verify"), help="only these")


def _cancel(context: Context) -> Exit:
    arguments, screen = context.arguments, context.screen
    if arguments.all == bool(arguments.jobs):
        raise UsageError("which jobs? Give their numbers, their images' ids, or --all")
    if arguments.all:
        cancelled = context.node.call("DELETE", "/cache/jobs")
        if screen.as_json:
            screen.document(cancelled)
        else:
            screen.line(f"cancelled {count(cancelled['cancelled'], 'job')}")
        return Exit.OK
    tally = Tally(screen)
    tally.each(
        _numbers(context, tally), lambda job: context.node.call("DELETE", f"/cache/jobs/{job}"), "cancelled"
    )
    if screen.as_json:
        screen.document({"cancelled": tally.done, "failed": tally.failures()})
    return tally.exit


def _numbers(context: Context, tally: Tally) -> list[str]:
    """The jobs that are meant: by their numbers, or as all that an image waits for."""
    words = [word for given in context.arguments.jobs for word in _spelled(context, given)]
    if all(word.isdecimal() for word in words):
        return list(dict.fromkeys(words))
    jobs = [Job.of(value) for value in pages(context.node, "jobs")]
    waiting = [job for job in jobs if not job.is_finished]
    numbers: dict[str, None] = {}
    for word in words:
        if word.isdecimal():
            numbers[word] = None
            continue
        try:
            image_id = begins(word, (job.image_id for job in waiting))
        except UsageError as error:
            tally.went_wrong(word, error)
            continue
        if image_id is None:
            tally.went_wrong(word, NotFound("no job for such an image"))
        numbers |= {str(job.id): None for job in waiting if job.image_id == image_id}
    return list(numbers)


def _spelled(context: Context, word: str) -> list[str]:
    return context.screen.words() if word == "-" else [word]


def _configure_cancel(parser: ArgumentParser) -> None:
    parser.add_argument("jobs", nargs="*", metavar="JOB", help="a job's number, or its image's id")
    parser.add_argument("--all", action="store_true", help="all that have not begun")


COMMANDS = (
    Command(
        "prefetch",
        "fetch images before anybody asks for them",
        _prefetch,
        "Queues images, for the node to fetch in the background. The queue survives a restart of the node; "
        "an image that is complete is not fetched again. They are fetched with your token, if OS_* or "
        "--os-cloud say who you are; without one, and once it has expired, with the node's own credentials, "
        "if it has any.",
        (
            "prefetch 3f2a9c1e-5b1c-4e7f-9a51-0c8d6f3b2a10 --wait",
            "prefetch --priority 10 $(openstack image list --tag golden -f value -c ID)",
            "--os-cloud mycloud prefetch 3f2a9c1e-5b1c-4e7f-9a51-0c8d6f3b2a10",
        ),
        _configure_prefetch,
    ),
    Command(
        "verify",
        "compare what is on disk with the images' digests",
        _verify,
        "Reads complete images again and compares them with their digests. One that is not what it should be "
        "is moved to quarantine and fetched anew at its next use; with --wait the exit status tells.",
        ("verify 3f2a --wait", "verify --all"),
        _configure_verify,
    ),
    Command(
        "queue",
        "jobs: list them, cancel them",
        _queue,
        "The jobs that wait, that run and that have ended. Without more it lists them.",
        ("queue", "queue list --state failed", "queue cancel 17 18", "queue cancel --all"),
        children=(
            Command("list", "the jobs", _queue, configure=_configure_queue_list, examples=("queue list",)),
            Command(
                "cancel",
                "take jobs from the queue",
                _cancel,
                "Cancels jobs. What was fetched stays.",
                ("queue cancel 17 18", "queue cancel 3f2a", "queue cancel --all"),
                _configure_cancel,
            ),
        ),
    ),
)

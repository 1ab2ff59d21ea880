"""Waiting for jobs to finish."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

from txglancecache.cli.client import NodeClient
from txglancecache.cli.listing import pages
from txglancecache.cli.outcome import NotFound, Unavailable, Unreachable
from txglancecache.cli.values import Job

_INTERVAL = 0.25
_PER_JOB = 0.001
#: Seconds between two looks at most: far fewer than a node remembers jobs that are over.
_LONGEST = 15.0
_PATIENCE = 60.0  # seconds in which a node that is restarted has to be back
#: More jobs than these are looked for in the list of all; what it does not have is asked for by number.
_FEW = 20


@frozen
class Time:
    """A clock and a way to let it go on."""

    now: Callable[[], float]
    sleep: Callable[[float], None]


def wait_for(
    node: NodeClient, values: Iterable[Mapping[str, Any]], show: Callable[[Sequence[Job]], None], time: Time
) -> list[Mapping[str, Any]]:
    """What the node last said of these jobs, all of them finished. The queue outlives the node's process, so
    a node that goes away is given time to come back.

    :raises Unreachable: when it does not.
    """
    latest = {value["id"]: value for value in values}
    heard = time.now()
    while True:
        jobs = [Job.of(value) for value in latest.values()]
        show(jobs)
        waiting = [job.id for job in jobs if not job.is_finished]
        if not waiting:
            return list(latest.values())
        time.sleep(min(_INTERVAL + _PER_JOB * len(waiting), _LONGEST))
        try:
            for value in what_became_of(node, waiting, latest):
                latest[value["id"]] = value
        except (Unreachable, Unavailable):
            if time.now() - heard > _PATIENCE:
                raise
        else:
            heard = time.now()


def what_became_of(
    node: NodeClient, numbers: Sequence[int], known: Mapping[int, Mapping[str, Any]]
) -> Iterable[Mapping[str, Any]]:
    """These jobs as they are now, one by one; what is ``known`` says what a job was that the node has
    forgotten."""
    left = dict.fromkeys(numbers)
    if len(left) > _FEW:
        for value in pages(node, "jobs", marker=max(min(left) - 1, 0)):
            if value["id"] in left:
                del left[value["id"]]
                yield value
    for number in left:
        try:
            yield node.get(f"/cache/jobs/{number}")
        except NotFound:
            unknown = {"id": number, "kind": "", "image_id": ""}
            error = "the node does not know of this job any more"
            yield {**unknown, **known.get(number, {}), "state": "failed", "error": error}

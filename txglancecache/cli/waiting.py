"""Waiting for jobs to finish."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import evolve, frozen

from txglancecache.cli.client import NodeClient
from txglancecache.cli.outcome import NotFound, Unavailable, Unreachable
from txglancecache.cli.values import Job

_INTERVAL = 0.25
_PER_JOB = 0.01
_PATIENCE = 60.0  # seconds in which a node that is restarted has to be back


@frozen
class Time:
    """A clock and a way to let it go on."""

    now: Callable[[], float]
    sleep: Callable[[float], None]


def wait_for(
    node: NodeClient, jobs: Sequence[Job], show: Callable[[Sequence[Job]], None], time: Time
) -> list[Job]:
    """These jobs, all of them finished. The queue outlives the node's process, so a node that goes away is
    given time to come back.

    :raises Unreachable: when it does not.
    """
    latest = list(jobs)
    heard = time.now()
    show(latest)
    while not all(job.is_finished for job in latest):
        time.sleep(_INTERVAL + _PER_JOB * sum(not job.is_finished for job in latest))
        try:
            latest = [job if job.is_finished else _refreshed(node, job) for job in latest]
        except (Unreachable, Unavailable):
            if time.now() - heard > _PATIENCE:
                raise
            continue
        heard = time.now()
        show(latest)
    return latest


def _refreshed(node: NodeClient, job: Job) -> Job:
    try:
        return Job.of(node.get(f"/cache/jobs/{job.id}"))
    except NotFound:
        return evolve(job, state="failed", error="the node does not know of this job any more")

"""The rows, in the order in which they run: what needs no cloud first, so that nothing else is awake."""

from collections.abc import Callable

from attrs import frozen

from benchmarks.result import Row
from benchmarks.rows import (
    checked,
    cold,
    crowd,
    eviction,
    fairness,
    glance_cache,
    hits,
    miss,
    miss_from_glance,
    requests,
    startup,
    storm,
)
from benchmarks.stage import Stage


@frozen
class Subject:
    """A row to be made: ``run`` is given a stage of its own."""

    key: str
    run: Callable[[Stage], Row]


SUBJECTS = (
    Subject(hits.KEY, hits.run),
    Subject(requests.KEY, requests.run),
    Subject(crowd.KEY, crowd.run),
    Subject(fairness.KEY, fairness.run),
    Subject(cold.KEY, cold.run),
    Subject(miss.KEY, miss.run),
    Subject(storm.KEY, storm.run),
    Subject(startup.KEY, startup.run),
    Subject(glance_cache.KEY, glance_cache.run),
    Subject(checked.KEY, checked.run),
    Subject(miss_from_glance.KEY, miss_from_glance.run),
    Subject(eviction.KEY, eviction.run),
)

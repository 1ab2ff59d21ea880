"""Threads, by what they are for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, cast

from twisted.internet.interfaces import IReactorFromThreads

from txglancecache.service.threads import Pools


class Reactor:
    """Runs in the test's thread what threads ask it to run."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[Callable[[], Any]] = SimpleQueue()

    def callFromThread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.calls.put(lambda: function(*args, **kwargs))

    def run_one(self) -> None:
        self.calls.get(timeout=10)()


def test_no_thread_before_the_start() -> None:
    """Nothing runs in a process that is yet to fork; what was asked for runs then."""
    reactor = Reactor()
    before = threading.active_count()
    pools = Pools(cast(IReactorFromThreads, reactor))
    results: list[str] = []
    pools.disk(threading.current_thread).addCallback(lambda thread: results.append(thread.name))
    assert threading.active_count() == before
    pools.start()
    reactor.run_one()
    assert "disk" in results[0]
    pools.stop()
    assert threading.active_count() == before


def test_one_kind_of_work_does_not_wait_for_another() -> None:
    """Work of one kind goes on while another kind's threads are all busy."""
    reactor = Reactor()
    pools = Pools(cast(IReactorFromThreads, reactor))
    pools.start()
    release = threading.Event()
    results: list[str] = []
    held = pools.index(release.wait)
    queued = pools.index(lambda: "index").addCallback(results.append)
    pools.fill(lambda: "fill").addCallback(results.append)
    reactor.run_one()
    assert results == ["fill"]
    assert not queued.called
    release.set()
    reactor.run_one()
    reactor.run_one()
    assert held.called
    assert results == ["fill", "index"]
    pools.stop()

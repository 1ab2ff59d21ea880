"""Threads, by what they are for."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, cast

import pytest
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
    before = set(threading.enumerate())
    pools = Pools(cast(IReactorFromThreads, reactor))
    results: list[str] = []
    pools.disk(threading.current_thread).addCallback(lambda thread: results.append(thread.name))
    assert set(threading.enumerate()) <= before
    pools.start()
    reactor.run_one()
    assert "disk" in results[0]
    pools.stop()
    assert set(threading.enumerate()) <= before


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


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, where threads differ in niceness")
def test_who_keeps_nobody_waiting_comes_last() -> None:
    """Hashing that no client waits for leaves the processor to all the others, and to them alone."""
    reactor = Reactor()
    pools = Pools(cast(IReactorFromThreads, reactor))
    pools.start()
    found: dict[str, int] = {}
    for name in ("disk", "fill", "hash", "audit", "index", "account"):
        asked = getattr(pools, name)(os.getpriority, os.PRIO_PROCESS, 0)
        asked.addCallback(lambda niceness, name=name: found.update({name: niceness}))
        reactor.run_one()
    pools.stop()
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert found.pop("audit") == min(ours + 10, 19)
    assert set(found.values()) == {ours}
    assert len(found) == 5

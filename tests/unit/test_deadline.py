"""One thing to be done when the time is up."""

from __future__ import annotations

from twisted.internet.task import Clock

from txglancecache.deadline import Deadline


def test_deadline() -> None:
    """It is done once, at its time, however often that was moved, and not at all if it was cleared."""
    clock, done = Clock(), []
    deadline = Deadline(clock)
    deadline.set(10, lambda: done.append("late"))
    deadline.set(2, lambda: done.append("soon"))
    clock.advance(2)
    assert done == ["soon"]
    clock.advance(20)
    assert done == ["soon"]
    deadline.set(10, lambda: done.append("first"))
    clock.advance(9)
    deadline.set(10, lambda: done.append("moved"))
    clock.advance(9)
    assert done == ["soon"]
    clock.advance(1)
    assert done == ["soon", "moved"]
    deadline.set(1, lambda: done.append("never"))
    deadline.clear()
    clock.advance(5)
    assert done == ["soon", "moved"]
    assert clock.calls == []


def test_the_process_stood_still() -> None:
    """What would have moved the deadline had arrived while this process was stopped: it is heard first."""
    clock, done = Clock(), []
    deadline = Deadline(clock)
    deadline.set(10, lambda: done.append("too soon"))
    clock.rightNow += 1000
    clock.callLater(0, deadline.set, 10, lambda: done.append("in time"))
    clock.advance(0)
    assert done == []
    clock.advance(10)
    assert done == ["in time"]


def test_end() -> None:
    """Nothing is left behind."""
    clock, done = Clock(), []
    deadline = Deadline(clock)
    deadline.set(1, lambda: done.append(1))
    deadline.end()
    deadline.end()
    assert clock.calls == []
    clock.advance(5)
    assert done == []

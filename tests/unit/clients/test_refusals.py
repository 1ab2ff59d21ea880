"""What is told of refusals, and how often."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from tests.unit.clients.site import Told
from txglancecache.clients.refusals import Refusal, Refusals


def test_a_flood() -> None:
    """Is two lines in ten seconds for each reason, and all of it is counted."""
    clock, told = Clock(), Told()
    refusals = Refusals("data", clock, told)
    with capturedLogs() as events:
        for _ in range(100):
            refusals.note(Refusal.MALFORMED, "192.0.2.1")
            refusals.note(Refusal.SLOW_HEAD, "")
            clock.advance(0.15)
        assert len(events) == 2 + 2
        clock.advance(100)
    assert len(events) == 2 + 4
    assert sum(event.get("count", 1) for event in events) == 200
    assert len(told.reasons) == 200
    clock.advance(10)
    assert clock.calls == []
    refusals.note(Refusal.MALFORMED, "192.0.2.1")
    assert told.reasons[-1] == "malformed"


def test_answers() -> None:
    """Each is a whole one, and the last."""
    for refusal in Refusal:
        head, _, body = refusal.answer(b"X: y\r\n").partition(b"\r\n\r\n")
        assert body == b""
        assert b"\r\nX: y\r\n" in head
        assert head.endswith(b"Content-Length: 0\r\nConnection: close")

"""Checks of whether the node can do its work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from tests.unit.management.native.world import STATUS, result
from txglancecache.errors import OriginUnreachable
from txglancecache.management.native.health import (
    Check,
    Doctor,
    NotReady,
    Readiness,
    disk_check,
    origin_check,
    room_check,
)
from txglancecache.origin.client import Head, OriginURL


@define(eq=False)
class Slow:
    """A check that comes to an end when the test says so."""

    made: int = 0
    waiting: list[Deferred[str]] = field(factory=list)

    async def __call__(self) -> str:
        self.made += 1
        waiting: Deferred[str] = Deferred()
        self.waiting.append(waiting)
        return await waiting


@define(eq=False)
class Answering:
    """A client of an origin that answers in one way."""

    status: int | Exception
    origin: OriginURL = field(factory=lambda: OriginURL.parse("http://glance:9292"))
    head: Head | None = None

    async def request(self, method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Any:
        assert (method, target) == (b"GET", b"/versions")
        assert (b"Host", b"glance:9292") in headers
        if isinstance(self.status, Exception):
            raise self.status
        self.head = Head(self.status, b"", ())
        return self

    async def collect(self, limit: int) -> bytes:
        return b"{}"


def readiness(doctor: Doctor) -> Deferred[Readiness]:
    return Deferred.fromCoroutine(doctor.readiness())


def outcome(check: Check) -> Any:
    """What a check says, or the error that it raises."""
    found = result(Deferred.fromCoroutine(say(check)))
    return getattr(found, "value", found)


async def say(check: Check) -> str:
    return await check()


def test_shared() -> None:
    """Many who ask at once cost one check, and one who leaves takes nothing from the others."""
    slow = Slow()
    doctor = Doctor({"slow": slow}, Clock())
    first, second = readiness(doctor), readiness(doctor)
    first.addErrback(lambda failure: None)
    first.cancel()
    slow.waiting[0].callback("well")
    assert result(second).ready
    assert slow.made == 1


def test_kept() -> None:
    """What was found is kept for a few seconds."""
    clock, slow = Clock(), Slow()
    doctor = Doctor({"slow": slow}, clock)
    for _ in range(2):
        found = readiness(doctor)
        slow.waiting[0].called or slow.waiting[0].callback("well")
        assert result(found).ready
    assert slow.made == 1
    clock.advance(3)
    readiness(doctor)
    assert slow.made == 2


def test_patience() -> None:
    """A check that takes too long is not passed; how long it took is told."""
    clock = Clock()
    found = readiness(Doctor({"slow": Slow()}, clock))
    clock.advance(5)
    finding = result(found).findings["slow"]
    assert (finding.ok, finding.detail, finding.seconds) == (False, "no answer within 5 s", 5)


def test_failures() -> None:
    """One check that is not passed makes the node not ready; what is wrong is told, but not of a bug."""

    async def broken() -> str:
        raise ZeroDivisionError("secret")

    async def full() -> str:
        raise OSError(28, "No space left on device")

    async def well() -> str:
        return "well"

    with capturedLogs() as events:
        found = result(readiness(Doctor({"a": broken, "b": full, "c": well}, Clock())))
    assert not found.ready
    assert [finding.ok for finding in found.findings.values()] == [False, False, True]
    assert "secret" not in str(found.as_json())
    assert "No space left" in found.findings["b"].detail
    assert [event["log_failure"].type for event in events if "log_failure" in event] == [ZeroDivisionError]


@pytest.mark.parametrize("status", [200, 300, 401, 404])
def test_origin(status: int) -> None:
    """An origin that answers can be asked."""
    client: Any = Answering(status)
    assert outcome(origin_check(client)) == f"the origin answered {status}"


def test_no_origin() -> None:
    """One that does not, or says that it cannot, is down."""
    client: Any = Answering(503)
    assert isinstance(outcome(origin_check(client)), NotReady)
    client = Answering(OriginUnreachable("nobody there"))
    assert isinstance(outcome(origin_check(client)), OriginUnreachable)


def test_disk(tmp_path: Path) -> None:
    """A directory that can be written is fine, and is left as it was; one that is gone is not."""
    in_thread: Any = maybeDeferred
    assert "written" in outcome(disk_check(tmp_path, in_thread))
    assert list(tmp_path.iterdir()) == []
    assert isinstance(outcome(disk_check(tmp_path / "gone", in_thread)), OSError)


@pytest.mark.parametrize(
    ("disk_free", "bytes_on_disk", "enough"), [(5000, 0, True), (5, 600, True), (5, 0, False), (10, 0, False)]
)
def test_room(disk_free: int, bytes_on_disk: int, enough: bool) -> None:
    """There is room if the disk has more than is to stay free, counting what could be evicted."""
    status = evolve(STATUS, disk_free=disk_free, bytes_on_disk=bytes_on_disk)
    assert isinstance(outcome(room_check(lambda: status)), str) is enough

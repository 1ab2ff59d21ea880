"""What downloads tell their observer."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_twisted
from attrs import define, field

from tests.unit.proxy.site import Rig
from tests.unit.scripted import eventually

BODY = os.urandom(2_500_000)


@define(eq=False)
class Noting:
    """An observer that remembers."""

    begun: list[str] = field(factory=list)
    over: list[tuple[str, int, int, bool]] = field(factory=list)

    def began(self, how: str, waited: float) -> None:
        assert 0 <= waited < 60
        self.begun.append(how)

    def ended(self, how: str, seconds: float, from_disk: int, from_origin: int, *, whole: bool) -> None:
        assert 0 <= seconds < 60
        self.over.append((how, from_disk, from_origin, whole))


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "cache", observer=Noting())
    rig.store("one", BODY)
    yield rig
    await rig.stop()


async def seen(rig: Rig, count: int) -> list[tuple[str, int, int, bool]]:
    noting = rig.observer
    assert isinstance(noting, Noting)
    await eventually(lambda: len(noting.over) == count)
    assert [how for how, *_ in noting.over] == noting.begun
    return noting.over


@pytest_twisted.ensureDeferred
async def test_where_bytes_come_from(rig: Rig) -> None:
    """What was there when a request came is from the disk, the rest from the origin."""
    await rig.get("one", Range="bytes=0-1048575")
    first = rig.cache.find("one")
    assert first is not None
    had = first.extents.total
    await rig.get("one", Range="bytes=1000000-2000000")
    await rig.get("one")
    await rig.get("one")
    notes = await seen(rig, 4)
    assert notes[0] == ("miss", 0, 1 << 20, True)
    assert notes[1][1] == had - 1_000_000
    assert notes[1][1] + notes[1][2] == 1_000_001
    assert notes[2][1] + notes[2][2] == len(BODY)
    assert notes[3] == ("hit", len(BODY), 0, True)


@pytest_twisted.ensureDeferred
async def test_what_has_no_body(rig: Rig) -> None:
    """What is answered without a body out of the cache is not a download."""
    await rig.get("one", method="HEAD")
    await rig.get("one", Range="bytes=9999999-")
    await rig.get("one", token="mallory")
    await rig.get("one")
    assert len(await seen(rig, 1)) == 1

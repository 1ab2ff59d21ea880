"""The body file of an entry: opened with the first hold, kept open for a while after the last."""

from __future__ import annotations

import os
from pathlib import Path
from time import sleep
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import threads
from twisted.internet.task import Clock

from tests.unit.scripted import eventually
from txglancecache.cache.body import Body
from txglancecache.cache.shelf import Shelf
from txglancecache.store.directory import Directory


@pytest_twisted.ensureDeferred
async def test_who_comes_while_the_file_is_created_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first hold may be gone before its file is there; the next neither fails nor loses the file."""
    directory = Directory.open(tmp_path)
    create = Directory.create_body

    def slowly(*args: Any) -> int:
        fd = create(*args)
        sleep(0.05)
        return fd

    monkeypatch.setattr(Directory, "create_body", slowly)
    clock = Clock()
    body = Body("abc", 100, b"", False, directory, threads.deferToThread, Shelf(clock))
    before = len(os.listdir("/proc/self/fd"))
    body.retain()
    body.release()
    body.retain()
    assert os.fstat(await body.opened()).st_size == 100
    body.release()
    clock.advance(60)
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)
    directory.close()

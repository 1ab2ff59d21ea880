"""``twistd glancecache --check``, from the command line to the exit status."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cache.world import ORIGIN, Origin, World, drain, result
from txglancecache.cache.audit import Finding, Report
from txglancecache.service.check import report_lines
from txglancecache.service.command import Options

BODY = b"body" * 100_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A node's directory with one whole image in it, still in use."""
    world = World(tmp_path / "cache")
    origin = Origin(BODY)
    with world.read(origin) as reader:
        origin.last.give()
        assert drain(reader) == BODY
    yield world
    result(world.cache.close())


def status(world: World, flag: str = "--check") -> object:
    """What the command ends with."""
    with pytest.raises(SystemExit) as caught:
        Options().parseOptions([f"--origin={ORIGIN}", f"--cache-dir={world.path}", flag])
    return caught.value.code


def test_sound(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """0, and two lines."""
    result(world.cache.close())
    assert status(world) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{world.path}: 1 images, 1 of them whole, 390.6 KiB in 1 files"
    assert second == "nothing wrong, nothing left over"
    assert status(world, "--check-digests") == 0
    assert ", 390.6 KiB hashed" in capsys.readouterr().out


def test_damaged(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """1, and what is damaged."""
    result(world.cache.close())
    with sqlite3.connect(world.directory.index_path) as database:
        database.execute("UPDATE entries SET extents = '0-9'")
    database.close()
    assert status(world) == 1
    assert "1 damaged:\n  image image-1: is said to be whole, and lacks bytes" in capsys.readouterr().out


def test_left_over(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """0, and what the next start is going to tidy up."""
    result(world.cache.close())
    for file in world.directory.bodies():
        world.directory.body_path(file.name).unlink()
    assert status(world) == 0
    assert "1 left over, for the next start to tidy up:\n  image image-1: body" in capsys.readouterr().out


def test_in_use(world: World) -> None:
    """One line while a node is using it."""
    said = f"twistd glancecache: cache directory {world.path} is in use by another process"
    assert status(world) == said


def test_no_directory(tmp_path: Path) -> None:
    """One line where there is none, and nothing is created."""
    with pytest.raises(SystemExit, match="No such file or directory"):
        Options().parseOptions([f"--origin={ORIGIN}", f"--cache-dir={tmp_path / 'none'}", "--check"])
    assert not (tmp_path / "none").exists()


def test_many_findings() -> None:
    """A report stays short."""
    report = Report(0, 0, 0, 0, 0, [Finding(f"image {number}", "wrong", True) for number in range(100)])
    lines = list(report_lines("/cache", report))
    assert len(lines) == 23
    assert lines[-1] == "  and 80 more"

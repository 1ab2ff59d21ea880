"""What is said about a cache directory that nobody uses."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.cache.world import ORIGIN, Origin, World, drain, result
from tests.unit.filetimes import let_pass
from txglancecache.cache.audit import Audit, Report, absent
from txglancecache.cache.cache import CacheSettings
from txglancecache.extents import Extents
from txglancecache.store.directory import Directory

BODY = bytes(range(1, 256)) * 4096
LIMITS = CacheSettings(1 << 30, 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory with image "whole" and the first 512 KiB of image "partial", after an orderly end."""
    world = World(tmp_path / "cache", finish=False)
    origin = Origin(BODY)
    with world.read(origin, image=origin.image("whole")) as reader:
        origin.last.give()
        assert drain(reader) == BODY
    with world.read(origin, 0, 1 << 19, image=origin.image("partial")):
        origin.last.give(1 << 19)
    result(world.cache.close())
    let_pass(body(world.path, "whole"))
    return world.path


def audit(path: Path, *, digests: bool = False, origin: str = ORIGIN) -> Report:
    before = everything(path)
    directory = Directory.open_as_it_is(path)
    try:
        return Audit(directory, origin, LIMITS, digests, lambda done, total: None).run()
    finally:
        directory.close()
        assert everything(path) == before


def everything(path: Path) -> dict[str, tuple[int, int, int]]:
    """What a look must not change: times, modes, lengths."""
    return {
        str(file): (status.st_mtime_ns, status.st_mode, status.st_size)
        for file in path.rglob("*")
        for status in [file.stat()]
    }


def body(path: Path, image: str) -> Path:
    [(name,)] = change(path, "SELECT body FROM entries WHERE image_id = ?", image)
    return path / "bodies" / name[:2] / name


def change(path: Path, statement: str, *values: object) -> list[tuple[str]]:
    database = sqlite3.connect(path / "index.sqlite")
    with database:
        rows = database.execute(statement, values).fetchall()
    database.close()
    return rows


def test_as_it_should_be(path: Path) -> None:
    """Nothing is found where nothing is wrong, and the images are counted."""
    report = audit(path, digests=True)
    assert report.findings == []
    assert (report.images, report.complete, report.files) == (2, 1, 2)
    assert report.bytes_recorded == len(BODY) + (1 << 19)
    assert report.hashed == len(BODY)


def shorten(path: Path) -> None:
    os.truncate(body(path, "partial"), 1000)


def punch(image: str) -> Callable[[Path], None]:
    def make_hole(path: Path) -> None:
        file = body(path, image)
        os.truncate(file, 1 << 18)
        os.truncate(file, len(BODY))

    return make_hole


def flip(path: Path) -> None:
    with body(path, "whole").open("r+b") as file:
        file.seek(1000)
        file.write(b"\0")


def replace(path: Path) -> None:
    file = body(path, "whole")
    found = file.stat()
    copy = file.with_name("copy")
    copy.write_bytes(file.read_bytes())
    copy.chmod(0o600)
    os.setxattr(copy, "user.txglancecache", os.getxattr(file, "user.txglancecache"))
    os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))
    copy.rename(file)


def relabel(path: Path) -> None:
    label = os.getxattr(body(path, "whole"), "user.txglancecache")
    os.setxattr(body(path, "partial"), "user.txglancecache", label)


def swap(path: Path) -> None:
    here, there = body(path, "whole"), body(path, "partial")
    change(path, "DELETE FROM entries WHERE image_id = 'whole'")
    change(path, "UPDATE entries SET body = ?", here.name)
    there.unlink()


def permit(path: Path) -> None:
    body(path, "whole").chmod(0o644)


def overwrite(path: Path) -> None:
    (path / "index.sqlite").write_bytes(b"this is no database" * 100)


def change_row(statement: str) -> Callable[[Path], None]:
    return lambda path: change(path, statement) and None


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (shorten, "image partial: body .* has 1000 bytes instead of 1044480"),
        (
            punch("partial"),
            "image partial: body .*: 262144 bytes are recorded, and are not on disk, from 262144",
        ),
        (punch("whole"), "image whole: body .*: sha512 is .*, not .*"),
        (relabel, "image partial: body .* says that it holds something else"),
        (swap, "image partial: body .* is another's"),
        (permit, "bodies/.*: others may use it: mode 644"),
        (flip, "image whole: body .* was altered after it had been verified"),
        (replace, "image whole: body .* was altered after it had been verified"),
        (overwrite, "index: cannot use the index .*: file is not a database; the next start hashes"),
        (change_row("PRAGMA user_version = 99"), "index: .* has schema version 99"),
        (
            change_row("UPDATE entries SET extents = '0-10' WHERE image_id = 'whole'"),
            "whole: is said to be whole",
        ),
        (
            change_row("UPDATE entries SET extents = '0-2000000'"),
            "bytes are recorded beyond its size, 1044480",
        ),
    ],
)
def test_damage(path: Path, harm: Callable[[Path], None], said: str) -> None:
    """What no crash leaves behind is damage, and is named."""
    harm(path)
    report = audit(path)
    assert any(re.search(said, f"{finding.where}: {finding.what}") for finding in report.damage), (
        report.damage
    )


def test_digests(path: Path) -> None:
    """Where the index is of before there were stamps, a changed byte is found by hashing only."""
    flip(path)
    change(path, "UPDATE entries SET stamp = NULL")
    assert not audit(path).findings
    [finding] = audit(path, digests=True).damage
    assert finding.where == "image whole"


def test_leftovers(path: Path) -> None:
    """What a crash leaves behind is told apart from damage, and gone after the next start."""
    body(path, "partial").unlink()
    stray = path / "bodies" / "ab"
    stray.mkdir(mode=0o700, exist_ok=True)
    (stray / "abc.1").touch(0o600)
    for number in range(5):
        (path / "quarantine" / f"{number}").touch(0o600)
    report = audit(path)
    assert report.damage == []
    assert [finding.where for finding in report.leftovers] == ["quarantine", "image partial", "body abc.1"]
    result(World(path).cache.close())
    assert audit(path).findings == []


def test_another_origin(path: Path) -> None:
    """Images of another origin are left over, not damage."""
    report = audit(path, origin="http://elsewhere:9292")
    assert (len(report.leftovers), report.damage) == (4, [])


def test_without_an_index(path: Path) -> None:
    """A lost index is for the next start to rebuild."""
    (path / "index.sqlite").unlink()
    [finding] = audit(path).findings
    assert (finding.damage, finding.what) == (False, "there is none; 2 bodies are to be hashed")


@pytest.mark.parametrize(
    ("asked", "holes"),
    [
        ([(0, 4096)], []),
        ([(0, 8192)], [(4096, 8192)]),
        ([(4096, 16384)], [(4096, 12288)]),
        ([(100, 200), (5000, 6000), (13000, 20000)], [(5000, 6000), (16384, 20000)]),
        ([], []),
    ],
)
def test_holes(tmp_path: Path, asked: list[tuple[int, int]], holes: list[tuple[int, int]]) -> None:
    """The bytes that are asked for and lie in a hole; data in the first and the fourth of eight blocks."""
    with (tmp_path / "file").open("w+b") as file:
        file.truncate(32768)
        for position in (0, 12288):
            os.pwrite(file.fileno(), b"x" * 4096, position)
        os.fsync(file.fileno())
        assert absent(file.fileno(), Extents.of(*asked)) == Extents.of(*holes)

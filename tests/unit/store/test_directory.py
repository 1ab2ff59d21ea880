"""Whose a cache directory is, and that nobody else has a hand in it."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from txglancecache.errors import DirectoryLocked, StoreError, StoreUnusable
from txglancecache.store.directory import Directory


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(path: Path) -> set[int]:
    return {stat.S_IMODE(found.stat().st_mode) for found in path.rglob("*")}


def test_modes(tmp_path: Path, umask: int) -> None:
    """Nobody else can read anything or put anything there, whatever the umask."""
    path = tmp_path / "made" / "on" / "the" / "way" / "cache"
    directory = Directory.open(path)
    for name in ("ab.1", "cd.2"):
        os.close(directory.create_body(name, 10, b"{}"))
    directory.quarantine("ab.1", 4, 1 << 30)
    directory.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert modes(path) == {0o600, 0o700}
    for parent in list(path.parents)[:4]:
        assert not stat.S_IMODE(parent.stat().st_mode) & 0o022


def test_a_directory_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    """And used, if it has only what is ours."""
    path = tmp_path / "cache"
    Directory.open(path).close()
    path.chmod(0o777)
    Directory.open(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "name", ["lock", "index.sqlite", "index.sqlite-wal", "bodies", "quarantine", "bodies/ab"]
)
def test_planted_links(tmp_path: Path, name: str) -> None:
    """Somebody who could write there once has no file of ours written elsewhere."""
    path, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (path / name).parent.mkdir(parents=True)
    (path / name).symlink_to(elsewhere)
    with pytest.raises(StoreUnusable, match="symbolic link"):
        Directory.open(path)
    assert list(elsewhere.iterdir()) == []


def test_a_link_to_the_directory_itself(tmp_path: Path) -> None:
    """Where the operator wants it is the operator's to say."""
    (tmp_path / "there").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "there")
    Directory.open(tmp_path / "cache").close()
    assert (tmp_path / "there" / "lock").exists()


@pytest.mark.parametrize("made", [False, True], ids=["empty", "used"])
def test_another_users_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: bool) -> None:
    """Its owner could put anything there at any time."""
    path = tmp_path / "cache"
    if made:
        Directory.open(path).close()
    path.mkdir(exist_ok=True)
    path.chmod(0o777)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(StoreUnusable, match="another user"):
        Directory.open(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o777


def test_a_body_that_is_a_link(tmp_path: Path) -> None:
    """It is not followed."""
    directory = Directory.open(tmp_path / "cache")
    os.close(directory.create_body("ab.1", 10, b"{}"))
    directory.body_path("ab.1").rename(tmp_path / "there")
    directory.body_path("ab.1").symlink_to(tmp_path / "there")
    with pytest.raises(StoreError):
        directory.open_body("ab.1", 10)
    assert list(directory.bodies()) == []
    directory.close()


def test_a_directory_that_was_removed_is_made_anew(tmp_path: Path) -> None:
    """With a lock, so that it is still nobody else's; the files that are open go on."""
    path = tmp_path / "cache"
    directory = Directory.open(path)
    shutil.rmtree(path)
    assert directory.free() > 0
    with pytest.raises(DirectoryLocked):
        Directory.open(path)
    shutil.rmtree(path)
    os.close(directory.create_body("ab.1", 10, b"{}"))
    assert [body.name for body in directory.bodies()] == ["ab.1"]
    with pytest.raises(DirectoryLocked):
        Directory.open(path)
    shutil.rmtree(directory.bodies_path)
    os.close(directory.create_body("ab.2", 10, b"{}"))
    directory.close()
    Directory.open(path).close()


def test_a_directory_that_somebody_else_made_anew_is_theirs(tmp_path: Path) -> None:
    """Two processes never use one directory."""
    path = tmp_path / "cache"
    directory = Directory.open(path)
    shutil.rmtree(path)
    other = Directory.open(path)
    with pytest.raises(DirectoryLocked):
        directory.create_body("ab.1", 10, b"{}")
    assert list(other.bodies()) == []
    other.close()
    directory.close()


def test_many_go_into_quarantine_at_once(tmp_path: Path) -> None:
    """Each finds its way, whatever the others remove meanwhile; as many are kept as may be, and counted."""
    directory = Directory.open(tmp_path / "cache")
    names = [f"{number:02x}.1" for number in range(200)]
    for name in names:
        fd = directory.create_body(name, 10, b"{}")
        os.write(fd, b"0123456789")
        os.close(fd)
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda name: directory.quarantine(name, 4, 1 << 30), names):
            pass
    kept = directory.quarantined()
    assert len(kept) == 4
    assert directory.quarantine_size == sum(body.allocated for body in kept) > 0
    assert len(directory.clear_quarantine()) == 4
    assert (directory.quarantined(), directory.quarantine_size) == ([], 0)
    directory.close()

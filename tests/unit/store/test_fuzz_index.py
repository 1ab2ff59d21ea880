"""An index and labels that somebody else has written: whatever they say, the cache starts, and believes
nothing that it cannot."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.cache.world import World, result
from txglancecache.cache.recovery import read_label
from txglancecache.image import is_image_id
from txglancecache.store.directory import Directory
from txglancecache.store.schema import Record, connect

ORIGIN = "http://glance:9292"
SIZE = 1000
GOOD: dict[str, Any] = {
    "key": "ab",
    "origin": ORIGIN,
    "image_id": "image-1",
    "body": "ab.1",
    "size": SIZE,
    "algorithm": "sha512",
    "digest": "00" * 64,
    "checksum": None,
    "extents": f"0-{SIZE}",
    "verified": 1,
    "hits": 0,
    "created": 1.0,
    "last_access": 1.0,
    "pinned": 0,
    "stamp": None,
}
JOB: dict[str, Any] = {
    "id": 1,
    "kind": "verify",
    "image_id": "image-1",
    "state": "succeeded",
    "priority": 0,
    "created": 1.0,
    "started": None,
    "finished": 1.0,
    "attempts": 0,
    "error": None,
}

anything = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(
        [0, -1, SIZE, SIZE + 1, 2**62, "", "0-", "0-1000", "5-3", "../../etc/passwd", "ab.1", "\x00"]
    ),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.binary(max_size=20),
)


def write(table: str, row: dict[str, Any], path: Path) -> None:
    """Put the row into an index there; one that SQLite itself does not take is left out."""
    with closing(connect(path)) as database, database:
        places = ", ".join("?" * len(row))
        try:
            database.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", list(row.values()))
        except (sqlite3.Error, OverflowError):
            return


@pytest.mark.parametrize("column", sorted(set(GOOD) - {"verified", "pinned"}))
@pytest.mark.parametrize("value", [b"bytes", 1.5, math.nan, -1, "text", None])
def test_values(column: str, value: object) -> None:
    """A value of a type that its column does not have, or a number that makes no sense, makes no record."""
    fitting: dict[str, tuple[object, ...]] = {
        "checksum": ("text", None),
        "stamp": (None,),
        "created": (1.5, -1),
        "last_access": (1.5, -1),
        "hits": (-1,),
        **dict.fromkeys(("key", "origin", "image_id", "body", "algorithm", "digest"), ("text",)),
    }
    if any(value is each or value == each for each in fitting.get(column, ())):
        Record(**{**GOOD, column: value})
        return
    with pytest.raises((ValueError, TypeError, AttributeError)):
        Record(**{**GOOD, column: value})


@given(
    st.dictionaries(st.sampled_from(sorted(GOOD)), anything, max_size=3),
    st.dictionaries(st.sampled_from(sorted(JOB)), anything, max_size=2),
)
@settings(max_examples=150)
def test_rows(entry: dict[str, Any], job: dict[str, Any]) -> None:
    """A row that cannot be true is forgotten, or the index with it; no file from elsewhere is used."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "cache"
        directory = Directory.open(path)
        os.close(directory.create_body("ab.1", SIZE, b""))
        directory.close()
        write("entries", {**GOOD, **entry}, path / "index.sqlite")
        write("jobs", {**JOB, **job}, path / "index.sqlite")
        world = World(path)
        try:
            for slot in world.cache.roster:
                image = slot.entry.image
                assert is_image_id(image.image_id)
                assert image.size == SIZE
                assert slot.entry.body.name == "ab.1"
                assert slot.entry.origin == world.cache.origin
                assert world.cache.find(image.image_id) is slot.entry
                assert math.isfinite(slot.entry.last_access)
                assert image.etag.isascii()
                assert slot.entry.status()
        finally:
            result(world.cache.close())


def test_a_good_row(tmp_path: Path) -> None:
    """Is an entry: the rows above are not forgotten for nothing."""
    directory = Directory.open(tmp_path / "cache")
    os.close(directory.create_body("ab.1", SIZE, b""))
    directory.close()
    write("entries", GOOD, tmp_path / "cache" / "index.sqlite")
    world = World(tmp_path / "cache")
    assert [slot.entry.body.name for slot in world.cache.roster] == ["ab.1"]
    result(world.cache.close())


labels = st.fixed_dictionaries(
    {},
    optional={
        "origin": anything.filter(lambda value: not isinstance(value, bytes)),
        "image_id": anything.filter(lambda value: not isinstance(value, bytes)),
        "size": anything.filter(lambda value: not isinstance(value, bytes)),
        "algorithm": st.sampled_from(["sha512", "md5", "shake_128", "unheard-of", "", "sha512\x00", 5, None]),
        "digest": st.sampled_from(["00", "0", "", "zz", "0\n", 5, None]),
        "checksum": st.sampled_from(["00", None, "\r\n", 7]),
        "more": st.none(),
    },
)


@given(st.one_of(st.binary(max_size=100), labels.map(lambda label: json.dumps(label).encode())))
def test_labels(text: bytes) -> None:
    """What a file says that it holds is taken for what it could be, or for nothing."""
    read = read_label(text)
    if read is not None:
        origin, image = read
        assert isinstance(origin, str)
        assert is_image_id(image.image_id)
        assert image.size > 0
        assert image.etag.isascii()
        assert image.repr_digest is None or image.repr_digest.isascii()


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"origin":' * 50_000, b"\xff", b"null", b"5", b"[]"])
def test_labels_without_a_bottom(text: bytes) -> None:
    """Nor does one that cannot be read to its end do harm."""
    assert read_label(text) is None

"""A cache directory with many images in it, as an earlier process would have left them."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.cloud.payload import Payload
from txglancecache.extents import Extents
from txglancecache.store.directory import Directory
from txglancecache.store.schema import ENTRIES, Record, connect

#: What each of them is.
BODY = Payload(4096, seed=900)


def stock(cache_dir: Path, origin: str, count: int) -> list[str]:
    """Put so many whole images of `origin` there, which nobody may be using; returns their ids."""
    directory = Directory.open(cache_dir)
    try:
        records = list(_records(directory, origin, count))
        with closing(connect(directory.index_path)) as database, database:
            ENTRIES.insert(database, records)
    finally:
        directory.close()
    return [record.image_id for record in records]


def _records(directory: Directory, origin: str, count: int) -> Iterator[Record]:
    data = BODY.data
    for number in range(count):
        image_id = f"00000000-0000-4000-8000-{number:012x}"
        key = hashlib.sha256(f"{origin}\n{image_id}".encode()).hexdigest()[:40]
        path = directory.body_path(f"{key}.{number:08x}")
        path.parent.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, data)
        os.close(fd)
        yield Record(
            key=key,
            origin=origin,
            image_id=image_id,
            body=path.name,
            size=BODY.size,
            algorithm="sha512",
            digest=BODY.sha512,
            checksum=None,
            extents=Extents.of((0, BODY.size)),
            verified=True,
            hits=number % 8,
            created=1.7e9,
            last_access=1.7e9 + number,
            pinned=False,
        )

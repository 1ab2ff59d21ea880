"""How long a node takes from its start to its first answer, with many images in its index."""

import hashlib
import time
import uuid
from functools import partial

from benchmarks import measure
from benchmarks.figures import Figure, Sample, below
from benchmarks.result import Row
from benchmarks.stage import Stage
from tests.cloud.processes import ServiceFailed, answers
from tests.cloud.proxy import Proxy
from txglancecache.extents import Extents
from txglancecache.store.directory import Directory
from txglancecache.store.schema import ENTRIES, Record, connect

KEY = "startup"
_LIMITS = {10_000: 1.0, 100_000: 3.0}
_BODY = 64 << 10
_LOOK = 0.005  # seconds
EMPTY = "no images"


def run(stage: Stage) -> Row:
    origin = stage.origin(_BODY).server.url
    nodes = {EMPTY: _node(stage, origin)}
    for count in stage.scale.entries:
        node = nodes[f"{count:,} images"] = _node(stage, origin)
        node.stop()  # it has made its directory
        stage.say(f"  making {count:,} images")
        _populate(node, origin, count)
        node.start()
        held = node.status()["entries"]
        if held != count:
            raise ValueError(f"the node knows {held} images instead of {count}")
    turns = {name: partial(_start, node) for name, node in nodes.items()}
    samples = measure.interleaved(stage, "starts", turns)
    figures = [
        Figure(
            f"start with {count:,} images in the index",
            samples.values(f"{count:,} images", "seconds"),
            "s",
            below(_LIMITS[count]) if count in _LIMITS else None,
        )
        for count in stage.scale.entries
    ]
    figures.append(Figure("start with an empty cache", samples.values(EMPTY, "seconds"), "s"))
    return Row(KEY, "Starts", figures, samples.by_server)


def _node(stage: Stage, origin: str) -> Proxy:
    return stage.node(origin, max_size="1TiB", min_free=0)


def _start(node: Proxy) -> Sample:
    """From the start of the process to the first answer, in seconds."""
    node.stop()
    began = time.monotonic()
    service = node.launch()
    while not answers(f"{node.url}/versions"):
        if service.popen.poll() is not None:
            raise ServiceFailed(f"it ended with {service.popen.returncode}: {service.tail()}")
        time.sleep(_LOOK)
    return {"seconds": time.monotonic() - began}


def _populate(node: Proxy, origin: str, count: int) -> None:
    """Let the node's directory hold so many whole images, as an earlier process would have left them."""
    directory = Directory.open(node.cache_dir)
    try:
        records = [_record(directory, origin) for _ in range(count)]
        database = connect(directory.index_path)
        with database:
            ENTRIES.insert(database, records)
        database.close()
    finally:
        directory.close()


def _record(directory: Directory, origin: str) -> Record:
    image_id, now = str(uuid.uuid4()), time.time()
    key = hashlib.sha256(f"{origin}\n{image_id}".encode()).hexdigest()[:40]
    body = f"{key}.00000000"
    path = directory.body_path(body)
    if not path.parent.exists():
        path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(_BODY)
    return Record(
        key=key,
        origin=origin,
        image_id=image_id,
        body=body,
        size=_BODY,
        algorithm="sha512",
        digest=hashlib.sha512(image_id.encode()).hexdigest(),
        checksum=None,
        extents=Extents.of((0, _BODY)),
        verified=True,
        hits=1,
        created=now,
        last_access=now,
        pinned=False,
    )

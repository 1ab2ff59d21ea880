"""The compatible API over an in-memory HTTP exchange, with a cache, a queue and an origin."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

from attrs import define, evolve, field
from treq.testing import StubTreq
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers

from txglancecache.batches import Batches
from txglancecache.cache.status import EntryStatus, Freed, JobKind, JobState, JobStatus
from txglancecache.errors import OriginProtocolError
from txglancecache.headers import RawHeaders, first
from txglancecache.management.compatible.api import compatible_resource
from txglancecache.management.compatible.forward import Forward
from txglancecache.management.compatible.paths import Normalized
from txglancecache.origin.client import Head, OriginURL
from txglancecache.origin.glance import Glance

CACHED = EntryStatus(
    image_id="c1",
    size=1000,
    bytes_on_disk=1000,
    complete=True,
    digest="sha512:abcd",
    hits=3,
    created=1700000000.5,
    last_access=1700000001.5,
    readers=0,
    pinned=False,
    filling=False,
    extents=((0, 1000),),
)
PARTIAL = evolve(CACHED, image_id="p1", bytes_on_disk=300, complete=False, extents=((0, 300),))


@define(eq=False)
class FakeCache:
    """Some entries, and what became of them."""

    images: dict[str, EntryStatus] = field(factory=lambda: {e.image_id: e for e in (PARTIAL, CACHED)})
    cleaned: int = 0
    pruned: list[int | None] = field(factory=list)
    trouble: Exception | None = None

    def entries(self) -> list[EntryStatus]:
        if self.trouble is not None:
            raise self.trouble
        return list(self.images.values())

    def entry(self, image_id: str) -> EntryStatus | None:
        return self.images.get(image_id)

    async def purge(self, image_id: str) -> bool:
        return self.images.pop(image_id, None) is not None

    async def purge_all(self) -> int:
        dropped = len(self.images)
        self.images.clear()
        return dropped

    async def prune(self, target: int | None = None) -> Freed:
        self.pruned.append(target)
        return Freed(2, 700)

    async def clean(self) -> Freed:
        self.cleaned += 1
        return Freed(1, 300)


@define(eq=False)
class FakeJobs:
    """A queue that nobody works on."""

    all: dict[int, JobStatus] = field(factory=dict)
    headers: dict[str, RawHeaders | None] = field(factory=dict)
    _ids: Iterable[int] = field(factory=lambda: count(1))

    def add(
        self, image_id: str, state: JobState = JobState.QUEUED, kind: JobKind = JobKind.PREFETCH
    ) -> JobStatus:
        job = JobStatus(
            id=next(iter(self._ids)),
            kind=kind,
            image_id=image_id,
            state=state,
            priority=0,
            created=0.0,
            started=None,
            finished=None,
            attempts=0,
            size=None,
            done=0,
            rate=0.0,
            eta=None,
            error=None,
            next_try=None,
        )
        self.all[job.id] = job
        return job

    def submit(
        self,
        kind: JobKind,
        image_ids: Sequence[str],
        *,
        priority: int = 0,
        headers: RawHeaders | None = None,
    ) -> list[JobStatus]:
        self.headers |= dict.fromkeys(image_ids, headers)
        return [self.add(image_id, kind=kind) for image_id in image_ids]

    def jobs(self, *, state: JobState | None = None, kind: JobKind | None = None) -> list[JobStatus]:
        return [job for job in self.all.values() if state in (None, job.state) and kind in (None, job.kind)]

    def cancel(self, job_id: int) -> bool:
        job = self.all[job_id]
        if job.state.over:
            return False
        self.all[job_id] = evolve(job, state=JobState.CANCELLED)
        return True

    def unfinished(self, kind: JobKind) -> list[str]:
        return [job.image_id for job in self.jobs(kind=kind) if not job.state.over]

    def cancel_image(self, kind: JobKind, image_id: str) -> bool:
        return sum(self.cancel(job.id) for job in self.jobs(kind=kind) if job.image_id == image_id) > 0

    async def cancel_all(self, *, kind: JobKind | None = None, queued_only: bool = False) -> int:
        state = JobState.QUEUED if queued_only else None
        return sum(self.cancel(job.id) for job in self.jobs(state=state, kind=kind))

    def states(self) -> dict[str, JobState]:
        return {job.image_id: job.state for job in self.all.values()}


@define(eq=False)
class Answered:
    """An answer of the origin."""

    head: Head
    body: bytes

    async def collect(self, limit: int) -> bytes:
        if len(self.body) > limit:
            raise OriginProtocolError("too long")
        return self.body


@define(eq=False)
class FakeOrigin:
    """A Glance: paths and what it answers there, to whom has a token."""

    origin: OriginURL = field(factory=lambda: OriginURL("http", "glance", 9292))
    answers: dict[str, tuple[int, bytes, list[tuple[bytes, bytes]]]] = field(factory=dict)
    asked: list[tuple[str, str, RawHeaders]] = field(factory=list)
    trouble: Exception | None = None

    def says(self, path: str, status: int, document: object, **fields: str) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
        self.answers[path] = (status, body, headers)

    def has(self, image_id: str, status: str = "active") -> None:
        image = {"id": image_id, "status": status, "size": 1000, "checksum": "0a" * 16}
        self.says(f"/v2/images/{image_id}", 200, image, Content_Type="application/json")

    async def request(
        self, method: bytes, target: bytes, headers: RawHeaders, body: object = None
    ) -> Answered:
        if self.trouble is not None:
            raise self.trouble
        path = target.decode()
        self.asked.append((method.decode(), path, headers))
        status, content, fields = self.answers.get(path, (404, b"No such thing", []))
        if path.startswith("/v2/") and first(headers, b"X-Auth-Token") != b"secret":
            fields = [(b"WWW-Authenticate", b'Keystone uri="http://keystone"'), (b"Connection", b"close")]
            status, content = 401, b"<html>who?</html>"
        length = [(b"Content-Length", b"%d" % len(content))]
        return Answered(Head(status, b"", (*fields, *length)), b"" if method == b"HEAD" else content)

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.asked]


@define(eq=False)
class Site:
    """A site that gives everything to the compatible API, and a client of it that has a token."""

    cache: FakeCache = field(factory=FakeCache)
    jobs: FakeJobs = field(factory=FakeJobs)
    origin: FakeOrigin = field(factory=FakeOrigin)
    treq: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        client: Any = self.origin
        cache: Any = self.cache
        jobs: Any = self.jobs
        forward = Forward(client, pseudonym=b"node1", trusted=lambda address: False)
        stub_treq: Any = StubTreq
        self.treq = stub_treq(
            Normalized(compatible_resource(cache, jobs, Glance(client, Clock()), forward, Batches(Clock())))
        )

    def ask(self, method: str, path: str, token: str | None = "secret", **fields: str) -> tuple[Any, bytes]:
        """The response and its body."""
        headers = {name.replace("_", "-"): [value] for name, value in fields.items()}
        if token is not None:
            headers["X-Auth-Token"] = [token]
        asked = self.treq.request(
            method, "http://localhost:9394" + path, headers=Headers(headers), allow_redirects=False
        )
        response = _result(asked)
        return response, _result(self.treq.content(response))

    def json(self, method: str, path: str, **fields: str) -> Any:
        """The document of a request that succeeds."""
        response, body = self.ask(method, path, **fields)
        assert response.code == 200
        assert response.headers.getRawHeaders("Content-Type") == ["application/json"]
        return json.loads(body)

    def status(self, method: str, path: str, **fields: Any) -> int:
        """The status of an answer without a body."""
        response, body = self.ask(method, path, **fields)
        assert body == b""
        return int(response.code)


def _result(deferred: Any) -> Any:
    results: list[Any] = []
    deferred.addCallbacks(results.append, results.append)
    assert results, "not answered yet"
    return results[0]

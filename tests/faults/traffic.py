"""Clients of every kind for one node, who judge every byte that they get and count them."""

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse

from attrs import define, field

from tests.cloud.client import Answer, authorized, call, request
from tests.cloud.cloud import Cloud
from tests.cloud.images import Image
from tests.cloud.payload import Payload
from tests.cloud.ports import LOOPBACK
from tests.cloud.proxy import Proxy
from tests.faults.roles import at_work

OCTETS = {"Content-Type": "application/octet-stream"}
_LARGEST_RANGE = 2 << 20
#: What Glance on SQLite says when two write at once; it is no answer of the node's.
_GLANCE_BUSY = {500, 503}
_PART = re.compile(rb"content-range: bytes (\d+)-(\d+)/(\d+)", re.IGNORECASE)


class Wrong(Exception):
    """A client did not get what it should have."""


@define(eq=False)
class Received:
    """Bytes of images that clients got, by where the node had them from. `…_left` is what those who left
    early had asked for beyond what they took; some of it may have been sent to them."""

    cached: int = 0
    passed: int = 0
    cached_left: int = 0
    passed_left: int = 0


@define(eq=False)
class Traffic:
    """Who is at it, and what they saw."""

    cloud: Cloud
    proxy: Proxy
    images: Sequence[Image]
    seed: int = 0
    seen: Counter[str] = field(factory=Counter)
    wrong: list[str] = field(factory=list)
    received: Received = field(factory=Received)
    _lock: threading.Lock = field(factory=threading.Lock)
    _pinned: set[str] = field(factory=set)

    @property
    def token(self) -> str:
        return self.cloud.token("alice")

    @contextmanager
    def under_way(self, *roles: Callable[[random.Random], str]) -> Iterator[None]:
        """Within this each role is played again and again; at the end all have ended what they did."""
        self.seed += 1
        with at_work(roles, self._play, self.seed):
            yield

    def _play(self, role: Callable[[random.Random], str], rng: random.Random, over: threading.Event) -> None:
        while not over.is_set():
            try:
                outcome = role(rng)
            except (Wrong, OSError, HTTPException) as error:
                outcome = "wrong"
                self.wrong.append(f"{role.__name__}: {error!r}")
            with self._lock:
                self.seen[outcome] += 1
            over.wait(rng.uniform(0, 0.02))

    # Downloads

    def whole(self, rng: random.Random) -> str:
        image = rng.choice(self.images)
        answer = self._get(image)
        self._expect(answer, 200, image, image.payload.data)
        return "whole bodies right"

    def part(self, rng: random.Random) -> str:
        """A range, at the start, in the middle or up to the end."""
        image = rng.choice(self.images)
        start = rng.randrange(image.size)
        stop = min(image.size, start + rng.randint(1, _LARGEST_RANGE))
        if rng.random() < 0.3:
            start, stop = max(0, image.size - (stop - start)), image.size
            asked = f"bytes=-{stop - start}"
        else:
            asked = f"bytes={start}-{stop - 1}"
        answer = self._get(image, {"Range": asked})
        self._expect(answer, 206, image, image.payload.part(start, stop))
        if answer.headers["Content-Range"] != f"bytes {start}-{stop - 1}/{image.size}":
            raise Wrong(f"{asked}: {answer.headers['Content-Range']}")
        return "ranges right"

    def parts(self, rng: random.Random) -> str:
        """Several ranges at once."""
        image = rng.choice(self.images)
        pace = image.size // 4
        spans = [(number * pace, number * pace + rng.randint(1, pace // 2)) for number in range(3)]
        asked = ", ".join(f"{start}-{stop - 1}" for start, stop in spans)
        answer = self._get(image, {"Range": f"bytes={asked}"})
        if answer.status == 200:  # passed through: Glance knows one range only, and the node asks for all
            self._expect(answer, 200, image, image.payload.data)
            return "several ranges right"
        if answer.status != 206:
            raise Wrong(f"{asked}: {answer.status}")
        boundary = answer.headers.get_boundary()
        if boundary is None:
            raise Wrong(f"{asked}: {answer.headers['Content-Type']}")
        found = []
        for piece in answer.body.split(b"--" + boundary.encode())[1:-1]:
            head, _, body = piece.partition(b"\r\n\r\n")
            said = _PART.search(head)
            if said is None:
                raise Wrong(f"{asked}: {head!r}")
            start, stop = int(said[1]), int(said[2]) + 1
            if body != image.payload.part(start, stop) + b"\r\n":
                raise Wrong(f"{asked}: other bytes at {start}")
            found.append((start, stop))
        if found != spans:
            raise Wrong(f"{asked}: {found}")
        self._count(answer, sum(stop - start for start, stop in spans))
        return "several ranges right"

    def conditional(self, rng: random.Random) -> str:
        """An answer without a body, because the client has it."""
        image = rng.choice(self.images)
        head = self._ask("HEAD", image)
        etag, length = head.headers["ETag"], head.headers["Content-Length"]
        if (head.status, length, head.body) != (200, str(image.size), b""):
            raise Wrong(f"HEAD: {head.status}, {length}")
        if etag is None:
            raise Wrong("no ETag")
        for fields, status in (
            ({"If-None-Match": etag}, 304),
            ({"If-Match": '"another"'}, 412),
            ({"Range": f"bytes={image.size}-"}, 416),
        ):
            answer = self._ask("GET", image, fields)
            if (answer.status, answer.body) != (status, b""):
                raise Wrong(f"{fields}: {answer.status}")
        answer = self._get(image, {"Range": "bytes=0-9", "If-Range": etag})
        self._expect(answer, 206, image, image.payload.part(0, 10))
        return "conditions right"

    def leaving(self, rng: random.Random) -> str:
        """Hangs up somewhere in the middle."""
        image = rng.choice(self.images)
        enough = rng.randint(0, image.size - 1)
        with closing(HTTPConnection(LOOPBACK, self.proxy.port, timeout=60)) as connection:
            connection.request("GET", image.path, headers=authorized(self.token))
            response = connection.getresponse()
            body = response.read(enough)
            if response.status != 200 or body != image.payload.part(0, len(body)):
                raise Wrong(f"{response.status}, {len(body)} bytes")
            self._count(response, len(body), image.size)
        return "left early"

    # Changes

    def upload(self, rng: random.Random) -> str:
        """An image's whole life through the node: uploaded, downloaded, deleted, gone."""
        payload = Payload(rng.randint(1, 3 << 20), seed=rng.randrange(1 << 30))
        try:
            image = Image(self.cloud.images.queue(), "alice", payload)
        except Exception:
            return "Glance was busy"
        framing = {"Content-Length": str(payload.size)} if rng.random() < 0.5 else {}
        answer = self._ask("PUT", image, {**OCTETS, **framing}, payload.chunks())
        if answer.status in _GLANCE_BUSY:
            return "Glance was busy"
        if answer.status != 204:
            raise Wrong(f"PUT: {answer.status} {answer.body[:200]!r}")
        for _ in range(2):
            self._expect(self._get(image), 200, image, payload.data)
        target = f"/v2/images/{image.id}"
        answer = request("DELETE", self.proxy.url + target, token=self.token)
        if answer.status in _GLANCE_BUSY:
            return "Glance was busy"
        if answer.status != 204:
            raise Wrong(f"DELETE: {answer.status}")
        if self._ask("GET", image).status != 404:
            raise Wrong("served after it was deleted")
        return "uploaded, downloaded, deleted"

    def operate(self, rng: random.Random) -> str:
        """What an operator does to one image, or looks at."""
        image, site = rng.choice(self.images), self.proxy.manage_url
        one = f"{site}/cache/images/{image.id}"
        deed = rng.choice(("purge", "prefetch", "pin", "unpin", "verify", "look"))
        status = 200
        match deed:
            case "purge":
                status = request("DELETE", one).status
            case "prefetch":
                body = {"images": [image.id]}
                call("POST", f"{site}/cache/prefetch", token=self.token, payload=body)
            case "pin" if len(self._pinned) < 2:
                status = request("PUT", f"{one}/pin").status
                if status == 204:
                    self._pinned.add(image.id)
            case "unpin" if self._pinned:
                status = request("DELETE", f"{site}/cache/images/{self._pinned.pop()}/pin").status
            case "verify":
                status = request("POST", f"{one}/verify").status
            case _:
                for path in ("/cache", "/metrics", "/cache/images", "/cache/jobs", "/v2/cache"):
                    call("GET", site + path)
        if status not in (200, 202, 204, 404, 409):
            raise Wrong(f"{deed}: {status}")
        time.sleep(0.05)
        return "operator's requests"

    def watch(self, rng: random.Random) -> str:
        """Listens to events for a while."""
        with closing(HTTPConnection(LOOPBACK, self.proxy.manage_port, timeout=60)) as connection:
            connection.request("GET", "/cache/events", headers={"Accept": "text/event-stream"})
            response = connection.getresponse()
            until = time.monotonic() + rng.uniform(0.1, 2)
            while time.monotonic() < until:
                if not response.readline():
                    raise Wrong("the stream of events ended")
        return "listened to events"

    def unpin_all(self) -> None:
        for image_id in self._pinned:
            request("DELETE", f"{self.proxy.manage_url}/cache/images/{image_id}/pin")
        self._pinned.clear()

    # One request

    def _ask(
        self,
        method: str,
        image: Image,
        fields: dict[str, str] | None = None,
        body: Iterator[bytes] | None = None,
    ) -> Answer:
        url = self.proxy.url + image.path
        return request(method, url, token=self.token, headers=fields, body=body)

    def _get(self, image: Image, fields: dict[str, str] | None = None) -> Answer:
        """A download; one that Glance is too busy for is tried again."""
        while (answer := self._ask("GET", image, fields)).status in _GLANCE_BUSY:
            with self._lock:
                self.seen["Glance was busy"] += 1
            time.sleep(0.1)
        return answer

    def _expect(self, answer: Answer, status: int, image: Image, body: bytes) -> None:
        if answer.status != status:
            raise Wrong(f"{image.id}: {answer.status} {answer.body[:200]!r}")
        if answer.body != body:
            raise Wrong(f"{image.id}: {len(answer.body)} bytes that are not the image's")
        self._count(answer, len(body))

    def _count(self, answer: Answer | HTTPResponse, taken: int, asked: int | None = None) -> None:
        left = (asked or taken) - taken
        with self._lock:
            if "bypass" in (answer.headers.get("Cache-Status") or ""):
                self.received.passed += taken
                self.received.passed_left += left
            else:
                self.received.cached += taken
                self.received.cached_left += left

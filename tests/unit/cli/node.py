"""A node as the command line sees one: the management site's contract over real HTTP, with made-up
contents."""

from __future__ import annotations

import json
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from attrs import define, field

LOOPBACK = "127.0.0.1"
GIB = 2**30
A = "3f2a9c1e-5b1c-4e7f-9a51-0c8d6f3b2a10"
B = "3f2b0000-1111-4222-8333-944445555666"
C = "77b01111-2222-4333-8444-955556666777"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
PAGE = 2  # images, or jobs, on a page, however many are asked for

JSON = Any


def image(image_id: str, size: int = 3 * GIB, held: int | None = None, **changes: JSON) -> JSON:
    held = size if held is None else held
    return {
        "id": image_id,
        "state": "complete" if held == size else "partial",
        "size": size,
        "bytes_on_disk": held,
        "complete": held == size,
        "filling": False,
        "pinned": False,
        "digest": "sha512:ab",
        "hits": 7,
        "created": 1000.0,
        "last_access": 2000.0,
        "readers": 0,
        "sources": 0,
        "rate": 0.0,
        "extents": [[0, held]],
        "readers_list": [],
        **changes,
    }


def job(number: int, image_id: str, state: str = "queued", kind: str = "prefetch", **changes: JSON) -> JSON:
    return {
        "id": number,
        "kind": kind,
        "image_id": image_id,
        "state": state,
        "priority": 0,
        "created": 1000.0,
        "started": None,
        "finished": None,
        "attempts": 0,
        "size": None,
        "done": 0,
        "rate": 0.0,
        "eta": None,
        "error": None,
        "next_try": None,
        **changes,
    }


def event(
    serial: int, kind: str = "fill-finished", image_id: str = A, detail: str = "", process: str = "5e0c94d1"
) -> JSON:
    return {
        "id": f"{process}-{serial}",
        "serial": serial,
        "time": 1000.0 + serial,
        "kind": kind,
        "image_id": image_id,
        "detail": detail,
    }


class Refused(Exception):
    """An error that the node answers."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@define(eq=False)
class FakeNode:
    """What is in it, and what it was asked. Tests change both."""

    url: str = ""
    images: dict[str, JSON] = field(factory=dict)
    jobs: dict[int, JSON] = field(factory=dict)
    glance: set[str] = field(factory=lambda: {A, B, C})
    events: list[JSON] = field(factory=list)
    streams: list[list[JSON]] = field(factory=list)
    quarantine: list[JSON] = field(factory=list)
    checks: dict[str, str] = field(factory=dict)
    token: str | None = None
    asked: list[tuple[str, str]] = field(factory=list)
    bodies: list[JSON] = field(factory=list)
    headers: list[dict[str, str]] = field(factory=list)
    work: Callable[[JSON], None] = lambda job: job.update(state="done", finished=1002.0)
    failure: tuple[int, bytes] | None = None
    shown: int = 1000
    unlisted: set[int] = field(factory=set)
    after_queueing: Callable[[], None] = lambda: None

    def answer(self, method: str, target: str, body: JSON) -> JSON:
        """The JSON of the answer; None for 204."""
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        assert parts.path.startswith("/cache")
        match (method, *parts.path.removeprefix("/cache").strip("/").split("/")):
            case ("GET", ""):
                return self._overview()
            case ("GET", "ready"):
                return self._readiness()
            case ("GET", "images"):
                return self._page(query)
            case ("DELETE", "images"):
                purged = len(self.images)
                self.images.clear()
                return {"purged": purged}
            case ("GET", "images", name):
                return self._image(name)
            case ("DELETE", "images", name):
                del self.images[self._image(name)["id"]]
            case ("PUT" | "DELETE", "images", name, "pin"):
                self._image(name)["pinned"] = method == "PUT"
            case ("POST", "images", name, "verify"):
                if not self._image(name)["complete"]:
                    raise Refused(409, "the image is not complete")
                return self.queue("verify", name)
            case ("POST", "verify"):
                jobs = [self.queue("verify", name) for name in self.images]
                ids = [one["id"] for one in jobs]
                shown = json.loads(json.dumps(jobs[: self.shown]))
                self.after_queueing()
                return {"jobs": shown, "ids": ids, "total": len(jobs)}
            case ("POST", "prefetch"):
                if not self.glance.issuperset(body["images"]):
                    raise Refused(404, "Glance knows no such image")
                return {"jobs": [self.queue("prefetch", name, body["priority"]) for name in body["images"]]}
            case ("GET", "jobs"):
                chosen = [
                    one
                    for one in self.jobs.values()
                    if all(one[name] == query[name] for name in ("state", "kind") if name in query)
                    and one["id"] > int(query.get("marker", 0))
                    and one["id"] not in self.unlisted
                ]
                more = f"/cache/jobs?marker={chosen[PAGE]['id'] - 1}" if len(chosen) > PAGE else None
                return {"jobs": chosen[:PAGE], "total": len(chosen), "next": more}
            case ("DELETE", "jobs"):
                return {"cancelled": sum(self.cancel(one) for one in self.jobs.values())}
            case ("GET", "jobs", number):
                one = self._job(number)
                self.work(one)
                return one
            case ("DELETE", "jobs", number):
                if not self.cancel(self._job(number)):
                    raise Refused(409, "this job is over")
            case ("POST", "prune"):
                return {"files": 2, "bytes": 5 * GIB}
            case ("POST", "clean"):
                return {"files": 1, "bytes": GIB}
            case ("GET", "quarantine"):
                return {"files": self.quarantine}
            case ("DELETE", "quarantine"):
                freed = {
                    "files": len(self.quarantine),
                    "bytes": sum(file["size"] for file in self.quarantine),
                }
                self.quarantine.clear()
                return freed
            case ("GET", "events"):
                return {"events": self.events}
            case _:
                raise Refused(404, "nothing is here")
        return None

    def queue(self, kind: str, image_id: str, priority: int = 0) -> JSON:
        number = len(self.jobs) + 1
        self.jobs[number] = job(number, image_id, kind=kind, priority=priority)
        return self.jobs[number]

    def cancel(self, one: JSON) -> bool:
        if one["state"] not in ("queued", "running"):
            return False
        one["state"] = "cancelled"
        return True

    def _image(self, name: str) -> JSON:
        if name not in self.images:
            raise Refused(404, "no such image in this cache")
        return self.images[name]

    def _job(self, number: str) -> JSON:
        if not number.isdecimal() or int(number) not in self.jobs:
            raise Refused(404, "no such job")
        return self.jobs[int(number)]

    def _page(self, query: dict[str, str]) -> JSON:
        chosen = [
            one
            for one in self.images.values()
            if query.get("q", "") in one["id"]
            and query.get("state", one["state"]) == one["state"]
            and query.get("pinned", str(one["pinned"]).lower()) == str(one["pinned"]).lower()
        ]
        first = int(query.get("marker", 0))
        more = f"/cache/images?q={query.get('q', '')}&marker={first + PAGE}"
        return {
            "images": chosen[first : first + PAGE],
            "total": len(chosen),
            "next": more if len(chosen) > first + PAGE else None,
        }

    def _overview(self) -> JSON:
        return {
            "node": "edge-7",
            "version": "0.1.0",
            "uptime": 273600.0,
            "origin": "http://glance:9292",
            "auth": "none",
            "entries": len(self.images),
            "sizes": {
                "bytes_on_disk": 42 * GIB,
                "reserved": GIB,
                "max_size": 100 * GIB,
                "min_free": GIB,
                "disk_free": 300 * GIB,
                "quarantined": sum(file["size"] for file in self.quarantine),
            },
            "counters": {
                "hits": 120,
                "misses": 4,
                "collapsed": 76,
                "bytes_served": 600 * GIB,
                "bytes_from_origin": 12 * GIB,
            },
            "jobs": {
                state: sum(one["state"] == state for one in self.jobs.values())
                for state in ("queued", "running")
            },
            "events": self.events,
        }

    def _readiness(self) -> JSON:
        checks = {
            name: {"ok": name not in self.checks, "detail": self.checks.get(name, "fine"), "seconds": 0.01}
            for name in ("origin", "disk", "room")
        }
        return {"ready": not self.checks, "checks": checks}


class _Handler(BaseHTTPRequestHandler):
    node: FakeNode

    def handle_one_request(self) -> None:
        # A unix socket's peer has no address for the log.
        self.client_address = ("", 0)
        super().handle_one_request()

    def _serve(self) -> None:
        node = self.node
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        node.asked.append((self.command, self.path))
        node.bodies.append(body)
        node.headers.append(dict(self.headers))
        if node.failure is not None:
            self._reply(node.failure[0], node.failure[1])
        elif node.token is not None and self.headers.get("X-Auth-Token") != node.token:
            self._problem(401, "a token is needed", {"WWW-Authenticate": "Keystone uri='http://keystone'"})
        elif self.path == "/cache/events" and "event-stream" in self.headers["Accept"]:
            self._stream()
        else:
            self._answer(body)

    do_GET = do_PUT = do_POST = do_DELETE = _serve

    def _answer(self, body: JSON) -> None:
        try:
            value = self.node.answer(self.command, self.path, body)
        except Refused as error:
            self._problem(error.status, str(error))
            return
        if value is None:
            self._reply(204, b"")
            return
        status = 503 if self.path == "/cache/ready" and not value["ready"] else 200
        self._reply(status, json.dumps(value).encode())

    def _stream(self) -> None:
        """One of the streams that the test has prepared; there are no more: 503."""
        if not self.node.streams:
            self._problem(503, "no more streams")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b"retry: 3000\nid: 5e0c94d1-0\n\n")
        for value in self.node.streams.pop(0):
            text = f"id: {value['id']}\nevent: {value['kind']}\ndata: {json.dumps(value)}\n\n"
            self.wfile.write(text.encode())

    def _problem(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        error = {"error": {"code": status, "title": "", "message": message}}
        self._reply(status, json.dumps(error).encode(), headers)

    def _reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class _TCP(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever does not trust this node leaves early."""


class _Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextmanager
def running(
    node: FakeNode, path: Path | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[FakeNode]:
    """Serve it, on a port of loopback, with or without TLS, or on a unix socket."""
    handler = type("Handler", (_Handler,), {"node": node})
    server = _TCP((LOOPBACK, 0), handler) if path is None else _Unix(str(path), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "http" if tls is None else "https"
    node.url = f"{scheme}://{LOOPBACK}:{server.server_address[1]}" if path is None else f"unix:{path}"
    thread = threading.Thread(target=lambda: server.serve_forever(0.01))
    thread.start()
    try:
        yield node
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Hours:
    """Time that passes only while somebody waits for it; `at_each` is done then."""

    def __init__(self, now: float = 10_000.0) -> None:
        self.now = now
        self.at_each: Callable[[], None] = lambda: time.sleep(0)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.at_each()

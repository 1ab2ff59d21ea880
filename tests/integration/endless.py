"""A Glance that has every image one could ask for: small ones, made up from their ids."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from attrs import define, field

from tests.cloud.ports import LOOPBACK

_IMAGE = re.compile(r"/v2/images/([^/?]+)(/file)?")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
#: What the ids of those begin with that are sent with their last byte missing and a wrong one in front.
WRONG = "wrong-"


def body_of(image_id: str) -> bytes:
    """The image with this id."""
    return hashlib.sha256(image_id.encode()).digest() * 4096


@define(eq=False)
class EndlessOrigin:
    """Runs in a thread of its own; ``close`` ends it."""

    _server: ThreadingHTTPServer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._server = _Server((LOOPBACK, 0), _Answers)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that breaks a connection off does no harm."""


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""

    def do_GET(self) -> None:
        if self.path == "/versions":
            self._answer(200, json.dumps({"versions": [{"id": "v2.15"}]}).encode())
            return
        image = _IMAGE.fullmatch(self.path)
        if image is None:
            self._answer(404, b"")
        elif image[2]:
            body = body_of(image[1])
            self._send(b"\0" + body[:-1] if image[1].startswith(WRONG) else body)
        else:
            self._answer(200, json.dumps(_description(image[1])).encode())

    def _send(self, body: bytes) -> None:
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        if wanted is None:
            self._answer(200, body)
            return
        start, stop = int(wanted[1]), min(len(body), int(wanted[2] or len(body)) + 1)
        if start >= len(body):
            self._answer(416, b"")
        else:
            self._answer(206, body[start:stop], {"Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"})

    def _answer(self, status: int, body: bytes, fields: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(fields or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _description(image_id: str) -> dict[str, object]:
    body = body_of(image_id)
    return {
        "id": image_id,
        "status": "active",
        "size": len(body),
        "checksum": hashlib.md5(body, usedforsecurity=False).hexdigest(),
        "os_hash_algo": "sha256",
        "os_hash_value": hashlib.sha256(body).hexdigest(),
    }

"""An origin whose only image becomes another one under the same id: each page of a body tells of which
edition it is."""

import hashlib
import json
import re
import struct
import threading
import time
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attrs import define, field

from tests.cloud.ports import LOOPBACK

IMAGE_ID = "changing"
PATH = f"/v2/images/{IMAGE_ID}/file"
PAGE = 4096
SIZE = 1024 * PAGE

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_PIECE = 64 * PAGE
_MARK = struct.Struct(">QQ")


def _page(edition: int, number: int) -> bytes:
    return _MARK.pack(edition, number) * (PAGE // _MARK.size)


@lru_cache(4)
def body_of(edition: int) -> bytes:
    """The image as it is in this edition; those of all editions are of one size."""
    return b"".join(_page(edition, number) for number in range(SIZE // PAGE))


def editions(body: bytes, start: int) -> set[int]:
    """Of which editions the pages are that a body is made of; it begins at `start`, where a page does.

    :raises ValueError: some of it is of none.
    """
    found = set()
    for at in range(0, len(body) - _MARK.size + 1, PAGE):
        edition, number = _MARK.unpack_from(body, at)
        page = body[at : at + PAGE]
        if page != _page(edition, (start + at) // PAGE)[: len(page)]:
            raise ValueError(f"what is at {start + at} calls itself page {number} of edition {edition}")
        found.add(edition)
    return found


@define(eq=False)
class ChangingOrigin:
    """Runs in a thread of its own; `close` ends it.

    :param described: whether its description tells the editions apart. Else it has the digest of none.
    """

    described: bool
    edition: int = 1  # that answers which begin from now on are of
    pause: float = 0.0  # seconds between two pieces of a body
    _server: ThreadingHTTPServer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._server = _Server((LOOPBACK, 0), lambda *where: _Answers(self, *where))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._server.server_address[1]}"

    def description(self) -> dict[str, object]:
        body = body_of(self.edition) if self.described else b""
        return {
            "id": IMAGE_ID,
            "status": "active",
            "size": SIZE,
            "os_hash_algo": "sha256",
            "os_hash_value": hashlib.sha256(body).hexdigest(),
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that breaks a connection off does no harm."""


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # a head and a small body are one piece

    def __init__(self, origin: ChangingOrigin, *where: Any) -> None:
        self.origin = origin
        super().__init__(*where)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""

    def do_GET(self) -> None:
        if self.path == "/versions":
            self._answer(200, json.dumps({"versions": [{"id": "v2.15"}]}).encode())
        elif self.path == PATH:
            self._send(body_of(self.origin.edition))
        elif f"{self.path}/file" == PATH:
            self._answer(200, json.dumps(self.origin.description()).encode())
        else:
            self._answer(404, b"")

    def _send(self, body: bytes) -> None:
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        if wanted is None:
            self._answer(200, body)
            return
        start, stop = int(wanted[1]), min(SIZE, int(wanted[2] or SIZE) + 1)
        if start >= SIZE:
            self._answer(416, b"")
        else:
            self._answer(206, body[start:stop], {"Content-Range": f"bytes {start}-{stop - 1}/{SIZE}"})

    def _answer(self, status: int, body: bytes, fields: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(fields or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        for start in range(0, len(body), _PIECE):
            self.wfile.write(body[start : start + _PIECE])
            self.wfile.flush()
            time.sleep(self.origin.pause)

"""A Glance made up in this process, for what no real one can be brought to: images without end, or such that
change. It breaks no connection itself."""

import hashlib
import json
import re
import socketserver
import threading
import time
from collections.abc import Callable

import h11
from attrs import define, field, frozen

from tests.cloud.ports import LOOPBACK

_PATH = re.compile(r"/v2(?:\.\d+)?/images/([^/?]+)(/file)?")
_RANGE = re.compile(rb"bytes=(\d+)-(\d*)")
_LONGEST_HEAD = 2**20
_PIECE = 2**18


@frozen
class Made:
    """What is sent as an image's data, and the body whose digests are in its description."""

    sent: bytes
    described: bytes

    def description(self, image_id: str) -> bytes:
        known = {
            "id": image_id,
            "status": "active",
            "size": len(self.sent),
            "checksum": hashlib.md5(self.described, usedforsecurity=False).hexdigest(),
            "os_hash_algo": "sha256",
            "os_hash_value": hashlib.sha256(self.described).hexdigest(),
        }
        return json.dumps(known).encode()


@define(eq=False)
class Imitation:
    """Runs in threads of its own; `close` ends it.

    :param image: makes the image with an id, whenever one is asked for; None: there is none.
    :param attentive: whether it reads a request to its end before it answers; else what is behind the head
        is another request to it.
    :param pause: seconds that pass between two pieces of a body.
    :param malformed: what was wrong with what came and was no HTTP: no proxy should have passed it on.
    """

    image: Callable[[str], Made | None]
    attentive: bool = True
    pause: float = 0.0
    malformed: list[str] = field(factory=list)
    _server: socketserver.ThreadingTCPServer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, glance: Imitation) -> None:
        super().__init__((LOOPBACK, 0), _Conversation)
        self.glance = glance


class _Conversation(socketserver.BaseRequestHandler):
    """One connection."""

    server: _Server

    def handle(self) -> None:
        self._begin(b"")
        try:
            while (asked := self._next()) is not None:
                self._answer(asked)
                if h11.MUST_CLOSE in self._wire.states.values():
                    return
                if self._wire.their_state is h11.DONE:
                    self._wire.start_next_cycle()
                else:
                    self._begin(self._wire.trailing_data[0])
        except OSError:
            return  # the proxy broke it off, as it may
        except h11.RemoteProtocolError as error:
            self.server.glance.malformed.append(str(error))

    def _begin(self, data: bytes) -> None:
        self._wire = h11.Connection(h11.SERVER, _LONGEST_HEAD)
        if data:
            self._wire.receive_data(data)

    def _next(self) -> h11.Request | None:
        """The next request, read as far as it is going to be; None: there is no more."""
        asked = None
        while True:
            if self._wire.they_are_waiting_for_100_continue:
                self._send(h11.InformationalResponse(status_code=100, headers=[]))
            event = self._wire.next_event()
            if event is h11.NEED_DATA:
                data = self.request.recv(2**16)
                if not data:
                    return None
                self._wire.receive_data(data)
            elif isinstance(event, h11.Request):
                asked = event
                if not self.server.glance.attentive:
                    return asked
            elif isinstance(event, h11.EndOfMessage):
                return asked

    def _answer(self, asked: h11.Request) -> None:
        status, fields, body = self._due(asked)
        head = {"Content-Length": str(len(body)), **fields}
        self._send(
            h11.Response(status_code=status, headers=list(head.items())),
            h11.Data(data=body[:_PIECE]),
        )
        for start in range(_PIECE, len(body), _PIECE):
            time.sleep(self.server.glance.pause)
            self._send(h11.Data(data=body[start : start + _PIECE]))
        self._send(h11.EndOfMessage())

    def _due(self, asked: h11.Request) -> tuple[int, dict[str, str], bytes]:
        path = asked.target.decode("latin-1")
        if asked.method != b"GET":
            return 405, {"Allow": "GET"}, b""
        if path == "/versions":
            return 200, {}, json.dumps({"versions": [{"id": "v2.15"}]}).encode()
        wanted = _PATH.fullmatch(path)
        made = None if wanted is None else self.server.glance.image(wanted[1])
        if wanted is None or made is None:
            return 404, {}, b""
        if wanted[2]:
            return _part(made.sent, dict(asked.headers).get(b"range", b""))
        return 200, {}, made.description(wanted[1])

    def _send(self, *events: h11.Event) -> None:
        self.request.sendall(b"".join(self._wire.send(event) or b"" for event in events))


def _part(body: bytes, asked: bytes) -> tuple[int, dict[str, str], bytes]:
    """What is due for a Range."""
    wanted = _RANGE.fullmatch(asked)
    if wanted is None:
        return 200, {}, body
    start, stop = int(wanted[1]), min(len(body), int(wanted[2] or len(body)) + 1)
    if start >= stop:
        return 416, {}, b""
    return 206, {"Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"}, body[start:stop]

"""A Glance that answers whatever it is asked once it has read all of it, and breaks no connection itself."""

import hashlib
import json
import re
import socketserver
import threading

import h11
from attrs import define, field

from tests.cloud.ports import LOOPBACK
from tests.integration.endless import body_of

_IMAGE = re.compile(r"/v2(?:\.\d+)?/images/([^/?]+)(/file)?")
_LONGEST_HEAD = 2**20


@define(eq=False)
class AttentiveOrigin:
    """Runs in threads of its own; `close` ends it. `malformed` says what is wrong with what came and was no
    HTTP: no proxy should have passed it on."""

    malformed: list[str] = field(factory=list)
    _server: socketserver.ThreadingTCPServer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._server = _Server(self.malformed)
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

    def __init__(self, malformed: list[str]) -> None:
        super().__init__((LOOPBACK, 0), _Conversation)
        self.malformed = malformed


class _Conversation(socketserver.BaseRequestHandler):
    """One connection."""

    server: _Server

    def handle(self) -> None:
        self._wire = h11.Connection(h11.SERVER, _LONGEST_HEAD)
        try:
            while (asked := self._next()) is not None:
                self._answer(asked)
                if h11.MUST_CLOSE in self._wire.states.values():
                    return
                self._wire.start_next_cycle()
        except OSError:
            return  # the proxy broke it off, as it may
        except h11.RemoteProtocolError as error:
            self.server.malformed.append(str(error))

    def _next(self) -> h11.Request | None:
        """The next request, once its body is in; None: there is no more."""
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
            elif isinstance(event, h11.EndOfMessage):
                return asked

    def _answer(self, asked: h11.Request) -> None:
        path = asked.target.decode("latin-1")
        image = _IMAGE.fullmatch(path)
        status, fields, body = 200, {}, b""
        if asked.method != b"GET":
            status, fields = 405, {"Allow": "GET"}
        elif path == "/versions":
            body = json.dumps({"versions": [{"id": "v2.15"}]}).encode()
        elif image is None:
            status = 404
        elif not image[2]:
            body = _description(image[1])
        else:
            status, fields, body = _part(body_of(image[1]), dict(asked.headers).get(b"range", b""))
        head = {"Content-Length": str(len(body)), **fields}
        self._send(
            h11.Response(status_code=status, headers=list(head.items())),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )

    def _send(self, *events: h11.Event) -> None:
        self.request.sendall(b"".join(self._wire.send(event) or b"" for event in events))


def _part(body: bytes, asked: bytes) -> tuple[int, dict[str, str], bytes]:
    """What is due for a Range."""
    wanted = re.fullmatch(rb"bytes=(\d+)-(\d*)", asked)
    if wanted is None:
        return 200, {}, body
    start, stop = int(wanted[1]), min(len(body), int(wanted[2] or len(body)) + 1)
    if start >= stop:
        return 416, {}, b""
    return 206, {"Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"}, body[start:stop]


def _description(image_id: str) -> bytes:
    body = body_of(image_id)
    digest = hashlib.sha256(body).hexdigest()
    known = {"id": image_id, "status": "active", "size": len(body)}
    return json.dumps({**known, "os_hash_algo": "sha256", "os_hash_value": digest}).encode()

"""The least that serves image data: a thread for each connection, blocking, one ``sendfile`` for a body.

It is two things at once. As an origin it answers what Glance would, metadata and the check before a download
included, faster than any cache can ask. As a server of its own it is the bare ``sendfile`` loop to which the
others are compared.

``python -m benchmarks.origin JSON`` runs one, told in JSON what `Settings` hold.
"""

import json
import os
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping

from attrs import define, field, frozen

_REQUEST = re.compile(rb"(GET|HEAD) (\S+) HTTP/1\.([01])\r\n")
_RANGE = re.compile(rb"\r\nrange: *bytes=(\d+)-(\d*)\r\n", re.IGNORECASE)
_IMAGE = re.compile(r"/v2/images/(([0-9a-f]{8})-[0-9a-f-]{27})(/file)?")
_VERSIONS = {"versions": [{"id": "v2.17", "status": "CURRENT", "links": []}]}
_ALL = 0x7FFFF000  # as much as one sendfile(2) takes
_PIECES_A_SECOND = 100


@frozen
class Stored:
    """A body on disk, and its digest."""

    path: str
    size: int
    sha512: str


@frozen
class Settings:
    """``bodies``: by the first eight hex digits of the image ids that have them, the last of which stands for
    the rest. ``rate``: bytes a second, all connections together; 0: as fast as it goes."""

    port: int
    bodies: Mapping[str, Stored]
    rate: float = 0.0


@define(eq=False)
class _Pace:
    """Lets bytes go at a rate that all share."""

    rate: float
    _due: float = 0.0
    _lock: threading.Lock = field(factory=threading.Lock)

    def admit(self, wanted: int) -> int:
        """Wait for one's turn; returns how many bytes it is for."""
        if not self.rate:
            return min(wanted, _ALL)
        count = min(wanted, max(4096, int(self.rate / _PIECES_A_SECOND)))
        with self._lock:
            self._due = max(self._due, time.monotonic()) + count / self.rate
            wait = self._due - time.monotonic()
        time.sleep(max(0.0, wait))
        return count


@define(eq=False)
class Origin:
    """Serves until it is killed."""

    settings: Settings
    _pace: _Pace = field(init=False)
    _sent: Counter[str] = field(factory=Counter)
    _lock: threading.Lock = field(factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        self._pace = _Pace(self.settings.rate)

    def serve(self) -> None:
        with socket.create_server(("127.0.0.1", self.settings.port), backlog=1024) as listener:
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._converse, args=(client,), daemon=True).start()

    def _converse(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pending = b""
        try:
            with client:
                while True:
                    while b"\r\n\r\n" not in pending:
                        if not (data := client.recv(65536)):
                            return
                        pending += data
                    head, _, pending = pending.partition(b"\r\n\r\n")
                    if not self._answer(client, head + b"\r\n"):
                        return
        except ConnectionError:
            return

    def _answer(self, client: socket.socket, head: bytes) -> bool:
        """Answer one request; returns whether the connection goes on."""
        request = _REQUEST.match(head)
        if request is None:
            client.sendall(b"HTTP/1.1 405 Not here\r\nContent-Length: 0\r\n\r\n")
            return False
        method, target, minor = request.groups()
        path = target.decode("ascii").partition("?")[0]
        image = _IMAGE.fullmatch(path)
        if path == "/versions":
            _reply(client, _VERSIONS)
        elif path == "/sent":
            with self._lock:
                _reply(client, dict(self._sent))
        elif image is None or image[2] not in self.settings.bodies:
            client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        elif image[3] is None:
            _reply(client, _metadata(image[1], self.settings.bodies[image[2]]))
        else:
            self._send_body(client, path, self.settings.bodies[image[2]], _RANGE.search(head), method)
        return minor == b"1"

    def _send_body(
        self, client: socket.socket, path: str, body: Stored, wanted: re.Match[bytes] | None, method: bytes
    ) -> None:
        start = int(wanted[1]) if wanted else 0
        stop = min(int(wanted[2]) + 1, body.size) if wanted and wanted[2] else body.size
        if start >= body.size:
            client.sendall(b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n")
            return
        status = b"200 OK"
        if wanted:
            status = b"206 Partial Content\r\nContent-Range: bytes %d-%d/%d" % (start, stop - 1, body.size)
        client.sendall(
            b"HTTP/1.1 %b\r\nContent-Type: application/octet-stream\r\nCache-Control: max-age=86400\r\n"
            b"Content-Length: %d\r\n\r\n" % (status, stop - start)
        )
        if method == b"HEAD":
            return
        file = os.open(body.path, os.O_RDONLY)
        try:
            while start < stop:
                count = os.sendfile(client.fileno(), file, start, self._pace.admit(stop - start))
                start += count
                with self._lock:
                    self._sent[path] += count
        finally:
            os.close(file)


def _metadata(image_id: str, body: Stored) -> dict[str, object]:
    return {
        "id": image_id,
        "status": "active",
        "size": body.size,
        "os_hash_algo": "sha512",
        "os_hash_value": body.sha512,
        "checksum": None,
        "visibility": "public",
    }


def _reply(client: socket.socket, document: object) -> None:
    content = json.dumps(document).encode()
    client.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (len(content), content)
    )


def main() -> None:
    told = json.loads(sys.argv[1])
    bodies = {kind: Stored(**stored) for kind, stored in told.pop("bodies").items()}
    Origin(Settings(bodies=bodies, **told)).serve()


if __name__ == "__main__":
    main()

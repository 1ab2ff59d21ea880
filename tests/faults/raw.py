"""A request as the bytes that it is made of, in plain text or over TLS, and all that comes back for it."""

import re
import socket
import ssl
from contextlib import closing, suppress

from tests.cloud.ports import LOOPBACK

_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")


def exchange(port: int, data: bytes, *, tls: ssl.SSLContext | None = None, seconds: float = 60) -> bytes:
    """All that comes back for these bytes, as far as it is said that it is all.

    :raises ssl.SSLError: TLS does not come about, or ends in an alert.
    """
    answer = bytearray()
    plain = socket.create_connection((LOOPBACK, port), timeout=seconds)
    with closing(plain):
        spoken = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
        with closing(spoken), suppress(ConnectionError):
            spoken.sendall(data)
            while piece := spoken.recv(1 << 16):
                answer += piece
    return bytes(answer)


def status_of(answer: bytes) -> int:
    """0: none, because it is no answer of HTTP's."""
    match = _STATUS.match(answer)
    return int(match[1]) if match else 0

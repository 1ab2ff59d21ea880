"""Where the node is, and a connection to it: ``http``, ``https`` or a unix socket."""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import Literal
from urllib.parse import urlsplit

from attrs import frozen

from txglancecache.cli.outcome import UsageError

DEFAULT_URL = "http://127.0.0.1:9394"
_PORT = 9394
_EXAMPLES = f"such as {DEFAULT_URL}, https://node:9394 or unix:/run/txglancecache/manage.sock"


@frozen
class Certificates:
    """How a node is trusted, and how it may know us. Each is the name of a PEM file."""

    authorities: str | None = None
    certificate: str | None = None
    key: str | None = None
    insecure: bool = False

    def context(self) -> ssl.SSLContext:
        """:raises UsageError: where a file cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.authorities)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(filter(None, [self.authorities, self.certificate, self.key]))
            raise UsageError(f"cannot use {names}: {error.strerror or error}") from None
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@frozen
class Address:
    """A node's management site."""

    scheme: Literal["http", "https", "unix"]
    host: str
    port: int
    path: str
    """Of the socket, or before every path of the API."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """:raises UsageError: with what to write instead."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            path = path.removeprefix("//") if path.startswith("///") else path
            if not path.startswith("/"):
                raise UsageError(f"{text!r} names no socket: write it {_EXAMPLES}")
            return cls("unix", "localhost", 0, path)
        try:
            parts = urlsplit(text)
            port = parts.port or _PORT
        except ValueError as error:
            raise UsageError(f"{text!r} is not a URL ({error}): write it {_EXAMPLES}") from None
        scheme = "https" if parts.scheme == "https" else "http"
        if (
            parts.scheme != scheme
            or not parts.hostname
            or parts.query
            or parts.fragment
            or "@" in parts.netloc
        ):
            raise UsageError(f"{text!r} is not the URL of a node: write it {_EXAMPLES}")
        return cls("https" if scheme == "https" else "http", parts.hostname, port, parts.path.rstrip("/"))

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def prefix(self) -> str:
        """What goes before the paths of the API."""
        return "" if self.scheme == "unix" else self.path

    def connection(self, certificates: Certificates, timeout: float) -> http.client.HTTPConnection:
        """A connection that is yet to be opened."""
        if self.scheme == "unix":
            return _UnixConnection(self.path, timeout)
        if self.scheme == "https":
            context = certificates.context()
            return http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=context)
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

"""A plain HTTP/1.1 client for tests: it hashes what it gets, reads as slowly as it is told and can leave
early.

It shares no code with the product, follows no redirect, retries nothing and keeps no connection."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse, IncompleteRead
from typing import Any
from urllib.parse import urlsplit

from attrs import define, frozen

Headers = Mapping[str, str]
_BUFFER = 2**18


@frozen
class Answer:
    """A whole answer, body and all."""

    status: int
    headers: HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@define(eq=False)
class Download:
    """A body that was read and hashed, as far as it came."""

    status: int
    headers: HTTPMessage
    size: int = 0
    sha512: str = ""
    first_byte: float = 0.0
    seconds: float = 0.0
    whole: bool = False

    @property
    def cache_status(self) -> str:
        return self.headers.get("Cache-Status", "")


class UnexpectedStatus(Exception):
    """A helper's own request was refused."""

    def __init__(self, method: str, url: str, answer: Answer) -> None:
        super().__init__(f"{method} {url}: {answer.status} {answer.body[:500]!r}")
        self.answer = answer


def _open(url: str, timeout: float) -> tuple[HTTPConnection, str]:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=timeout, blocksize=_BUFFER)
    return connection, parts.path + (f"?{parts.query}" if parts.query else "")


def authorized(token: str | None, headers: Headers | None = None) -> dict[str, str]:
    return {**({"X-Auth-Token": token} if token is not None else {}), **(headers or {})}


def request(
    method: str,
    url: str,
    *,
    token: str | None = None,
    headers: Headers | None = None,
    body: bytes | Iterable[bytes] | None = None,
    timeout: float = 120,
) -> Answer:
    """One exchange. A body that is no `bytes` is sent in chunks unless `headers` tell its length."""
    connection, target = _open(url, timeout)
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have answered early
            connection.request(method, target, body, authorized(token, headers))
        response = connection.getresponse()
        return Answer(response.status, response.msg, response.read())
    finally:
        connection.close()


def call(
    method: str,
    url: str,
    *,
    token: str | None = None,
    headers: Headers | None = None,
    payload: object = None,
) -> Answer:
    """A JSON request that has to succeed."""
    content = {"Content-Type": "application/json", **(headers or {})}
    body = None if payload is None else json.dumps(payload).encode()
    answer = request(method, url, token=token, headers=content, body=body)
    if not 200 <= answer.status < 300:
        raise UnexpectedStatus(method, url, answer)
    return answer


def download(
    url: str,
    *,
    token: str | None = None,
    headers: Headers | None = None,
    rate: float | None = None,
    leave: Callable[[int], bool] = lambda size: False,
    on_first_byte: Callable[[], None] = lambda: None,
    timeout: float = 120,
) -> Download:
    """GET `url` and hash the body. `rate`: read no faster than so many bytes a second; `leave`: hang up when
    it says so of the number of bytes that are in. A body that is cut short is a Download that is not
    `whole`."""
    connection, target = _open(url, timeout)
    started = time.monotonic()
    try:
        connection.request("GET", target, headers=authorized(token, headers))
        response = connection.getresponse()
        result = Download(response.status, response.msg)
        _consume(response, result, started, rate, leave, on_first_byte)
        return result
    finally:
        connection.close()


def after(count: int) -> Callable[[int], bool]:
    """For `leave`: when so many bytes are in."""
    return lambda size: size >= count


def _consume(
    response: HTTPResponse,
    result: Download,
    started: float,
    rate: float | None,
    leave: Callable[[int], bool],
    on_first_byte: Callable[[], None],
) -> None:
    digest = hashlib.sha512()
    buffer = memoryview(bytearray(_BUFFER if rate is None else int(min(_BUFFER, max(4096, rate / 20)))))
    try:
        while count := response.readinto(buffer):
            if not result.size:
                result.first_byte = time.monotonic() - started
                on_first_byte()
            digest.update(buffer[:count])
            result.size += count
            if leave(result.size):
                return
            if rate is not None:
                time.sleep(max(0.0, result.size / rate - (time.monotonic() - started)))
        # readinto() takes a body that ends early for a whole one
        expected = response.headers.get("Content-Length")
        result.whole = expected is None or int(expected) == result.size
    except (IncompleteRead, HTTPException, ConnectionError):
        return
    finally:
        result.seconds = time.monotonic() - started
        result.sha512 = digest.hexdigest()

"""The load, against the bare server that it also measures."""

import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from benchmarks.client import Load, LoadFailed, run
from benchmarks.origin import Origin, Settings, Stored
from tests.cloud.ports import free_port
from tests.cloud.proxy import eventually

_SIZE = 3_000_000
_IMAGE = "/v2/images/00000001-0000-4000-8000-000000000000"


@pytest.fixture
def origin(tmp_path: Path) -> Callable[..., int]:
    """Start the bare server with one body; returns its port."""

    def start(rate: float = 0.0) -> int:
        path = tmp_path / "body"
        path.write_bytes(bytes(_SIZE))
        port = free_port()
        settings = Settings(port, {"00000001": Stored(str(path), _SIZE, "ab" * 64)}, rate)
        threading.Thread(target=Origin(settings).serve, daemon=True).start()
        assert eventually(lambda: _listens(port))
        return port

    return start


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answer(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return response.status, response.read()


def test_every_client_gets_every_body(origin: Callable[..., int]) -> None:
    came = run(Load(origin(), f"{_IMAGE}/file", clients=3, requests=2))
    assert (came.bytes, came.responses) == (6 * _SIZE, 6)
    assert came.last > 0


def test_a_window_counts_what_came_within_it(origin: Callable[..., int]) -> None:
    """At a rate that is known, over a time that is known."""
    calls: list[str] = []
    load = Load(origin(rate=4e6), f"{_IMAGE}/file", clients=2, seconds=1.0, settle=2.0)
    came = run(load, lambda: calls.append("begin"), lambda: calls.append("end"))
    assert calls == ["begin", "end"]
    assert 0.9 < came.seconds < 20
    assert came.bytes_per_second < 10e6  # more if what came before were counted


def test_the_origin_answers_as_glance_does(origin: Callable[..., int]) -> None:
    """Metadata, and the check: nothing lies behind the last byte."""
    port = origin()
    status, body = _answer(port, _IMAGE)
    assert (status, json.loads(body)["size"]) == (200, _SIZE)
    assert _answer(port, f"{_IMAGE}/file", Range=f"bytes={_SIZE}-")[0] == 416
    assert _answer(port, f"{_IMAGE}/file", Range="bytes=10-19") == (206, bytes(10))
    assert _answer(port, "/v2/images/00000002-0000-4000-8000-000000000000/file")[0] == 404
    assert json.loads(_answer(port, "/sent")[1]) == {f"{_IMAGE}/file": 10}


def _scripted(*pieces: bytes) -> Iterator[int]:
    """A server that sends these pieces to its first client, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(65536)
                for piece in pieces:
                    client.sendall(piece)
                    threading.Event().wait(0.05)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"], "7 bytes early"),
        ([b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], "404"),
        ([b"HTTP/1.1 200 OK\r\n\r\nabc"], "without Content-Length"),
        ([], "closed before an answer"),
    ],
)
def test_what_is_no_whole_body_is_a_failure(pieces: list[bytes], reason: str) -> None:
    """A server that refuses, or stops short, is not measured as a fast one."""
    for port in _scripted(*pieces):
        with pytest.raises(LoadFailed, match=reason):
            run(Load(port, "/", requests=1, deadline=60))


@pytest.mark.parametrize("cut", range(1, 42, 5))
def test_a_head_may_come_in_pieces(cut: int) -> None:
    """Wherever it is cut, and with the body right behind it."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    for port in _scripted(answer[:cut], answer[cut:]):
        assert run(Load(port, "/", requests=1, deadline=60)).bytes == 3


def test_a_body_whose_size_is_not_said() -> None:
    """It is told to the load instead."""
    for port in _scripted(b"HTTP/1.1 200 OK\r\n\r\n", b"abc"):
        assert run(Load(port, "/", requests=1, deadline=5, size=3)).bytes == 3


def test_silence_ends() -> None:
    """A server that says nothing is given up."""
    for port in _scripted(*itertools.repeat(b"", 30)):
        with pytest.raises(LoadFailed, match="1 of 1 not done"):
            run(Load(port, "/", requests=1, deadline=0.3))

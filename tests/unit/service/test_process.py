"""What a node does to the process that it runs in."""

from __future__ import annotations

import os
import pwd
import socket
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.base import ReactorBase
from twisted.logger import capturedLogs
from twisted.web.http import Request, combinedLogFormatter
from twisted.web.test.requesthelper import DummyChannel

from txglancecache.errors import ConfigurationError
from txglancecache.service import process


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Whose process this is; starts as root's, and changes as the code under test wants it."""
    now = {"uid": 0, "gid": 0}

    def become(name: str) -> Callable[[int], None]:
        return lambda number: now.update({name: number})

    monkeypatch.setattr(os, "geteuid", lambda: now["uid"])
    monkeypatch.setattr(os, "seteuid", become("uid"))
    monkeypatch.setattr(os, "setegid", become("gid"))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_gid=uid + 1000))
    return now


@pytest.mark.parametrize(
    ("uid", "gid", "owner"),
    [
        (None, None, {"uid": 0, "gid": 0}),
        (33, None, {"uid": 33, "gid": 1033}),
        (33, 44, {"uid": 33, "gid": 44}),
        (None, 44, {"uid": 0, "gid": 44}),
    ],
)
def test_owner(identity: dict[str, int], uid: int | None, gid: int | None, owner: dict[str, int]) -> None:
    """What root makes belongs to the user that twistd is going to become, whatever happens meanwhile."""
    with process.owned_by(uid, gid):
        assert identity == owner
    assert identity == {"uid": 0, "gid": 0}
    with pytest.raises(OSError, match="no"), process.owned_by(uid, gid):
        raise OSError("no")
    assert identity == {"uid": 0, "gid": 0}


def test_owner_without_privileges(identity: dict[str, int]) -> None:
    """Who is not root cannot make things for others, and twistd is going to say so."""
    identity.update(uid=7, gid=7)
    with process.owned_by(33, 33):
        assert identity == {"uid": 7, "gid": 7}


def test_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours that ends the process is one line; any other keeps its traceback."""
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    others: list[Any] = []
    monkeypatch.setattr(sys, "__excepthook__", lambda *about: others.append(about))
    ours, other = ConfigurationError("the port is taken"), ZeroDivisionError()
    process.one_line(ConfigurationError, ours, None)
    process.one_line(ZeroDivisionError, other, None)
    assert capsys.readouterr().err == "twistd glancecache: the port is taken\n"
    assert others == [(ZeroDivisionError, other, None)]


class Reactor(ReactorBase):
    """One that keeps time and does nothing else."""

    def installWaker(self) -> None:
        """Nobody wakes it."""


def test_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time-outs do not go by the time of day, which somebody may set."""
    reactor = Reactor()
    process.go_by_uptime(reactor)
    now = reactor.seconds()
    monkeypatch.setattr(time, "time", lambda: now + 1e9)
    assert now <= reactor.seconds() < now + 100
    assert 0 < reactor.callLater(100, list).getTime() - now < 200


def test_access_log() -> None:
    """Its lines have the time of day, whatever clock the site goes by."""
    request = Request(DummyChannel(), False)
    request.method, request.uri, request.clientproto = b"GET", b"/", b"HTTP/1.1"
    assert f"/{datetime.now(UTC).year}:" in process.access_line("[01/Jan/1970:00:00:00 +0000]", request)


def test_access_log_tells_no_secrets() -> None:
    """No query, be it of the request or of where it came from; and nothing that a terminal would obey."""
    request = Request(DummyChannel(), False)
    request.method, request.uri, request.clientproto = b"GET", b"/v2/x?temp_url_sig=secret", b"HTTP/1.1"
    request.requestHeaders.setRawHeaders(b"Referer", [b"http://there/?token=secret", b"again"])
    request.requestHeaders.setRawHeaders(b"User-Agent", [b"curl\x1b[31m\x9b31m\r\nforged"])
    line = process.access_line("", request)
    assert "GET /v2/x HTTP/1.1" in line
    assert "secret" not in line
    assert "curl" in line
    assert line.isprintable()


def test_access_log_of_an_answer_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Says of the cache what the answer said, behind what all web servers write, quotes and all."""
    monkeypatch.setattr(process, "datetimeToLogString", lambda: "[now]")
    request = Request(DummyChannel(), False)
    request.method, request.uri, request.clientproto = b"GET", b"/'\"", b"HTTP/1.1"
    request.sentLength = 7
    there = process.access_line("", request)
    assert there == combinedLogFormatter("[now]", request)
    request.cache_status = b"node; hit"
    assert process.access_line("", request) == there + ' "node; hit"'


def test_access_log_of_odd_requests() -> None:
    """A fragment, an absolute target, no referrer: a line each."""
    request = Request(DummyChannel(), False)
    request.method, request.clientproto = b"GET", b"HTTP/1.1"
    for uri in (b"/a#secret", b"http://there/a#secret?secret", b"*"):
        request.uri = uri
        line = process.access_line("", request)
        assert uri.partition(b"#")[0].decode() in line
        assert "secret" not in line


@pytest.mark.parametrize("abstract", [False, True], ids=["file", "abstract"])
def test_telling_the_supervisor(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd hears on its socket what it is told."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind("\0" + path if abstract else path)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + path if abstract else path)
        process.tell_supervisor("READY=1")
        assert supervisor.recv(100) == b"READY=1"


def test_nobody_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a supervisor there is nothing to do; one that is not there is no reason to fail."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    process.tell_supervisor("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    with capturedLogs() as events:
        process.tell_supervisor("READY=1")
    assert [event["state"] for event in events] == ["READY=1"]


def test_starved() -> None:
    """The kernel counts for how long a thread waits for a processor; it never gets less."""
    before = process.starved()
    sum(range(100_000))
    assert 0 <= before <= process.starved() < 1e6

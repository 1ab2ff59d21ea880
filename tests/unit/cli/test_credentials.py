"""When a token is sent, and where it comes from."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from attrs import define

from tests.unit.cli.conftest import Shell
from tests.unit.cli.node import A, B, event

TOKEN = "gAAAAABtoken"


def tokens(shell: Shell) -> list[str | None]:
    return [headers.get("X-Auth-Token") for headers in shell.node.headers]


def test_none(shell: Shell) -> None:
    """A node that asks for no token gets none, though there are credentials in the environment."""
    shell.environ["OS_TOKEN"] = TOKEN
    shell.ok("list")
    assert tokens(shell) == [None]


def test_asked_for(shell: Shell) -> None:
    """A node that asks for a token gets it, in the same command and from then on."""
    shell.node.token = TOKEN
    shell.environ["OS_TOKEN"] = TOKEN
    shell.ok("status")
    assert tokens(shell) == [None, TOKEN, TOKEN]


def test_given(shell: Shell) -> None:
    """A token that the command line has is sent at once."""
    shell.node.token = TOKEN
    shell.ok("--os-token", TOKEN, "list")
    shell.ok("list", "--os-token", TOKEN)
    assert tokens(shell) == [TOKEN, TOKEN]


def test_nobody(shell: Shell) -> None:
    """Without any credentials one is told how to give them."""
    shell.node.token = TOKEN
    done = shell.run("list")
    assert done.code == 5
    assert "asks for a Keystone token: set OS_CLOUD" in done.err


def test_wrong(shell: Shell) -> None:
    """A token that the node does not take is not tried twice."""
    shell.node.token = TOKEN
    done = shell.run("list", "--os-token", "another")
    assert (done.code, done.err) == (5, "txglancecache: a token is needed\n")
    assert len(shell.node.asked) == 1


def test_not_for_a_header(shell: Shell) -> None:
    """A token that no header can carry does not leave this machine."""
    assert shell.run("list", "--os-token", "a\nb").code == 2
    assert shell.node.asked == []


def test_incomplete(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials that lack something are told as what they are."""
    monkeypatch.chdir(tmp_path)
    done = shell.run("list", "--os-username", "alice")
    assert done.code == 5
    assert "the credentials lack auth_url" in done.err.replace("auth-url", "auth_url")


def test_no_such_cloud(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cloud that clouds.yaml does not have is a mistake in the command."""
    monkeypatch.chdir(tmp_path)
    done = shell.run("list", "--os-cloud", "nowhere")
    assert done.code == 2
    assert "nowhere" in done.err


def test_no_keystone(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Keystone that does not answer is as bad as a node that does not."""
    monkeypatch.chdir(tmp_path)
    words = ["--os-auth-url", "http://127.0.0.1:1/v3", "--os-username", "a", "--os-password", "secret"]
    done = shell.run(
        "list", *words, "--os-project-name", "p", "--os-user-domain-id", "d", "--os-project-domain-id", "d"
    )
    assert done.code == 4
    assert done.err.startswith("txglancecache: Keystone does not answer: ")
    assert "secret" not in done.err


@define(eq=False)
class Keystone:
    """Issues a token after the other to whoever knows the password."""

    url: str = ""
    issued: int = 0

    def last(self) -> str:
        return f"token-{self.issued}"

    def words(self) -> list[str]:
        """The options that name an account here."""
        given = {"auth-url": f"{self.url}/v3", "username": "alice", "password": "secret"}
        domains = {"user-domain-id": "d", "project-name": "p", "project-domain-id": "d"}
        return [word for name, value in {**given, **domains}.items() for word in (f"--os-{name}", value)]


@pytest.fixture
def keystone() -> Iterator[Keystone]:
    keystone = Keystone()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            links = [{"rel": "self", "href": f"{keystone.url}/v3"}]
            self._reply(200, {"version": {"id": "v3.14", "status": "stable", "links": links}})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert asked["auth"]["identity"]["password"]["user"]["password"] == "secret"
            keystone.issued += 1
            self._reply(201, {"token": {"expires_at": "2999-01-01T00:00:00Z"}})

        def _reply(self, status: int, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("X-Subject-Token", keystone.last())
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        keystone.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=lambda: server.serve_forever(0.01))
        thread.start()
        try:
            yield keystone
        finally:
            server.shutdown()
            thread.join()


def test_waiting_longer_than_a_token_lives(shell: Shell, keystone: Keystone) -> None:
    """Credentials give a new one as often as the node does not take the old one any more."""
    shell.node.token = "token-1"

    def expire() -> None:
        shell.node.token = f"token-{keystone.issued + 1}"

    shell.time.at_each = expire
    shell.node.work = lambda job: job.update(state="done" if keystone.issued > 3 else "running")
    done = shell.run(*keystone.words(), "prefetch", A, "--wait")
    assert (done.code, keystone.issued) == (0, 4)


def test_watching_longer_than_a_token_lives(shell: Shell, keystone: Keystone) -> None:
    """The stream goes on with a new one."""
    shell.node.token = "token-1"
    shell.time.at_each = lambda: setattr(shell.node, "token", "token-2")
    shell.node.streams = [[event(1)], [event(2, image_id=B)]]
    done = shell.run(*keystone.words(), "watch", "--limit", "2")
    assert (done.code, keystone.issued) == (0, 2)
    assert (A in done.out, B in done.out) == (True, True)


def test_no_token_is_good_enough(shell: Shell, keystone: Keystone) -> None:
    """One that is new and refused all the same is the end."""
    shell.node.token = TOKEN
    done = shell.run(*keystone.words(), "list")
    assert (done.code, done.err) == (5, "txglancecache: a token is needed\n")
    assert keystone.issued == 2
    assert len(shell.node.asked) == 2


def test_a_given_token_is_the_only_one(shell: Shell, keystone: Keystone) -> None:
    """Where it is one from the environment nobody can make another of it."""
    shell.node.token = TOKEN
    shell.environ |= {"OS_TOKEN": TOKEN, "OS_AUTH_URL": f"{keystone.url}/v3", "OS_PASSWORD": "secret"}
    shell.time.at_each = lambda: setattr(shell.node, "token", "another")
    done = shell.run("prefetch", A, "--wait")
    assert (done.code, keystone.issued) == (5, 0)

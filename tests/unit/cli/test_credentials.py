"""When a token is sent, and where it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Shell

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

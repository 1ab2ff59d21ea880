"""The arguments, the help, and which trouble is which exit status."""

from __future__ import annotations

import argparse
import re
import shlex
import ssl
from pathlib import Path

import pytest

from tests.unit.certificates import write_certificate
from tests.unit.cli.conftest import Shell
from tests.unit.cli.node import A, FakeNode, image, running
from txglancecache.cli.arguments import COMMANDS, parser
from txglancecache.cli.command import Command
from txglancecache.cli.outcome import Exit


def all_commands(
    commands: tuple[Command, ...] = COMMANDS, above: tuple[str, ...] = ()
) -> list[tuple[str, ...]]:
    found = []
    for command in commands:
        found.append((*above, command.name))
        found += all_commands(tuple(command.children), (*above, command.name))
    return found


def test_help(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """The help names every command, exit status and variable."""
    assert shell.run("--help").code == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n    {command.name} " in shown
    for status in Exit:
        assert re.search(rf"^ +{int(status)}  \w", shown, re.MULTILINE)
    assert "TXGLANCECACHE_URL" in shown
    assert "--os-cloud" in shown


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_help_of_a_command(shell: Shell, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Each command's help has examples, which are what it takes."""
    assert shell.run(*words, "--help").code == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 110
    examples = re.findall(r"^  txglancecache (.*)$", shown, re.MULTILINE)
    assert examples
    for example in examples:
        first = re.split(r" [|] | && | [|][|] ", example)[0]
        parsed = parser({}).parse_args(shlex.split(re.sub(r"\$\(.*\)", A, first)))
        assert isinstance(parsed, argparse.Namespace)


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        (),
        ("show",),
        ("list", "--stat", "complete"),
        ("list", "--limit", "0"),
        ("list", "--sort", "colour"),
        ("prune", "--to", "10G"),
        ("status", "--timeout", "-1"),
        ("status", "--url", "ftp://node"),
        ("status", "--url", "unix:relative"),
        ("status", "--url", "http://user@node"),
        ("status", "--url", "http://node:port"),
        ("status", "--url", "https://node", "--cacert", "/nonexistent.pem"),
    ],
    ids=" ".join,
)
def test_usage(shell: Shell, words: tuple[str, ...]) -> None:
    """What makes no sense is 2, and nobody is asked."""
    assert shell.run(*words).code == 2
    assert shell.node.asked == []


def test_unreachable(shell: Shell) -> None:
    """A node that does not answer is 4."""
    done = shell.run("--url", "http://127.0.0.1:1", "status")
    assert (done.code, done.out) == (4, "")
    assert done.err == "txglancecache: cannot reach http://127.0.0.1:1: Connection refused\n"
    assert shell.run("--url", "unix:/nonexistent", "status").code == 4


def test_url(shell: Shell) -> None:
    """The option wins over the variable, wherever it is."""
    good = shell.node.url
    shell.node.url = "http://127.0.0.1:1"
    assert shell.run("clean").code == 4
    assert shell.run("--url", good, "clean").code == 0
    assert shell.run("clean", "--url", good + "/").code == 0


def test_unix_socket(tmp_path: Path) -> None:
    """A node may be on a unix socket."""
    with running(FakeNode(images={A: image(A)}), tmp_path / "socket") as node:
        assert Shell(node).ok("list", "-q") == f"{A}\n"
        assert node.headers[0]["Host"] == "localhost"


def test_tls(tmp_path: Path) -> None:
    """A node with TLS is trusted by its certificate, or blindly, and may ask for one."""
    pem, other = write_certificate(tmp_path / "node.pem"), write_certificate(tmp_path / "other.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.load_verify_locations(pem)
    context.verify_mode = ssl.CERT_REQUIRED
    with running(FakeNode(), tls=context) as node:
        shell = Shell(node)
        mine = ["--cert", str(pem)]
        shell.ok("clean", "--cacert", str(pem), *mine)
        shell.ok("clean", "--insecure", *mine)
        shell.environ |= {"TXGLANCECACHE_CACERT": str(pem), "TXGLANCECACHE_CERT": str(pem)}
        shell.ok("clean")
        done = shell.run("clean", "--cacert", str(other))
        assert done.code == 4
        assert done.err.startswith(f"txglancecache: cannot trust {node.url}: ")
        assert done.err.count("\n") == 1
        assert shell.run("clean", "--cert", str(other)).code == 4


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 1), (401, 5), (403, 5), (404, 3), (409, 1), (429, 1), (500, 1), (503, 1), (302, 1)],
)
def test_errors(shell: Shell, status: int, code: int) -> None:
    """What the node refuses is told in its own words, and its kind in the exit status."""
    shell.node.failure = (status, b'{"error": {"code": 1, "title": "t", "message": "not today"}}')
    done = shell.run("clean")
    assert (done.code, done.out, done.err) == (code, "", "txglancecache: not today\n")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"error": null}', b""])
def test_errors_of_others(shell: Shell, body: bytes) -> None:
    """Whatever answers there, it is told as what it is."""
    shell.node.failure = (502, body)
    done = shell.run("clean")
    assert (done.code, done.err) == (1, "txglancecache: the node answers 502 Bad Gateway\n")


def test_something_else(shell: Shell) -> None:
    """A success that is no JSON does not come from a node."""
    shell.node.failure = (200, b"<html>")
    done = shell.run("clean")
    assert done.code == 1
    assert "is this a node's management site?" in done.err


def test_timeout(shell: Shell) -> None:
    """A node that takes too long is one that does not answer."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = shell.run("--url", url, "--timeout", "0.05", "clean")
    assert (done.code, done.err) == (4, f"txglancecache: {url} does not answer in time\n")

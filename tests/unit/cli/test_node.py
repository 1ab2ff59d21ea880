"""`status`, `events`, `watch`, and the upkeep: `prune`, `clean`, `quarantine`."""

from __future__ import annotations

import json

import pytest

from tests.unit.cli.conftest import Shell
from tests.unit.cli.node import GIB, A, B, event, image, job


def test_status(shell: Shell) -> None:
    """The node at a glance."""
    shell.node.images = {A: image(A)}
    shell.node.jobs = {1: job(1, B, "running"), 2: job(2, B), 3: job(3, B)}
    assert shell.ok("status").splitlines() == [
        "node       edge-7, txglancecache 0.1.0, up 3 d 4 h",
        "origin     http://glance:9292",
        "access     everybody who reaches it",
        "ready      yes",
        "cache      43 GiB of 100 GiB in 1 image",
        f"           {'█' * 12}{'░' * 18} 43 %",
        "disk       300 GiB free, 1 GiB of it to stay so",
        "downloads  200: 120 hits, 76 shared a fetch, 4 misses (98 % saved)",
        "sent       600 GiB, 12 GiB fetched from the origin",
        "queue      1 running, 2 queued",
    ]


def test_not_ready(shell: Shell) -> None:
    """What keeps a node from its work is told; `--check` makes it an exit status."""
    shell.node.checks = {"origin": "connection refused"}
    assert "ready      no\n           origin: connection refused\n" in shell.ok("status")
    assert shell.run("status", "--check").code == 6
    done = shell.run("status", "--check", "--format", "json")
    assert (done.code, done.json["ready"]["ready"], done.json["node"]) == (6, False, "edge-7")


def test_events(shell: Shell) -> None:
    """The latest events."""
    shell.node.events = [event(1, "fill-started"), event(2, detail="3 GiB")]
    lines = shell.ok("events").splitlines()
    assert lines[0].split() == ["TIME", "EVENT", "IMAGE", "DETAIL"]
    assert lines[2].split()[2:] == ["fill-finished", A, "3", "GiB"]
    assert shell.run("events", "--format", "json").json == {"events": shell.node.events}
    shell.node.events.clear()
    assert shell.run("events", tty=True).err == "txglancecache: nothing has happened yet\n"
    assert shell.ok("events") == ""


def test_watch(shell: Shell) -> None:
    """Events as they come; a connection that breaks is made again from where it broke."""
    shell.node.streams = [[event(1), event(2)], [event(3, "evicted", detail="for room")]]
    done = shell.run("watch", "--limit", "3")
    assert done.code == 0
    assert [line.split()[2] for line in done.out.splitlines()] == [
        "fill-finished",
        "fill-finished",
        "evicted",
    ]
    assert done.out.endswith(f"  evicted              {A}  for room\n")
    assert done.err == "txglancecache: the node has ended the stream; trying again\n"
    assert [headers.get("Last-Event-ID") for headers in shell.node.headers] == [None, "5e0c94d1-2"]


def test_watch_of_a_quiet_node(shell: Shell) -> None:
    """It comes back to where it began, when nothing has happened: the node may have been restarted."""
    shell.node.streams = [[], [event(1, process="a1b2c3d4")]]
    assert shell.run("watch", "--limit", "1").code == 0
    assert [headers.get("Last-Event-ID") for headers in shell.node.headers] == [None, "5e0c94d1-0"]


def test_watch_over_a_restart(shell: Shell) -> None:
    """The serials of another process begin anew; its events are shown all the same."""
    shell.node.streams = [[event(300)], [event(1, process="a1b2c3d4")], [event(2, process="a1b2c3d4")]]
    done = shell.run("watch", "--format=json", "--limit", "3")
    assert [json.loads(line)["serial"] for line in done.out.splitlines()] == [300, 1, 2]
    assert [headers.get("Last-Event-ID") for headers in shell.node.headers] == [
        None,
        "5e0c94d1-300",
        "a1b2c3d4-1",
    ]


def test_watch_as_json(shell: Shell) -> None:
    """A document on each line, of the kind that is wanted."""
    shell.node.streams = [[event(8), event(9, "evicted")]]
    done = shell.run("watch", "--format=json", "--since", "5e0c94d1-7", "--kind", "evicted", "--limit", "1")
    assert json.loads(done.out) == event(9, "evicted")
    assert shell.node.headers[0]["Last-Event-ID"] == "5e0c94d1-7"


def test_watch_of_a_restarted_node(shell: Shell) -> None:
    """A node that was there is asked again until it is back, less and less often, and that is said once."""
    shell.node.streams = [[event(1)]]

    def come_back() -> None:
        if shell.time.now > 10_020:
            shell.node.streams = [[event(2)]]

    shell.time.at_each = come_back
    done = shell.run("watch", "--limit", "2")
    assert done.code == 0
    assert done.err.count("\n") == 1
    assert len(shell.node.asked) == 8


def test_watch_of_nothing(shell: Shell) -> None:
    """A node that has no stream to begin with is not waited for."""
    assert shell.run("watch").code == 1


def test_watch_until_interrupted(shell: Shell) -> None:
    """Ctrl-C ends it."""
    shell.node.streams = [[]]

    def interrupt() -> None:
        raise KeyboardInterrupt

    shell.time.at_each = interrupt
    assert shell.run("watch").code == 130


def test_prune(shell: Shell) -> None:
    """To the limits, or to a size."""
    assert shell.ok("prune") == "freed 5 GiB in 2 files\n"
    assert shell.ok("prune", "--to", "10GiB") == "freed 5 GiB in 2 files\n"
    assert shell.node.bodies == [{}, {"target": 10 * GIB}]
    assert shell.run("prune", "--format", "json").json == {"files": 2, "bytes": 5 * GIB}


def test_clean(shell: Shell) -> None:
    """What went."""
    assert shell.ok("clean") == "freed 1 GiB in 1 file\n"


@pytest.fixture
def _quarantined(shell: Shell) -> None:
    shell.node.quarantine = [
        {"name": "b1", "image_id": A, "size": GIB, "allocated": GIB, "time": 1000.0},
        {"name": "b2", "image_id": None, "size": GIB, "allocated": GIB, "time": 1000.0},
    ]


@pytest.mark.usefixtures("_quarantined")
def test_quarantine(shell: Shell) -> None:
    """What is there, and removing it once somebody has said so."""
    lines = shell.ok("quarantine").splitlines()
    assert lines[1].split()[:4] == ["b1", A, "1", "GiB"]
    assert lines[2].split()[:2] == ["b2", "-"]
    assert len(shell.run("quarantine", "list", "--format=json").json["files"]) == 2
    assert "quarantine  2 GiB" in shell.ok("status")
    assert shell.run("quarantine", "clear").code == 2
    assert shell.run("quarantine", "clear", tty=True, stdin="\n").code == 1
    assert len(shell.node.quarantine) == 2
    assert shell.ok("quarantine", "clear", "--yes") == "freed 2 GiB in 2 files\n"
    assert shell.ok("quarantine", "clear") == "freed 0 B in 0 files\n"
    assert shell.run("quarantine", tty=True).err == "txglancecache: nothing is in quarantine\n"

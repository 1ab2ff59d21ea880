"""The stream of events of a real node, and those who follow it, over a restart."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.imitation import Imitation
from tests.cloud.ports import LOOPBACK
from tests.integration.endless import endless
from tests.integration.launching import PATIENCE, Launch

PROGRAM = Path(sys.executable).with_name("txglancecache")
#: As many images as a request may name.
MANY = 1000


@pytest.fixture
def origin() -> Iterator[Imitation]:
    origin = Imitation(endless)
    yield origin
    origin.close()


@pytest.fixture
def node(tmp_path: Path, origin: Imitation) -> Iterator[Launch]:
    """A node with one image in its cache."""
    node = Launch(tmp_path)
    try:
        node.start(*node.flags(origin=origin.url))
        with closing(http.client.HTTPConnection(LOOPBACK, node.data_port, timeout=PATIENCE)) as connection:
            connection.request("GET", "/v2/images/image-0/file")
            connection.getresponse().read()
        node.until(lambda: node.ask("GET", "/cache/images/image-0")[1]["complete"])
        yield node
    finally:
        node.clean_up()


def happens(node: Launch, times: int) -> list[str]:
    """Something does; the ids of all events that the process knows of."""
    for _ in range(times):
        assert node.ask("PUT", "/cache/images/image-0/pin")[0] == 204
        assert node.ask("DELETE", "/cache/images/image-0/pin")[0] == 204
    return [event["id"] for event in node.ask("GET", "/cache/events")[1]["events"]]


@contextmanager
def stream(node: Launch, last: str) -> Iterator[Iterator[Any]]:
    """The events after the one with this id, and those to come."""
    with closing(http.client.HTTPConnection(LOOPBACK, node.manage_port, timeout=PATIENCE)) as connection:
        fields = {"Accept": "text/event-stream", "Last-Event-ID": last}
        connection.request("GET", "/cache/events", headers=fields)
        lines = connection.getresponse()
        assert lines.readline().startswith(b"retry: ")
        data = (line[6:] for line in iter(lines.readline, b"") if line.startswith(b"data: "))
        yield map(json.loads, data)


def test_watch_over_a_restart(node: Launch, origin: Imitation) -> None:
    """What each of the two processes did is told once, in order, though both count from one."""
    first = happens(node, 1)
    wanted = len(first) + 20  # the second process gets further than the first
    command = [str(PROGRAM), "watch", "--since", "none", "--format=json", "--limit", str(wanted)]
    environment = {"TXGLANCECACHE_URL": f"http://{LOOPBACK}:{node.manage_port}"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as watch:
        try:
            assert watch.stdout is not None
            lines = [watch.stdout.readline() for _ in first]
            assert node.stop() == (0, "")
            node.start(*node.flags(origin=origin.url))
            second = happens(node, 10)
            out, errors = watch.communicate(timeout=PATIENCE)
        finally:
            watch.kill()
    told = [json.loads(line)["id"] for line in [*lines, *out.splitlines()]]
    assert (told, watch.returncode) == (first + second, 0)
    assert errors.count("\n") == 1


def test_a_thousand_at_once(node: Launch) -> None:
    """A listener gets all that a request for a thousand images causes, also if it comes back only then."""
    latest = happens(node, 0)[-1]
    images = [f"image-{number}" for number in range(1, MANY + 1)]
    with stream(node, latest) as events:
        with closing(http.client.HTTPConnection(LOOPBACK, node.manage_port, timeout=PATIENCE)) as connection:
            body = json.dumps({"images": images})
            connection.request("POST", "/cache/prefetch", body, {"Content-Type": "application/json"})
            assert connection.getresponse().status == 202
        assert node.ask("DELETE", "/cache/jobs")[0] == 200
        queued = (event["image_id"] for event in events if event["kind"] == "job-queued")
        assert list(islice(queued, MANY)) == images
    node.until(lambda: node.ask("GET", "/cache/jobs?state=running")[1]["total"] == 0)
    kept = happens(node, 0)
    with stream(node, kept[9]) as events:
        assert [next(events)["id"] for _ in kept[10:]] == kept[10:]

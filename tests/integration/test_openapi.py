"""The OpenAPI document and a running node say the same: schemathesis asks the node all that it allows, and
much that it does not."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud.imitation import Imitation
from tests.cloud.ports import LOOPBACK
from tests.integration.endless import body_of, endless
from tests.integration.launching import Launch
from txglancecache.management.native.routes import OPERATIONS

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
IMAGES = [f"image-{number}" for number in range(20)]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Launch]:
    """A node with some images in its cache, in front of a Glance that has every image."""
    origin = Imitation(endless)
    launch = Launch(tmp_path)
    try:
        launch.start(*launch.flags(origin=origin.url, max_size="64MiB"))
        connection = http.client.HTTPConnection(LOOPBACK, launch.data_port, timeout=30)
        for image_id in IMAGES:
            connection.request("GET", f"/v2/images/{image_id}/file")
            assert connection.getresponse().read() == body_of(image_id)
        connection.close()
        yield launch
    finally:
        launch.clean_up()
        origin.close()


@pytest.mark.timeout(600)
def test_document(node: Launch, tmp_path: Path) -> None:
    """Every answer is one that the document describes, whatever is asked; what it forbids is refused, what
    it allows is not; nothing is a bug."""
    ran = subprocess.run(
        [
            str(SCHEMATHESIS),
            f"--config-file={CONFIGURATION}",
            "run",
            f"http://{LOOPBACK}:{node.manage_port}/cache/openapi.json",
            "--checks=all",
            "--max-examples=20",
            "--seed=1",
            "--request-timeout=20",
            "--no-color",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
    )
    # A body that was made up may be as long as the longest that is allowed.
    report = "\n".join(line[:300] for line in (ran.stdout + ran.stderr).splitlines())
    assert ran.returncode == 0, report
    # To the tool /cache and /cache/ are one.
    assert f"Tested: {len(OPERATIONS) - 1}" in report, report
    for phase in ("Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in report, report
    assert "Traceback" not in node.log()
    assert node.stop() == (0, "")


def test_stream_ends_with_the_process(node: Launch) -> None:
    """A node that is told to stop does not wait for those who listen to its events."""
    connection = http.client.HTTPConnection(LOOPBACK, node.manage_port, timeout=30)
    connection.request("GET", "/cache/events", headers={"Accept": "text/event-stream", "Last-Event-ID": "0"})
    stream = connection.getresponse()
    assert stream.headers["Content-Type"] == "text/event-stream"
    assert stream.readline().startswith(b"retry: ")
    assert stream.readline() == b"\n"
    assert stream.readline().endswith(b"-1\n")
    assert node.stop() == (0, "")
    stream.read()
    assert "are cut off" not in node.log()


def test_measured(node: Launch) -> None:
    """What Prometheus reads tells what has been done."""
    node.until(lambda: measured(node)["txglancecache_readers"] == 0)
    node.until(lambda: measured(node)["txglancecache_reactor_lag_seconds_count"] > 0)
    values = measured(node)
    sent = sum(len(body_of(image_id)) for image_id in IMAGES)
    assert values["txglancecache_misses_total"] == len(IMAGES)
    assert values['txglancecache_sent_bytes_total{source="origin"}'] == sent
    assert values['txglancecache_sent_bytes_total{source="disk"}'] == 0
    assert values["txglancecache_fetched_bytes_total"] == sent
    assert values['txglancecache_first_byte_seconds_count{how="miss"}'] == len(IMAGES)
    assert values['txglancecache_origin_seconds_count{status="2xx"}'] > 0
    assert values["process_open_fds"] > 0


def measured(node: Launch) -> dict[str, float]:
    """Every measurement by its name and labels."""
    connection = http.client.HTTPConnection(LOOPBACK, node.manage_port, timeout=30)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


def test_body_that_is_too_long(node: Launch) -> None:
    """A body of more than 64 KiB is refused, and one without an end is not read to its end."""
    connection = http.client.HTTPConnection(LOOPBACK, node.manage_port, timeout=30)
    connection.request(
        "POST", "/cache/prune", body=b" " * (65 << 10), headers={"Content-Type": "application/json"}
    )
    answer = connection.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["error"]["code"] == 413
    connection.close()
    # A reset or a broken pipe, as it happens.
    with pytest.raises(OSError, match=r"."):
        connection.request("POST", "/cache/prune", body=b" " * (64 << 20))
    connection.close()

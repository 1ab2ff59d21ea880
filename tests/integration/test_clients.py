"""The programs that people use, with the proxy for their image endpoint and no other change."""

import hashlib
import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.images import Image
from tests.cloud.payload import MIB, FileBody, Payload
from tests.cloud.processes import environment
from tests.cloud.proxy import Proxy
from tests.cloud.relay import Relay

BODY = Payload(8 * MIB, seed=6)


class Client:
    """A user at a terminal, whose catalog names the proxy."""

    def __init__(self, cloud: Cloud, user: str) -> None:
        self._bin = cloud.installation.bin
        self._env = environment(cloud.client_environment(user))

    def run(self, program: str, *arguments: str | Path) -> str:
        command = [str(self._bin / program), *map(str, arguments)]
        keyboard, terminal = pty.openpty()  # `glance` takes any other standard input for an image
        try:
            done = subprocess.run(
                command, env=self._env, stdin=terminal, capture_output=True, text=True, timeout=120
            )
        finally:
            os.close(keyboard)
            os.close(terminal)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def alice(cloud: Cloud, proxy: Proxy) -> Iterator[Client]:
    cloud.identity.publish("image", proxy.url)
    yield Client(cloud, "alice")
    cloud.identity.publish("image", cloud.glance.url)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "body"
    path.write_bytes(BODY.data)
    return path


def assert_cached(image_id: str, proxy: Proxy, relay: Relay) -> None:
    """What was downloaded twice came from Glance once, and went to it once, all through the proxy."""
    exchanges = relay.of(f"/v2/images/{image_id}/file")
    assert [exchange.sent for exchange in exchanges if exchange.method == "PUT"] == [BODY.size]
    assert relay.moved(f"/v2/images/{image_id}/file") == BODY.size
    assert proxy.images()[image_id]["complete"]


def test_openstack(alice: Client, file: Path, proxy: Proxy, relay: Relay) -> None:
    """`openstack image create`, `image save` twice, `image delete`."""
    create = ("image", "create", "--disk-format", "raw", "--container-format", "bare", "--file", file, "it")
    image_id = json.loads(alice.run("openstack", *create, "-f", "json"))["id"]
    for name in ("first", "second"):
        copy = file.with_name(name)
        alice.run("openstack", "image", "save", "--file", copy, image_id)
        assert copy.read_bytes() == BODY.data
    assert_cached(image_id, proxy, relay)
    alice.run("openstack", "image", "delete", image_id)
    assert image_id not in proxy.images()


def test_glance(alice: Client, file: Path, proxy: Proxy, relay: Relay) -> None:
    """`glance image-create`, `image-upload`, `image-download` twice."""
    created = alice.run(
        "glance", "image-create", "--name", "it", "--disk-format", "raw", "--container-format", "bare"
    )
    image_id = next(line.split("|")[2].strip() for line in created.splitlines() if line.startswith("| id "))
    alice.run("glance", "image-upload", "--file", file, image_id)
    for name in ("first", "second"):
        copy = file.with_name(name)
        alice.run("glance", "image-download", "--file", copy, image_id)
        assert copy.read_bytes() == BODY.data
    assert_cached(image_id, proxy, relay)


SDK = """
import hashlib, json, openstack, sys
cloud = openstack.connect()
fields = {"disk_format": "raw", "container_format": "bare"}
image = cloud.create_image("by-sdk", filename=sys.argv[1], wait=True, **fields)
whole = cloud.image.download_image(image.id)
digest = hashlib.sha512()
for piece in cloud.image.download_image(image.id, stream=True).iter_content(2**16):
    digest.update(piece)
print(json.dumps([image.id, hashlib.sha512(whole.content).hexdigest(), digest.hexdigest()]))
"""


def test_openstacksdk(alice: Client, file: Path, proxy: Proxy, relay: Relay) -> None:
    """`create_image`, and `download_image` at once and as a stream."""
    image_id, *digests = json.loads(alice.run("python", "-c", SDK, file))
    assert digests == [BODY.sha512, BODY.sha512]
    assert_cached(image_id, proxy, relay)


@pytest.fixture(scope="module")
def _open_relay(cloud: Cloud) -> Iterator[Relay]:
    relay = Relay(cloud.open_images.url)
    relay.start()
    yield relay
    relay.close()


@pytest.fixture
def open_relay(_open_relay: Relay) -> Relay:
    _open_relay.calm()
    return _open_relay


@pytest.fixture(scope="module")
def open_proxy(start_proxy: ProxyFactory, _open_relay: Relay) -> Proxy:
    """In front of a Glance that asks nobody for a token."""
    return start_proxy(origin=_open_relay.url)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A raw disk of 64 MiB with data in two places."""
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
        file.write(BODY.data)
        file.seek(40 * MIB)
        file.write(BODY.data)
    return path


@pytest.fixture
def qcow2(cloud: Cloud, disk: Path) -> Image:
    """The same disk as an image."""
    path = disk.with_suffix(".qcow2")
    qemu_img("convert", "-O", "qcow2", disk, path)
    image_id = cloud.open_images.queue(disk_format="qcow2")
    cloud.open_images.upload(image_id, FileBody(path))
    return Image(image_id, "nobody", Payload(path.stat().st_size))


class TestQemu:
    """`qemu-img` over HTTP reads the parts that it wants. It has no way to send a token."""

    def test_info(self, qcow2: Image, open_proxy: Proxy, open_relay: Relay) -> None:
        """`qemu-img info` of a cold image."""
        info = json.loads(qemu_img("info", "--output", "json", open_proxy.url + qcow2.path))
        assert (info["format"], info["virtual-size"]) == ("qcow2", 64 * MIB)

    def test_convert(self, qcow2: Image, disk: Path, open_proxy: Proxy, open_relay: Relay) -> None:
        """`qemu-img convert` of a cold image and of one that is here give the same disk; the second moves no
        data."""
        moved = []
        for name in ("first", "second"):
            copy = disk.with_name(name)
            # -m 1: with more reads at once QEMU 7.2 hangs now and then, whatever server it reads from
            qemu_img("convert", "-m", "1", "-f", "qcow2", "-O", "raw", open_proxy.url + qcow2.path, copy)
            assert digest(copy) == digest(disk)
            moved.append(open_relay.moved(qcow2.path))
        assert 0 < moved[0] <= qcow2.size + 4 * MIB
        assert moved[1] == moved[0]


def qemu_img(*arguments: str | Path) -> str:
    command = ["qemu-img", *map(str, arguments)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha512").hexdigest()

"""The programs that people use, with the proxy for their image endpoint and no other change."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.cloud import Cloud
from tests.cloud.images import Image, Images
from tests.cloud.payload import MIB, FileBody, Payload
from tests.cloud.processes import environment
from tests.cloud.proxy import Proxy
from tests.cloud.relay import Relay
from tests.integration.conftest import ProxyFactory

BODY = Payload(8 * MIB, seed=6)


class Client:
    """A user's shell: the catalog names the proxy."""

    def __init__(self, cloud: Cloud, user: str) -> None:
        self._bin = cloud.installation.bin
        self._env = environment(cloud.client_environment(user))

    def run(self, program: str, *arguments: str | Path) -> str:
        command = [str(self._bin / program), *map(str, arguments)]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=120)
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
image = cloud.create_image("it", filename=sys.argv[1], disk_format="raw", container_format="bare", wait=True)
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


class TestQemu:
    """`qemu-img` over HTTP reads the parts that it wants. It has no way to send a token, so the Glance of
    these tests asks for none."""

    @pytest.fixture(scope="class")
    def open_relay(self, cloud: Cloud) -> Iterator[Relay]:
        relay = Relay(cloud.open_images.url)
        relay.start()
        yield relay
        relay.close()

    @pytest.fixture(scope="class")
    def open_proxy(self, start_proxy: ProxyFactory, open_relay: Relay) -> Proxy:
        return start_proxy(origin=open_relay.url)

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Path:
        """A disk of 64 MiB with data in two places."""
        path = tmp_path / "disk.raw"
        with path.open("wb") as disk:
            disk.truncate(64 * MIB)
            disk.write(BODY.data)
            disk.seek(40 * MIB)
            disk.write(BODY.data)
        return path

    @pytest.fixture
    def image(self, cloud: Cloud, raw: Path) -> Image:
        qcow2 = raw.with_suffix(".qcow2")
        qemu_img("convert", "-O", "qcow2", raw, qcow2)
        images: Images = cloud.open_images
        image_id = images.queue(disk_format="qcow2")
        images.upload(image_id, FileBody(qcow2))
        return Image(image_id, "nobody", Payload(qcow2.stat().st_size))

    def test_info(self, image: Image, open_proxy: Proxy, open_relay: Relay) -> None:
        """`qemu-img info` of a cold image."""
        info = json.loads(qemu_img("info", "--output", "json", open_proxy.url + image.path))
        assert (info["format"], info["virtual-size"]) == ("qcow2", 64 * MIB)

    def test_convert(self, image: Image, raw: Path, open_proxy: Proxy, open_relay: Relay) -> None:
        """`qemu-img convert` of a cold image and of one that is here give the same disk; the second moves no
        data."""
        for _ in range(2):
            copy = raw.with_name("copy.raw")
            qemu_img("convert", "-f", "qcow2", "-O", "raw", open_proxy.url + image.path, copy)
            assert digest(copy) == digest(raw)
            copy.unlink()
            moved = open_relay.moved(image.path)
            assert 0 < moved <= image.size + 4 * MIB
        assert moved == open_relay.moved(image.path)


def qemu_img(*arguments: str | Path) -> Any:
    command = ["qemu-img", *map(str, arguments)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha512").hexdigest()

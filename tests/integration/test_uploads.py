"""Uploads stream through: no disk, bounded memory, and Glance sees what the client did."""

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import h11
import pytest

from tests.cloud.client import authorized, request
from tests.cloud.cloud import Cloud
from tests.cloud.images import Image
from tests.cloud.payload import GIB, MIB, Payload
from tests.cloud.proxy import Proxy, eventually
from tests.cloud.relay import Relay

BIG = Payload(GIB, seed=7)
BODY = Payload(64 * MIB, seed=8)
OCTETS = {"Content-Type": "application/octet-stream"}


@contextlib.contextmanager
def watched(proxy: Proxy) -> Iterator[list[int]]:
    """The proxy's memory, ten times a second while the block runs."""
    samples = [proxy.rss()]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            samples.append(proxy.rss())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("framing", ["sized", "chunked"])
def test_a_gibibyte(framing: str, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
    """1 GiB goes to Glance unharmed, framed as the client framed it, in bounded memory and without a byte on
    disk."""
    image = Image(cloud.images.queue(), "alice", BIG)
    headers = {**OCTETS, **({"Content-Length": str(BIG.size)} if framing == "sized" else {})}
    disk = proxy.disk_use()
    with watched(proxy) as memory:
        answer = request(
            "PUT", proxy.url + image.path, token=cloud.token("alice"), headers=headers, body=BIG.chunks()
        )
        assert proxy.disk_use() <= disk + MIB
    assert answer.status == 204
    shown = cloud.images.show(image)
    assert (shown["status"], shown["size"], shown["os_hash_value"]) == ("active", BIG.size, BIG.sha512)
    [exchange] = relay.of(image.path)
    assert exchange.sent == BIG.size
    assert ("content-length" in exchange.headers) == (framing == "sized")
    assert max(memory) - memory[0] < 64 * MIB
    cloud.images.delete(image)


def test_curl(cloud: Cloud, proxy: Proxy) -> None:
    """`curl --upload-file -` sends chunks, after Glance's word that it may go on."""
    image = Image(cloud.images.queue(), "alice", BODY)
    command = ["curl", "-sS", "-w", "%{http_code}", "-T", "-", "-H", "Expect: 100-continue"]
    for name, value in authorized(cloud.token("alice"), OCTETS).items():
        command += ["-H", f"{name}: {value}"]
    done = subprocess.run(
        [*command, proxy.url + image.path], input=BODY.data, capture_output=True, timeout=60, check=True
    )
    assert done.stdout == b"204"
    assert cloud.images.show(image)["os_hash_value"] == BODY.sha512


class Uploader:
    """A client that sends as much as it is told to and reads when it is told to."""

    def __init__(self, proxy: Proxy, path: str, headers: dict[str, str]) -> None:
        host, port = urlsplit(proxy.url).hostname, proxy.port
        self._socket = socket.create_connection((host, port), timeout=30)
        self._http = h11.Connection(h11.CLIENT)
        self._send(
            h11.Request(method="PUT", target=path, headers=[("Host", f"{host}:{port}"), *headers.items()])
        )

    def send(self, data: bytes) -> None:
        self._send(h11.Data(data=data))

    def _send(self, event: h11.Event) -> None:
        sent = self._http.send(event)
        assert sent is not None
        self._socket.sendall(sent)

    def status(self) -> int:
        """The final answer's status, though the body may not be whole."""
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Response):
                return event.status_code
            if event is h11.NEED_DATA:
                self._http.receive_data(self._socket.recv(65536))
            else:
                assert isinstance(event, h11.InformationalResponse), event

    def hang_up(self) -> None:
        self._socket.close()


FRAMINGS = {"sized": {"Content-Length": str(BODY.size)}, "chunked": {"Transfer-Encoding": "chunked"}}
both_framings = pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS.keys())


@both_framings
def test_a_client_that_breaks_off(framing: dict[str, str], cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
    """Glance sees a broken request, never a short but well-formed one, and the image does not become
    active."""
    image = Image(cloud.images.queue(), "alice", BODY)
    uploader = Uploader(proxy, image.path, authorized(cloud.token("alice"), {**OCTETS, **framing}))
    uploader.send(BODY.part(0, 8 * MIB))
    assert eventually(lambda: bool(relay.of(image.path)) and relay.of(image.path)[0].sent >= 4 * MIB)
    uploader.hang_up()
    assert eventually(lambda: cloud.images.show(image)["status"] == "queued")
    [exchange] = relay.of(image.path)
    assert not exchange.request_whole
    assert exchange.sent <= 8 * MIB


@both_framings
class TestEarlyAnswer:
    """Glance answers before it has the body; the client gets the answer while it is still sending."""

    def test_wrong_content_type(self, framing: dict[str, str], cloud: Cloud, proxy: Proxy) -> None:
        """415 for what is no octet-stream."""
        headers = {"Content-Type": "text/plain", **framing}
        assert self.answer(cloud.images.queue(), cloud.token("alice"), headers, proxy) == 415

    def test_bad_token(self, framing: dict[str, str], cloud: Cloud, proxy: Proxy) -> None:
        """401 for a token that is none."""
        assert self.answer(cloud.images.queue(), "garbage", {**OCTETS, **framing}, proxy) == 401

    def test_active_image(self, framing: dict[str, str], cloud: Cloud, proxy: Proxy) -> None:
        """409 for an image that has its data."""
        image = cloud.images.create(Payload(1000))
        assert self.answer(image.id, cloud.token("alice"), {**OCTETS, **framing}, proxy) == 409

    @staticmethod
    def answer(image_id: str, token: str, headers: dict[str, str], proxy: Proxy) -> int:
        uploader = Uploader(proxy, f"/v2/images/{image_id}/file", authorized(token, headers))
        uploader.send(BODY.part(0, MIB))
        try:
            return uploader.status()
        finally:
            uploader.hang_up()


def test_others_are_served_meanwhile(cloud: Cloud, proxy: Proxy) -> None:
    """An upload that stands still holds up nobody."""
    image = Image(cloud.images.queue(), "alice", BODY)
    headers = authorized(cloud.token("alice"), {**OCTETS, **FRAMINGS["sized"]})
    uploader = Uploader(proxy, image.path, headers)
    uploader.send(BODY.part(0, MIB))
    other = cloud.images.create(Payload(MIB, seed=9))
    assert proxy.get(other, cloud.token("alice")).body == other.payload.data
    uploader.hang_up()

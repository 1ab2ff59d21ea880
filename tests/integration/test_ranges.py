"""Parts of images, conditions and HEAD, as curl and RFC 9110 have them."""

import email
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import frozen

from tests.cloud.client import Answer
from tests.cloud.cloud import Cloud
from tests.cloud.glance import FILE_STORE, SWIFT_STORE
from tests.cloud.images import Image
from tests.cloud.payload import MIB, Payload
from tests.cloud.proxy import Proxy
from tests.cloud.relay import Relay

BODY = Payload(16 * MIB, seed=4)
LARGE = Payload(64 * MIB, seed=5)
SIZE = BODY.size
both_stores = pytest.mark.parametrize("store", [FILE_STORE, SWIFT_STORE])


@frozen
class Range:
    """What curl is asked for with --range, and the half-open intervals that it has to get."""

    text: str
    parts: tuple[tuple[int, int], ...]


RANGES = (
    Range("0-0", ((0, 1),)),
    Range("0-99", ((0, 100),)),
    Range(f"{5 * MIB + 1}-{9 * MIB}", ((5 * MIB + 1, 9 * MIB + 1),)),
    Range(f"{SIZE - 1000}-", ((SIZE - 1000, SIZE),)),
    Range(f"{SIZE - 1000}-{SIZE + 1000}", ((SIZE - 1000, SIZE),)),
    Range("-1000", ((SIZE - 1000, SIZE),)),
    Range(f"-{SIZE * 2}", ((0, SIZE),)),
    Range("0-9,100-109,-10", ((0, 10), (100, 110), (SIZE - 10, SIZE))),
    Range(f"{12 * MIB}-{13 * MIB},{MIB}-{2 * MIB}", ((12 * MIB, 13 * MIB + 1), (MIB, 2 * MIB + 1))),
    Range(f"5-9,{SIZE}-", ((5, 10),)),
)
every_range = pytest.mark.parametrize("wanted", RANGES, ids=lambda wanted: wanted.text)


def curl(url: str, directory: Path, *options: str) -> Answer:
    """What curl gets; its exit status has to be 0."""
    head, body = directory / "head", directory / "body"
    command: list[str | Path] = [
        "curl",
        "--silent",
        "--show-error",
        "--max-time",
        "60",
        "-D",
        head,
        "-o",
        body,
        *options,
        url,
    ]
    subprocess.run(command, check=True)
    status, _, fields = head.read_bytes().decode("latin-1").partition("\r\n")
    answer = Answer(int(status.split()[1]), email.message_from_string(fields), body.read_bytes())  # type: ignore[arg-type]
    assert answer.headers["Content-Length"] == str(len(answer.body))
    return answer


def parts_of(answer: Answer) -> list[tuple[str, bytes]]:
    """Content-Range and content of each part of a 206, multipart or not."""
    kind = answer.headers["Content-Type"]
    if not kind.startswith("multipart/byteranges"):
        return [(answer.headers["Content-Range"], answer.body)]
    boundary = kind.partition("boundary=")[2].strip('"').encode()
    preamble, *pieces, rest = answer.body.split(b"--" + boundary)
    assert preamble in {b"", b"\r\n"}
    assert rest in {b"--", b"--\r\n"}
    parts = []
    for piece in pieces:
        head, _, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        fields = email.message_from_bytes(head)
        assert fields["Content-Type"] == "application/octet-stream"
        parts.append((fields["Content-Range"], content.removesuffix(b"\r\n")))
    return parts


def assert_parts(answer: Answer, wanted: Range, payload: Payload) -> None:
    assert answer.status == 206
    assert parts_of(answer) == [
        (f"bytes {start}-{stop - 1}/{payload.size}", payload.part(start, stop))
        for start, stop in wanted.parts
    ]


@pytest.fixture(scope="module")
def images(cloud: Cloud) -> dict[str, Image]:
    """An image in each store."""
    return {store: cloud.images.create(BODY, store=store) for store in (FILE_STORE, SWIFT_STORE)}


@pytest.fixture
def token(cloud: Cloud) -> str:
    return f"X-Auth-Token: {cloud.token('alice')}"


class TestCurl:
    """`curl --range`."""

    @every_range
    @both_stores
    def test_cold(
        self, store: str, wanted: Range, images: dict[str, Image], proxy: Proxy, token: str, tmp_path: Path
    ) -> None:
        """A part of an image of which nothing is here, from a store that can be read at an offset and one
        that cannot."""
        image = images[store]
        proxy.purge()
        answer = curl(proxy.url + image.path, tmp_path, "-H", token, "--range", wanted.text)
        assert_parts(answer, wanted, BODY)

    @every_range
    @both_stores
    def test_hot(
        self,
        store: str,
        wanted: Range,
        images: dict[str, Image],
        proxy: Proxy,
        relay: Relay,
        token: str,
        tmp_path: Path,
    ) -> None:
        """A part of an image that is here: nothing of it comes from Glance."""
        image = images[store]
        curl(proxy.url + image.path, tmp_path, "-H", token)
        proxy.until_complete(image)
        moved = relay.moved(image.path)
        answer = curl(proxy.url + image.path, tmp_path, "-H", token, "--range", wanted.text)
        assert_parts(answer, wanted, BODY)
        assert relay.moved(image.path) == moved
        assert "hit" in answer.headers["Cache-Status"]

    def test_resume(self, images: dict[str, Image], proxy: Proxy, token: str, tmp_path: Path) -> None:
        """`curl --continue-at -` completes a file of which it has the beginning."""
        file = tmp_path / "image"
        file.write_bytes(BODY.part(0, 3 * MIB + 3))
        url = proxy.url + images[FILE_STORE].path
        subprocess.run(["curl", "-sS", "-C", "-", "-H", token, "-o", str(file), url], check=True)
        assert file.read_bytes() == BODY.data


class TestUnsatisfiable:
    """416 tells the size."""

    @pytest.mark.parametrize("text", [f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}", "bytes=-0"])
    @both_stores
    def test_beyond_the_end(
        self, store: str, text: str, images: dict[str, Image], cloud: Cloud, proxy: Proxy
    ) -> None:
        """No byte of the image is in the range."""
        answer = proxy.get(images[store], cloud.token("alice"), {"Range": text})
        assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{SIZE}")

    def test_another_unit(self, images: dict[str, Image], cloud: Cloud, proxy: Proxy) -> None:
        """A unit that is not known is ignored, as RFC 9110 has it."""
        answer = proxy.get(images[FILE_STORE], cloud.token("alice"), {"Range": "lines=1-2"})
        assert (answer.status, answer.body) == (200, BODY.data)


class TestConditions:
    """The digest is the validator."""

    def test_validators_and_head(self, images: dict[str, Image], cloud: Cloud, proxy: Proxy) -> None:
        """GET and HEAD say the same about a body: its validator, size, type and MD5."""
        image, token = images[FILE_STORE], cloud.token("alice")
        shown = cloud.images.show(image)
        got, headed = proxy.get(image, token), proxy.get(image, token, method="HEAD")
        assert headed.status == 200
        assert headed.body == b""
        for answer in (got, headed):
            assert shown["os_hash_value"] in answer.headers["ETag"]
            assert not answer.headers["ETag"].startswith("W/")
            assert answer.headers["Accept-Ranges"] == "bytes"
            assert answer.headers["Content-Length"] == str(SIZE)
            assert answer.headers["Content-Type"] == "application/octet-stream"
            assert answer.headers["Content-MD5"] == shown["checksum"]
            assert answer.headers["x-openstack-request-id"].startswith("req-")

    def test_head_of_a_cold_image(self, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
        """HEAD tells the size of an image without a byte of it being fetched."""
        image = cloud.images.create(BODY)
        answer = proxy.get(image, cloud.token("alice"), method="HEAD")
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(SIZE))
        assert relay.moved(image.path) == 0

    @both_stores
    def test_if_none_match(
        self, store: str, images: dict[str, Image], cloud: Cloud, proxy: Proxy, relay: Relay
    ) -> None:
        """Who has the body already is told so."""
        image, token = images[store], cloud.token("alice")
        etag = proxy.get(image, token).headers["ETag"]
        moved = relay.moved(image.path)
        answer = proxy.get(image, token, {"If-None-Match": f'"other", {etag}'})
        assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", etag)
        assert proxy.get(image, token, {"If-None-Match": '"other"'}).status == 200
        assert relay.moved(image.path) == moved

    def test_if_match(self, images: dict[str, Image], cloud: Cloud, proxy: Proxy) -> None:
        """A body other than the one that is meant is not sent."""
        image, token = images[FILE_STORE], cloud.token("alice")
        assert proxy.get(image, token, {"If-Match": '"other"'}).status == 412

    @both_stores
    def test_if_range(self, store: str, images: dict[str, Image], cloud: Cloud, proxy: Proxy) -> None:
        """A part is sent if the client's other parts are of the same body, and all of it if not."""
        image, token = images[store], cloud.token("alice")
        etag = proxy.get(image, token, method="HEAD").headers["ETag"]
        part = {"Range": "bytes=10-19"}
        same = proxy.get(image, token, {**part, "If-Range": etag})
        assert (same.status, same.body) == (206, BODY.part(10, 20))
        for other in ('"other"', f"W/{etag}", "Sun, 22 Nov 2026 00:00:00 GMT"):
            answer = proxy.get(image, token, {**part, "If-Range": other})
            assert (answer.status, answer.body) == (200, BODY.data)


class TestDuringAFill:
    """A transfer of the whole image is under way, and stands."""

    def test_what_is_here(self, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
        """A part that has come already is sent at once, and nothing more is asked of Glance for it."""
        image, token = cloud.images.create(LARGE), cloud.token("alice")
        relay.hold(16 * MIB)
        with ThreadPoolExecutor() as pool:
            whole = pool.submit(proxy.download, image, token)
            proxy.until_holds(image, 15 * MIB)
            answer = proxy.get(image, token, {"Range": f"bytes={10 * MIB}-{12 * MIB}"})
            assert (answer.status, answer.body) == (206, LARGE.part(10 * MIB, 12 * MIB + 1))
            assert len(relay.transfers(image.path)) == 1
            relay.hold(None)
            assert whole.result().sha512 == LARGE.sha512

    def test_what_is_ahead(self, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
        """A part that has not come yet is fetched at its offset, sent, kept and not fetched again."""
        image, token = cloud.images.create(LARGE), cloud.token("alice")
        relay.hold(4 * MIB)
        with ThreadPoolExecutor() as pool:
            whole = pool.submit(proxy.download, image, token)
            proxy.until_holds(image, 3 * MIB)
            relay.pace(200e6)  # so that little is in flight when a transfer ends before its body does
            answer = proxy.get(image, token, {"Range": f"bytes={48 * MIB}-{50 * MIB - 1}"})
            assert (answer.status, answer.body) == (206, LARGE.part(48 * MIB, 50 * MIB))
            relay.hold(None)
            assert whole.result().sha512 == LARGE.sha512
        proxy.until_complete(image)
        assert relay.moved(image.path) < image.size + 4 * MIB

    def test_a_store_without_offsets(self, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
        """From Swift a part that is ahead comes with the transfer that is under way."""
        image, token = cloud.images.create(LARGE, store=SWIFT_STORE), cloud.token("alice")
        relay.hold(4 * MIB)
        with ThreadPoolExecutor() as pool:
            whole = pool.submit(proxy.download, image, token)
            proxy.until_holds(image, 3 * MIB)
            part = pool.submit(proxy.get, image, token, {"Range": f"bytes={48 * MIB}-{50 * MIB - 1}"})
            relay.hold(None)
            assert part.result().body == LARGE.part(48 * MIB, 50 * MIB)
            assert whole.result().sha512 == LARGE.sha512
        assert relay.moved(image.path) == image.size


def test_parts_make_a_whole(cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
    """Parts that were fetched one by one, in any order, need no further fetching when the whole is asked
    for."""
    image, token = cloud.images.create(BODY), cloud.token("alice")
    for number in (3, 0, 2, 1):
        start, stop = number * 4 * MIB, (number + 1) * 4 * MIB
        answer = proxy.get(image, token, {"Range": f"bytes={start}-{stop - 1}"})
        assert (answer.status, answer.body) == (206, BODY.part(start, stop))
    whole = proxy.get(image, token)
    assert (whole.status, whole.body) == (200, BODY.data)
    proxy.until_complete(image)
    assert relay.moved(image.path) <= image.size + MIB

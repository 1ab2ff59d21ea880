"""Who may download what, by every way that a body can take: nobody gets a byte that Glance would not have
given.

The expected answers are Glance's own, asked for the same thing at the same time."""

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from attrs import frozen

from tests.cloud.client import Answer, Download
from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.glance import FILE_STORE, SWIFT_STORE
from tests.cloud.images import Image
from tests.cloud.payload import MIB, Payload
from tests.cloud.proxy import Proxy, eventually
from tests.cloud.relay import Relay

BODY = Payload(4 * MIB, seed=1)
PART = (MIB + 17, 3 * MIB + 5)


def nothing(cloud: Cloud, image: Image) -> None:
    """The image stays as it is."""


def share_with_other(cloud: Cloud, image: Image) -> None:
    cloud.images.share(image, cloud.identity.projects["other"], "bob")


def unshare_with_other(cloud: Cloud, image: Image) -> None:
    cloud.images.unshare(image, cloud.identity.projects["other"])


def deactivate(cloud: Cloud, image: Image) -> None:
    cloud.images.deactivate(image)


def delete(cloud: Cloud, image: Image) -> None:
    cloud.images.delete(image)


def revoked(cloud: Cloud) -> str:
    token = cloud.identity.issue("alice")
    cloud.identity.revoke(token)
    return token


@frozen
class Case:
    """Who asks, for what image, and what happens to it after its owner has downloaded it or begun to."""

    name: str
    token: Callable[[Cloud], str | None]
    visibility: str = "private"
    prepare: Callable[[Cloud, Image], None] = nothing
    change: Callable[[Cloud, Image], None] = nothing


CASES = (
    Case("owner", lambda cloud: cloud.token("alice")),
    Case("admin", lambda cloud: cloud.token("admin")),
    Case("reader of the project", lambda cloud: cloud.token("reader")),
    Case("other project", lambda cloud: cloud.token("bob")),
    Case("member it is shared with", lambda cloud: cloud.token("bob"), prepare=share_with_other),
    Case(
        "member it is no longer shared with",
        lambda cloud: cloud.token("bob"),
        prepare=share_with_other,
        change=unshare_with_other,
    ),
    Case("public image", lambda cloud: cloud.token("bob"), visibility="public"),
    Case("community image", lambda cloud: cloud.token("bob"), visibility="community"),
    Case("owner of a deactivated image", lambda cloud: cloud.token("alice"), change=deactivate),
    Case("admin and a deactivated image", lambda cloud: cloud.token("admin"), change=deactivate),
    Case("owner of a deleted image", lambda cloud: cloud.token("alice"), change=delete),
    Case("expired token", lambda cloud: cloud.expired_token("alice")),
    Case("revoked token", revoked),
    Case("no token", lambda cloud: None),
    Case("garbage for a token", lambda cloud: "gAAAAABgarbage"),
)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
on_swift = pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.name in {"owner", "reader of the project", "other project", "no token"}],
    ids=lambda case: case.name,
)


def make_image(cloud: Cloud, case: Case, store: str = FILE_STORE) -> Image:
    image = cloud.images.create(BODY, store=store, visibility=case.visibility)
    case.prepare(cloud, image)
    return image


def assert_as_glance(answer: Answer, expected: Answer, image: Image) -> None:
    """The same answer as Glance's; whoever was refused got nothing but Glance's refusal."""
    assert answer.status == expected.status, answer.body[:500]
    assert hashlib.sha512(answer.body).digest() == hashlib.sha512(expected.body).digest()
    assert answer.headers.get("Content-Type") == expected.headers.get("Content-Type")
    assert answer.headers.get("WWW-Authenticate") == expected.headers.get("WWW-Authenticate")
    if answer.status == 200:
        assert answer.body == image.payload.data
        assert answer.headers["Content-MD5"] == expected.headers["Content-MD5"]
    if answer.status >= 400:
        assert answer.headers.get("ETag") is None


def assert_whole(download: Download) -> None:
    assert (download.status, download.whole, download.sha512) == (200, True, BODY.sha512)


class TestMiss:
    """Nothing of the image is on this node."""

    @every_case
    def test_file(self, case: Case, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
        """Each one gets what Glance gives, and a refusal moves no data."""
        self.check(case, FILE_STORE, cloud, proxy, relay)

    @on_swift
    def test_swift(self, case: Case, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
        """The same for an image that Glance keeps in Swift."""
        self.check(case, SWIFT_STORE, cloud, proxy, relay)

    @staticmethod
    def check(case: Case, store: str, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
        image = make_image(cloud, case, store)
        case.change(cloud, image)
        token = case.token(cloud)
        expected = cloud.images.get(image, token)
        assert_as_glance(proxy.get(image, token), expected, image)
        if expected.status != 200:
            assert relay.moved(image.path) == 0


class TestHit:
    """All of the image is on this node."""

    @every_case
    def test_file(self, case: Case, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
        """Each one gets what Glance gives, and no data moves for it."""
        self.check(case, FILE_STORE, cloud, proxy, relay)

    @on_swift
    def test_swift(self, case: Case, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
        """The same for an image that Glance keeps in Swift."""
        self.check(case, SWIFT_STORE, cloud, proxy, relay)

    @staticmethod
    def check(case: Case, store: str, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
        image = make_image(cloud, case, store)
        assert_whole(proxy.download(image, cloud.token("alice")))
        proxy.until_complete(image)
        moved = relay.moved(image.path)
        case.change(cloud, image)
        token = case.token(cloud)
        assert_as_glance(proxy.get(image, token), cloud.images.get(image, token), image)
        assert relay.moved(image.path) == moved


class TestCoalescedMiss:
    """The image is on its way to this node, for somebody else."""

    @every_case
    def test_file(self, case: Case, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
        """Each one gets what Glance gives, while the one transfer is under way."""
        self.check(case, FILE_STORE, cloud, proxy, relay)

    @on_swift
    def test_swift(self, case: Case, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
        """The same for an image that Glance keeps in Swift."""
        self.check(case, SWIFT_STORE, cloud, proxy, relay)

    @staticmethod
    def check(case: Case, store: str, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
        image = make_image(cloud, case, store)
        relay.hold(2 * MIB)
        with ThreadPoolExecutor() as pool:
            first = pool.submit(proxy.download, image, cloud.token("alice"))
            proxy.until_holds(image, MIB)
            case.change(cloud, image)
            token = case.token(cloud)
            expected = cloud.images.get(image, token)
            if expected.status == 200:
                follower = pool.submit(
                    proxy.download, image, token, on_first_byte=lambda: relay.hold(None)
                ).result()
                assert_whole(follower)
            else:
                assert_as_glance(proxy.get(image, token), expected, image)
                relay.hold(None)
            assert_whole(first.result())
        assert len(relay.transfers(image.path)) == 1


class TestRange:
    """Some of the image is asked for."""

    @every_case
    def test_file(self, case: Case, cloud: Cloud, proxy: Proxy) -> None:
        """Each one gets the part that Glance gives, from an image that is on this node."""
        image = make_image(cloud, case)
        assert_whole(proxy.download(image, cloud.token("alice")))
        case.change(cloud, image)
        token = case.token(cloud)
        start, stop = PART
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        expected = cloud.images.get(image, token, headers)
        answer = proxy.get(image, token, headers)
        assert_as_glance(answer, expected, image)
        assert answer.headers.get("Content-Range") == expected.headers.get("Content-Range")
        if answer.status == 206:
            assert answer.body == BODY.part(start, stop)

    @on_swift
    def test_swift(self, case: Case, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
        """Whoever may have a whole image from Swift gets a part of it, which Glance cannot give; the others
        its refusal."""
        image = make_image(cloud, case, SWIFT_STORE)
        token = case.token(cloud)
        start, stop = PART
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        whole = cloud.images.get(image, token)
        answer = proxy.get(image, token, headers)
        if whole.status == 200:
            assert (answer.status, answer.body) == (206, BODY.part(start, stop))
        else:
            assert_as_glance(answer, cloud.images.get(image, token, headers), image)
            assert relay.moved(image.path) == 0


@every_case
def test_head(case: Case, cloud: Cloud, proxy: Proxy) -> None:
    """HEAD, which Glance does not have, tells nothing to whom GET would give nothing."""
    image = make_image(cloud, case)
    assert_whole(proxy.download(image, cloud.token("alice")))
    case.change(cloud, image)
    token = case.token(cloud)
    expected = cloud.images.get(image, token)
    answer = proxy.get(image, token, method="HEAD")
    assert (answer.status, answer.body) == (expected.status, b"")
    if answer.status == 200:
        assert answer.headers["Content-Length"] == str(image.size)
    else:
        assert answer.headers.get("ETag") is None
        assert answer.headers.get("Content-Length") != str(image.size)


def test_knowing_the_digest_is_no_permission(cloud: Cloud, proxy: Proxy) -> None:
    """A conditional request is answered only to those who may download."""
    image = cloud.images.create(BODY)
    etag = proxy.get(image, cloud.token("alice")).headers["ETag"]
    for user in ("reader", "bob"):
        token = cloud.token(user)
        answer = proxy.get(image, token, {"If-None-Match": etag})
        assert_as_glance(answer, cloud.images.get(image, token), image)


def test_an_image_without_data(cloud: Cloud, proxy: Proxy) -> None:
    """A queued image is answered as by Glance, and nothing is kept of it."""
    image = Image(cloud.images.queue(), "alice", Payload(0))
    token = cloud.token("alice")
    expected = cloud.images.get(image, token)
    answer = proxy.get(image, token)
    assert (answer.status, answer.body) == (expected.status, expected.body)
    assert image.id not in proxy.images()


TTL = 2


@pytest.fixture(scope="module")
def trusting_proxy(start_proxy: ProxyFactory) -> Proxy:
    """A proxy that takes Glance's word for some seconds."""
    return start_proxy(authorization_ttl=TTL)


class TestTimeToLive:
    """Glance's word may be reused for the TTL, for the same token and image."""

    def test_one_token_vouches_for_no_other(self, cloud: Cloud, trusting_proxy: Proxy) -> None:
        """What was allowed to one is asked anew for each other token."""
        image = cloud.images.create(BODY)
        assert trusting_proxy.get(image, cloud.token("alice")).status == 200
        for token in (cloud.token("reader"), cloud.token("bob"), None):
            answer = trusting_proxy.get(image, token)
            assert_as_glance(answer, cloud.images.get(image, token), image)

    def test_checks_are_reused(self, cloud: Cloud, trusting_proxy: Proxy, relay: Relay) -> None:
        """Within the TTL Glance hears nothing of further downloads."""
        image = cloud.images.create(BODY)
        token = cloud.token("alice")
        trusting_proxy.get(image, token)
        trusting_proxy.until_complete(image)
        trusting_proxy.get(image, token)
        asked = len(relay.of(image.path))
        started = time.monotonic()
        answers = [trusting_proxy.get(image, token) for _ in range(5)]
        assert all(answer.body == BODY.data for answer in answers)
        assert len(relay.of(image.path)) - asked <= (time.monotonic() - started) // TTL + 1

    @pytest.mark.parametrize("change", [deactivate, delete], ids=["deactivated", "deleted"])
    def test_a_change_of_the_image(
        self, change: Callable[[Cloud, Image], None], cloud: Cloud, trusting_proxy: Proxy
    ) -> None:
        """It takes effect after the TTL at the latest, for those whom Glance had allowed just before."""
        image = cloud.images.create(BODY)
        token = cloud.token("alice")
        assert trusting_proxy.get(image, token).status == 200
        changed = time.monotonic()
        change(cloud, image)
        self.check_refused(image, token, changed, cloud, trusting_proxy)

    def test_a_revoked_token(self, cloud: Cloud, trusting_proxy: Proxy) -> None:
        """The same for a token that is revoked."""
        image = cloud.images.create(BODY)
        token = cloud.identity.issue("alice")
        assert trusting_proxy.get(image, token).status == 200
        changed = time.monotonic()
        cloud.identity.revoke(token)
        self.check_refused(image, token, changed, cloud, trusting_proxy)

    def test_an_expired_token(self, cloud: Cloud, trusting_proxy: Proxy) -> None:
        """The same for a token whose time is up."""
        image = cloud.images.create(BODY)
        token = cloud.brief_token("alice")
        assert trusting_proxy.get(image, token).status == 200
        assert eventually(lambda: cloud.images.get(image, token).status == 401)
        self.check_refused(image, token, time.monotonic(), cloud, trusting_proxy)

    @staticmethod
    def check_refused(image: Image, token: str, changed: float, cloud: Cloud, proxy: Proxy) -> None:
        expected = cloud.images.get(image, token)
        assert expected.status in {401, 403, 404}
        time.sleep(max(0.0, changed + TTL + 0.1 - time.monotonic()))
        assert_as_glance(proxy.get(image, token), expected, image)


class TestNoTimeToLive:
    """With a TTL of 0 Glance is asked every time."""

    def test_a_token_is_revoked(self, cloud: Cloud, proxy: Proxy) -> None:
        """The very next request with a revoked token is refused."""
        image = cloud.images.create(BODY)
        token = cloud.identity.issue("alice")
        assert proxy.get(image, token).body == BODY.data
        cloud.identity.revoke(token)
        assert_as_glance(proxy.get(image, token), cloud.images.get(image, token), image)

    def test_a_token_expires(self, cloud: Cloud, proxy: Proxy) -> None:
        """A token is as good as Glance says at every moment."""
        image = cloud.images.create(BODY)
        token = cloud.brief_token("alice")
        assert proxy.get(image, token).body == BODY.data
        assert eventually(lambda: cloud.images.get(image, token).status != 200)
        assert_as_glance(proxy.get(image, token), cloud.images.get(image, token), image)

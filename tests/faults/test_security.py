"""Nobody gets in: what belongs to one is neither given nor shown to another, by any way that there is, and no
secret is left lying about."""

import hashlib
import json
import os
import random
import re
import socket
import ssl
import stat
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from attrs import define, field, frozen

from tests.cloud.client import Answer, request
from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.images import Image
from tests.cloud.payload import MIB, Payload
from tests.cloud.ports import LOOPBACK
from tests.cloud.processes import Processes
from tests.cloud.proxy import Proxy, eventually
from tests.cloud.relay import Relay
from tests.faults.campaign import Campaign
from tests.integration.endless import EndlessOrigin, body_of
from tests.integration.launching import Launch
from tests.unit.authority import Authority
from txglancecache.management.native.routes import OPERATIONS

BODY = Payload(MIB, seed=901)
LONG = Payload(4 * MIB, seed=902)
#: Bytes in a row that show that an answer has some of the body in it.
TELLING = 64


def exchange(port: int, data: bytes, *, tls: ssl.SSLContext | None = None, seconds: float = 60) -> bytes:
    """All that comes back for these bytes, as far as it is said that it is all."""
    answer = bytearray()
    plain = socket.create_connection((LOOPBACK, port), timeout=seconds)
    spoken = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
    with closing(plain), closing(spoken), suppress(ConnectionError):
        spoken.sendall(data)
        while piece := spoken.recv(1 << 16):
            answer += piece
    return bytes(answer)


def status_of(answer: bytes) -> int:
    """0: none."""
    match = re.match(rb"HTTP/1\.1 ([0-9]{3}) ", answer)
    return int(match[1]) if match else 0


def is_in(payload: Payload, answer: bytes) -> bool:
    """Whether any telling part of the payload is in an answer."""
    block = payload.part(0, MIB)
    return any(block[start : start + TELLING] in answer for start in range(64, len(block) - TELLING, 4096))


# -- who may have what ---------------------------------------------------------------------------


def _unshared(cloud: Cloud, image: Image) -> None:
    cloud.images.share(image, cloud.identity.projects["other"], "bob")


@frozen
class State:
    """What happens to an image before it is on the node, and what after."""

    name: str
    before: Callable[[Cloud, Image], None] = lambda cloud, image: None
    after: Callable[[Cloud, Image], None] = lambda cloud, image: None


STATES = (
    State("private"),
    State("shared", before=_unshared),
    State(
        "not shared any more",
        before=_unshared,
        after=lambda cloud, image: cloud.images.unshare(image, cloud.identity.projects["other"]),
    ),
    State("deactivated", after=lambda cloud, image: cloud.images.deactivate(image)),
    State("deleted", after=lambda cloud, image: cloud.images.delete(image)),
)

#: Fields with which somebody may try to get more than a plain request would.
TRICKS: tuple[dict[str, str], ...] = (
    {},
    {"Range": "bytes=0-65535"},
    {"Range": "bytes=-65536"},
    {"Range": f"bytes={BODY.size}-"},
    {"Range": "bytes=0-9,20-29"},
    {"If-None-Match": "*"},
    {"If-Match": "*"},
    {"If-Range": '"x"', "Range": "bytes=0-9"},
    {"Content-Range": "bytes 0-9/*"},
    {"Content_Range": "bytes 0-9/*"},
    {"X-HTTP-Method-Override": "HEAD"},
    {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1", "X-Real-IP": "127.0.0.1"},
    {"X-Roles": "admin", "X-Identity-Status": "Confirmed", "X-Is-Admin-Project": "True", "X_Roles": "admin"},
    {"Cache-Control": "only-if-cached"},
    {"Host": "elsewhere.example"},
    {"Connection": "X-Forwarded-For, Via, Cache-Control"},
)


@pytest.fixture(scope="module")
def remembering(start_proxy: ProxyFactory) -> Proxy:
    """A node that uses permissions again for as long as these tests last."""
    return start_proxy(authorization_ttl=600)


def test_isolation(cloud: Cloud, proxy: Proxy, relay: Relay, campaign: Campaign) -> None:
    """Whoever is refused by Glance is refused here, for images that are here, on their way or neither; and
    gets no byte of them, whatever is asked."""
    seen: Counter[str] = Counter()
    for _ in range(campaign.scale(1, 3)):
        for state in STATES:
            for when in ("cached", "on its way", "not cached"):
                if not (campaign.whole or state.name == "private" or when == "cached"):
                    continue
                every = campaign.whole or (state.name, when) == ("private", "cached")
                image = cloud.images.create(BODY)
                state.before(cloud, image)
                with _here(when, image, cloud, proxy, relay):
                    state.after(cloud, image)
                    seen += _try_everybody(cloud, proxy, image, TRICKS if every else TRICKS[:1])
    campaign.record(
        "Security",
        "downloads by people of other projects, readers, guests, holders of bad tokens, of images private, "
        "shared, unshared, deactivated, deleted; cached, on their way, neither",
        times=seen.total(),
        clients=seen,
        lost=f"{seen['let in']} bodies given away" if seen["let in"] else "nothing",
    )
    assert not seen["let in"], seen
    assert not seen["answered otherwise than by Glance"], seen
    assert seen["refused as by Glance"] > 100, seen


@contextmanager
def _here(when: str, image: Image, cloud: Cloud, proxy: Proxy, relay: Relay) -> Iterator[None]:
    """Within this the owner has downloaded the image, is at it, or has not begun."""
    token = cloud.token("alice")
    if when == "cached":
        assert proxy.download(image, token).sha512 == image.payload.sha512
        proxy.until_complete(image)
    if when != "on its way":
        yield
        return
    relay.hold(MIB // 2)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(proxy.download, image, token)
        try:
            proxy.until_holds(image, MIB // 4)
            yield
        finally:
            relay.hold(None)
        assert first.result().sha512 == image.payload.sha512


def _try_everybody(
    cloud: Cloud, proxy: Proxy, image: Image, tricks: tuple[dict[str, str], ...]
) -> Counter[str]:
    seen: Counter[str] = Counter()
    revoked = cloud.identity.issue("alice")
    cloud.identity.revoke(revoked)
    tokens = {
        "bob": cloud.token("bob"),
        "reader": cloud.token("reader"),
        "nobody": None,
        "garbage": "gAAAAABgarbage",
        "revoked": revoked,
    }
    for token in tokens.values():
        expected = cloud.images.get(image, token).status
        if expected == 200:
            continue  # shared with bob
        for fields in tricks:
            for method in ("GET",) if fields else ("GET", "HEAD"):
                answer = proxy.get(image, token, fields, method)
                if answer.status < 400 or is_in(image.payload, answer.body):
                    seen["let in"] += 1
                elif answer.status == expected or "Content-Range" in fields:
                    seen["refused as by Glance"] += 1
                else:
                    seen["answered otherwise than by Glance"] += 1
    return seen


def test_the_token_that_is_no_part_of_the_question(
    cloud: Cloud, remembering: Proxy, campaign: Campaign
) -> None:
    """A permission is used again for the very fields that it was given for: a token that is taken out on the
    way, doubled, or spelt otherwise is another question."""
    image = cloud.images.create(BODY)
    alice, bob = cloud.token("alice"), cloud.token("bob")
    assert remembering.download(image, alice).sha512 == BODY.sha512
    remembering.until_complete(image)
    head = f"GET {image.path} HTTP/1.1\r\nHost: 127.0.0.1:{remembering.port}\r\n".encode()
    tries = (
        [("X-Auth-Token", alice), ("Connection", "close, X-Auth-Token")],
        [("X-Auth-Token", alice), ("Connection", "close"), ("connection", "x-auth-token")],
        [("X-Auth-Token", bob), ("X-Auth-Token-", alice)],
        [("X-Auth-Token", bob), ("X_Auth_Token", alice)],
        [("X-Auth-Token", alice[:-1])],
        [("X-Auth-Token", alice.swapcase())],
        [("X-Auth-Tokens", alice)],
        [("Cookie", f"X-Auth-Token={alice}")],
        [("Authorization", f"Bearer {alice}")],
        [("X-Subject-Token", alice)],
        [("X-Storage-Token", alice), ("X-Auth-Token", bob)],
        [("X-Auth-Token", "")],
    )
    seen: Counter[str] = Counter()
    for fields in tries:
        lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in fields)
        answer = exchange(remembering.port, head + lines + b"Connection: close\r\n\r\n")
        let_in = status_of(answer) not in (400, 401, 403, 404) or is_in(BODY, answer)
        seen["let in" if let_in else f"{status_of(answer)}"] += 1
    campaign.record(
        "Security",
        "a token taken out by Connection, doubled, cut, in another field, beside a permission of its owner's",
        times=len(tries),
        clients=seen,
        lost="nothing" if not seen["let in"] else f"{seen['let in']} bodies given away",
    )
    assert not seen["let in"], seen


# -- what a refusal tells ------------------------------------------------------------------------


def test_a_refusal_tells_nothing(cloud: Cloud, proxy: Proxy, relay: Relay, campaign: Campaign) -> None:
    """Who is refused an image finds out neither by what is answered, nor by what the origin is asked, nor by
    how long it takes, whether others have it here."""
    times: dict[bool, list[float]] = {True: [], False: []}
    differing: list[object] = []
    tokens = (cloud.token("bob"), cloud.token("reader"), None, "gAAAAABgarbage")
    images = [cloud.images.create(BODY) for _ in range(2)]
    assert proxy.download(images[0], cloud.token("alice")).sha512 == BODY.sha512
    proxy.until_complete(images[0])
    rounds = campaign.scale(5, 120)
    for _ in range(rounds):
        for token in tokens:
            for method in ("GET", "HEAD"):
                told = []
                for image in images:
                    before = len(relay.of(image.path))
                    described = len(relay.of(f"/v2/images/{image.id}"))
                    began = time.monotonic()
                    answer = proxy.get(image, token, method=method)
                    times[image is images[0]].append(time.monotonic() - began)
                    asked = [each.method for each in relay.of(image.path)[before:]]
                    told.append(
                        (_told(answer, image), asked, len(relay.of(f"/v2/images/{image.id}")) - described)
                    )
                if told[0] != told[1]:
                    differing.append(told)
    cached, not_cached = statistics.median(times[True]), statistics.median(times[False])
    campaign.record(
        "Security",
        "refused requests for images that are cached and for others that are not",
        times=len(times[True]) + len(times[False]),
        clients=f"{len(differing)} that differ; medians {cached * 1000:.1f} ms cached, "
        f"{not_cached * 1000:.1f} ms not cached",
    )
    assert not differing, differing[:3]
    # One question of the origin's more or less would be a factor of two.
    assert max(cached, not_cached) < 1.6 * min(cached, not_cached)


def _told(answer: Answer, image: Image) -> object:
    """What an answer says, apart from what is different each time."""
    fields = {
        name.lower(): value
        for name, value in answer.headers.items()
        if name.lower() not in ("date", "x-openstack-request-id", "x-compute-request-id")
    }
    return answer.status, fields, answer.body.replace(image.id.encode(), b"ID")


# -- purging -------------------------------------------------------------------------------------


@define(eq=False)
class Downloaders:
    """Clients that download an image again and again, in whole and in part."""

    proxy: Proxy
    image: Image
    token: str
    seen: Counter[str] = field(factory=Counter)
    _over: threading.Event = field(factory=threading.Event)

    @contextmanager
    def at_work(self, count: int) -> Iterator[None]:
        threads = [threading.Thread(target=self._work, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _work(self, number: int) -> None:
        size = self.image.size
        while not self._over.is_set():
            if number % 2:
                headers = {"Range": f"bytes={size // 2}-{size - 1}"}
                got = self.proxy.download(self.image, self.token, headers=headers)
                right = got.status == 206 and got.sha512 == self.image.payload.hash_of(size // 2, size)
            else:
                got = self.proxy.download(self.image, self.token)
                right = got.status == 200 and got.sha512 == self.image.payload.sha512
            if right:
                self.seen["whole and right"] += 1
            else:
                self.seen["cut off" if got.status in (200, 206) and not got.whole else "wrong"] += 1


def test_purges(cloud: Cloud, proxy: Proxy, relay: Relay, campaign: Campaign) -> None:
    """When a purge has been answered the file is gone, and the next download comes from the origin, however
    many are at it, filling, opening and being checked."""
    token, image = cloud.token("alice"), cloud.images.create(LONG)
    downloaders = Downloaders(proxy, image, token)
    purges, files_left, stale = campaign.scale(8, 400), 0, 0
    with downloaders.at_work(3):
        for number in range(purges):
            relay.pace((200 if number % 3 else 20) * MIB)
            time.sleep((number % 7) * 0.01)
            files = _bodies(proxy, image)
            begun = len(relay.of(image.path))
            answer = request("DELETE", f"{proxy.manage_url}/cache/images/{image.id}")
            assert answer.status in (204, 404)
            files_left += len(files & _bodies(proxy, image)) if answer.status == 204 else 0
            got = proxy.download(image, token)
            downloaders.seen["whole and right" if got.sha512 == LONG.sha512 else "wrong"] += 1
            since = relay.of(image.path)[begun:]
            if answer.status == 204:
                stale += sum(each.received for each in since if each.status in (200, 206)) < image.size
    campaign.record(
        "Security",
        "purges while others download, fill and are checked",
        times=purges,
        clients=downloaders.seen,
        lost="nothing" if not (stale or files_left) else f"{stale} stale, {files_left} files left",
    )
    assert (stale, files_left, downloaders.seen["wrong"]) == (0, 0, 0), downloaders.seen


def _bodies(proxy: Proxy, image: Image) -> set[str]:
    key = hashlib.sha256(f"{proxy.origin}\n{image.id}".encode()).hexdigest()[:40]
    return {path.name for path in proxy.cache_dir.glob(f"bodies/*/{key}.*")}


# -- secrets -------------------------------------------------------------------------------------


def test_secrets_are_nowhere(
    cloud: Cloud, start_proxy: ProxyFactory, relay: Relay, campaign: Campaign
) -> None:
    """No token, no signature and no cookie is in any file, log, page or list, after hits, misses, refusals,
    uploads, failures and jobs; nor in what the system shows of the process."""
    proxy = start_proxy(manage_auth="keystone", keystone_url=cloud.keystone.url, authorization_ttl=60)
    secrets = {
        "alice's token": cloud.identity.issue("alice"),
        "bob's token": cloud.identity.issue("bob"),
        "the operator's token": cloud.identity.issue("admin"),
        "a bad token": "gAAAAABnotreallyatoken0123456789",
        "a signature": "5ig0123456789abcdef5ig",
        "a cookie": "c00kie0123456789abcdef",
        "a password": "cGFzc3dvcmQ6cGFzc3dvcmQ=",
    }
    shown = _use(cloud, proxy, relay, secrets, campaign.scale(1, 10))
    shown += _seen_of(proxy)
    proxy.kill()  # what is on disk then is what a stolen disk would show
    places = [*shown, *_files_of(proxy)]
    found = [
        (what, where)
        for where, content in places
        for what, secret in secrets.items()
        if secret.encode() in content
    ]
    campaign.record(
        "Security",
        f"looked for {len(secrets)} secrets in files, logs, pages, jobs, figures, /proc",
        times=len(places),
        clients=f"{len(found)} found",
        lost=", ".join(f"{what} in {where}" for what, where in found) or "nothing",
    )
    assert not found
    assert any("index.sqlite" in where for where, _ in places)
    assert any(b"GET /v2/images/" in content for where, content in places if where.endswith(".log"))


def _use(
    cloud: Cloud, proxy: Proxy, relay: Relay, secrets: dict[str, str], rounds: int
) -> list[tuple[str, bytes]]:
    """Do all that can be done here with these secrets; what the management site says of it."""
    alice, bob, admin = (secrets[f"{who} token"] for who in ("alice's", "bob's", "the operator's"))
    fields = {
        "Cookie": f"session={secrets['a cookie']}",
        "Authorization": f"Basic {secrets['a password']}",
        "Referer": f"http://there.example/?temp_url_sig={secrets['a signature']}",
    }
    query = f"?temp_url_sig={secrets['a signature']}&token={alice}"
    said: list[tuple[str, bytes]] = []
    for number in range(rounds):
        image = cloud.images.create(BODY)
        if number == 0:
            relay.cut(MIB // 2)
        url = proxy.url + image.path
        for token in (alice, alice, bob, secrets["a bad token"], None):
            for target in (url, url + query, proxy.url + "/v2/images" + query, proxy.url + "/v2/%0a" + query):
                for method in ("GET", "HEAD"):
                    answer = request(method, target, token=token, headers=fields)
                    # What Glance's lists say of the question is the asker's own.
                    if token in (bob, None) and target == url:
                        said.append((f"an answer to {method}", str(answer.headers).encode() + answer.body))
        upload = {**fields, "Content-Type": "application/octet-stream"}
        queued = cloud.images.queue()
        request(
            "PUT", f"{proxy.url}/v2/images/{queued}/file{query}", token=alice, headers=upload, body=b"abc"
        )
        json_body = {"Content-Type": "application/json", **fields}
        payload = json.dumps({"images": [image.id, cloud.images.create(BODY).id]}).encode()
        manage = proxy.manage_url
        assert (
            request("POST", f"{manage}/cache/prefetch", token=admin, headers=json_body, body=payload).status
            == 202
        )
        for token in (admin, secrets["a bad token"], bob):
            for path in (
                "/cache",
                "/cache/images",
                "/cache/jobs",
                "/cache/events",
                "/metrics",
                "/cache/x",
                "/v2/cache",
            ):
                answer = request("GET", f"{manage}{path}{query}", token=token, headers=fields)
                answer = request("GET", f"{manage}{path}", token=token, headers=fields)
                said.append((path, str(answer.headers).encode() + answer.body))
    assert eventually(lambda: b'"queued"' not in _jobs(proxy, admin), 20)
    said.append(("/cache/jobs", _jobs(proxy, admin)))
    assert b"succeeded" in said[-1][1] or b"done" in said[-1][1], said[-1]
    return said


def _jobs(proxy: Proxy, token: str) -> bytes:
    return request("GET", f"{proxy.manage_url}/cache/jobs", token=token).body


def _seen_of(proxy: Proxy) -> list[tuple[str, bytes]]:
    process = Path("/proc", str(proxy.service.pid))
    return [(f"/proc/PID/{name}", (process / name).read_bytes()) for name in ("cmdline", "environ", "comm")]


def _files_of(proxy: Proxy) -> list[tuple[str, bytes]]:
    files = [path for path in proxy.directory.rglob("*") if path.is_file()]
    logs = list(proxy.logs.glob(f"{proxy.directory.name}-*.log"))
    assert files
    assert logs
    return [(str(path.relative_to(path.parents[1])), path.read_bytes()) for path in [*files, *logs]]


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_files_are_for_nobody_else(processes: Processes, tmp_path: Path, campaign: Campaign) -> None:
    """Whatever the umask: nobody else can read a file, or write into a directory, of the cache's."""
    origin = EndlessOrigin()
    modes: Counter[str] = Counter()
    try:
        for mask in (0o000, 0o022)[: campaign.scale(1, 2)]:
            launch = Launch(tmp_path / f"{mask:03o}")
            launch.directory.mkdir()
            with _umask(mask):
                launch.start(*launch.flags(origin=origin.url, max_size="64MiB"))
            try:
                for number in range(5):
                    url = f"http://{LOOPBACK}:{launch.data_port}/v2/images/image-{number}/file"
                    assert request("GET", url).body == body_of(f"image-{number}")
                time.sleep(1)  # for the index, which is written behind
                found = [launch.cache_dir, *launch.cache_dir.rglob("*")]
                assert {"index.sqlite", "index.sqlite-wal", "lock"} <= {path.name for path in found}
                modes.update(f"{stat.S_IMODE(path.lstat().st_mode):04o}" for path in found)
            finally:
                launch.clean_up()
    finally:
        origin.close()
    campaign.record(
        "Security", "files and directories made under an umask of 000", times=modes.total(), clients=modes
    )
    assert set(modes) == {"0600", "0700"}


# -- the way in ----------------------------------------------------------------------------------

PATHS = (
    "/../../../../../../etc/passwd",
    "/v2/images/../../../../../../etc/passwd/file",
    "/v2/images/..%2f..%2f..%2f..%2fetc%2fpasswd/file",
    "/v2/images/%2e%2e/file",
    "/v2/images/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/v2/images/./file",
    "/v2/images/%00/file",
    "/v2/images//etc/passwd/file",
    "/v2/images/\\..\\..\\etc\\passwd/file",
    "/v2/images/%ff%fe/file",
    "/v2/images/%c0%ae%c0%ae%c0%af/file",
    "/cache/static/../../../../etc/passwd",
    "/cache/static/..%2f..%2f..%2fetc%2fpasswd",
    "/cache/static/%2e%2e/%2e%2e/__init__.py",
    "/cache/static//etc/passwd",
    "/cache/images/..%2f..%2findex.sqlite",
    "/cache/images/../../index.sqlite",
    "/v2/cache/..%2f..%2fbodies",
    "file:///etc/passwd",
    "http://localhost/../../etc/passwd",
)


def test_paths_lead_nowhere(cloud: Cloud, proxy: Proxy, campaign: Campaign) -> None:
    """No request target and no image id names a file, on either site."""
    before = {path for path in proxy.directory.rglob("*") if "bodies" not in path.parts}
    statuses: Counter[str] = Counter()
    passwd = Path("/etc/passwd").read_bytes().splitlines()[0]
    leaked, failed = [], []
    for port in (proxy.port, proxy.manage_port):
        for path in PATHS:
            for method in ("GET", "DELETE", "PUT"):
                head = f"{method} {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nConnection: close\r\n"
                token = f"X-Auth-Token: {cloud.token('alice')}\r\nContent-Length: 0\r\n\r\n"
                answer = exchange(port, (head + token).encode())
                status = status_of(answer)
                statuses[str(status)] += 1
                if status in (0, 500, 502, 503, 504) and b"\r\nVia: " not in answer:  # else it is Glance's
                    failed.append((port == proxy.port, method, path, answer[:300]))
                if passwd in answer or b"SQLite format" in answer or b"import " in answer:
                    leaked.append(path)
    after = {path for path in proxy.directory.rglob("*") if "bodies" not in path.parts}
    new = {path.name for path in after - before} - {"index.sqlite-wal", "index.sqlite-shm"}
    campaign.record(
        "Security",
        "targets and ids that climb out of their directory, on both sites",
        times=statuses.total(),
        clients=statuses,
        lost="nothing" if not (leaked or new) else f"{leaked} {new}",
    )
    assert not leaked
    assert not new
    assert not failed, failed


@pytest.mark.parametrize("trusted", [False, True], ids=["untrusted", "trusted"])
def test_forwarded(
    cloud: Cloud, start_proxy: ProxyFactory, relay: Relay, campaign: Campaign, trusted: bool
) -> None:
    """What a client says about where it comes from reaches the origin only if it is a proxy that is
    trusted."""
    proxy = start_proxy(authorization_ttl=0, **({"trusted_proxies": "127.0.0.0/8"} if trusted else {}))
    image = cloud.images.create(BODY)
    host = f"{LOOPBACK}:{proxy.port}"
    claims = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Port": "666",
        "X-Forwarded-Prefix": "/evil",
        "X_Forwarded_For": "6.6.6.7",
        "X-Forwarded_For": "6.6.6.8",
        "Forwarded": "for=6.6.6.9;host=evil.example",
    }
    spellings = [{name: value} for name, value in claims.items()]
    spellings += [{name.lower(): value} for name, value in claims.items()]
    spellings += [{name.upper(): value, "Connection": "Forwarded"} for name, value in claims.items()]
    kept = 0
    spellings = spellings[:: campaign.scale(4, 1)]
    for fields in [*spellings, claims]:
        for path in (image.path, "/v2/images", "/versions"):
            begin = len(relay.exchanges)
            request("GET", proxy.url + path, token=cloud.token("alice"), headers=fields)
            asked = relay.exchanges[begin:]
            assert asked
            for each in asked:
                text = json.dumps(each.headers)
                kept += (
                    "evil" in text or "6.6.6." in text or "666" in each.headers.get("x-forwarded-port", "")
                )
                if not trusted and "x-forwarded-for" in each.headers:
                    assert each.headers["x-forwarded-for"] == LOOPBACK
                    assert each.headers["x-forwarded-host"] == host
                    assert each.headers["x-forwarded-proto"] == "http"
    campaign.record(
        "Security",
        f"X-Forwarded-* and Forwarded of a client that is {'a trusted proxy' if trusted else 'anybody'}",
        times=3 * (len(spellings) + 1),
        clients=f"{kept} requests reached the origin with what it says",
    )
    assert bool(kept) == trusted


def _spellings(method: str, path: str) -> Iterator[tuple[str, str, str]]:
    """Ways to say it that somebody may read otherwise; fields besides."""
    yield method, path, ""
    yield method.lower(), path, ""
    yield method.title(), path, ""
    yield method, path + "/", ""
    yield method, "/" + path, ""
    yield method, path.replace("/", "//"), ""
    yield method, path + ";x", ""
    yield method, path + "?x-auth-token=admin", ""
    yield method, path.replace("a", "%61"), ""
    yield method, "/cache/static/.." + path, ""
    yield method, "/cache/health/.." + path, ""
    yield method, "/cache/static%2f.." + path, ""
    yield method, path + "%00", ""
    yield method, path + "%0a", ""
    yield method, f"http://localhost{path}", ""
    yield method, path, "Accept: text/html\r\n"
    yield method, path + "/", "Accept: text/html\r\n"
    yield method.lower(), path + "/", "Accept: text/html\r\n"
    yield method, path, "X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\n"
    yield method, path, "X-Roles: admin\r\nX-Identity-Status: Confirmed\r\nX-User: admin\r\n"
    yield "GET", path, f"X-HTTP-Method-Override: {method}\r\n"
    yield "HEAD", path, f"X-HTTP-Method: {method}\r\n"
    yield "OPTIONS", path, f"Access-Control-Request-Method: {method}\r\nOrigin: http://localhost\r\n"
    yield "TRACE", path, ""


#: What everybody may see: that it lives, the page (nothing of the node is in it), the origin's versions.
_PUBLIC = re.compile(rb'"status": "ok"|<!DOCTYPE html>|\A\s*\Z|"versions"')


def test_management_lets_nobody_in(cloud: Cloud, start_proxy: ProxyFactory, campaign: Campaign) -> None:
    """No operation is had without a token, however it is spelt; nor with one of somebody who is no admin."""
    guarded = start_proxy(manage_auth="keystone", keystone_url=cloud.keystone.url)
    image = cloud.images.create(BODY)
    assert guarded.download(image, cloud.token("alice")).sha512 == BODY.sha512
    seen: Counter[str] = Counter()
    let_in = []
    paths = [
        (each.method, each.path.replace("{image_id}", image.id).replace("{job_id}", "1"))
        for each in OPERATIONS
    ]
    legacy = ("/v2/cache", "/v2/cached_images", "/v1/queued_images", f"/v2/cache/{image.id}", "/v2.14/cache")
    paths += [(method, path) for path in legacy for method in ("GET", "PUT", "DELETE")]
    member = f"X-Auth-Token: {cloud.token('alice')}\r\n"
    spelt = [(*how, token) for each in paths for how in _spellings(*each) for token in ("", member)]
    if not campaign.whole:
        spelt = random.Random(903).sample(spelt, 250)
    for how, where, fields, token in spelt:
        head = f"{how} {where} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n"
        answer = exchange(guarded.manage_port, (head + fields + token + "\r\n").encode())
        status, content = status_of(answer), answer.partition(b"\r\n\r\n")[2]
        seen[str(status)] += 1
        if (status < 300 and not _PUBLIC.search(content)) or (status >= 500 and status != 501):
            let_in.append((how, where, fields, answer[:200]))
    for fields in ("X-Auth-Token: \r\n", "X-Auth-Token: a\r\nX-Auth-Token: b\r\n"):
        head = f"GET /cache HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n"
        assert status_of(exchange(guarded.manage_port, head.encode())) == 401
    there = [entry for entry in _admin_images(guarded, cloud) if entry["id"] == image.id]
    campaign.record(
        "Security",
        "operations of the management site asked for without a token, or with a member's, in many spellings",
        times=seen.total(),
        clients=seen,
        lost="nothing" if there and not let_in else f"{len(let_in)} let in",
    )
    assert not let_in, let_in[:5]
    assert there


def _admin_images(proxy: Proxy, cloud: Cloud) -> list[dict[str, object]]:
    answer = request("GET", f"{proxy.manage_url}/cache/images", token=cloud.token("admin"))
    images: list[dict[str, object]] = answer.json()["images"]
    return images


def test_a_browser_is_no_way_in(cloud: Cloud, proxy: Proxy, campaign: Campaign) -> None:
    """Pages of other sites, and names that were pointed at this machine, reach nothing."""
    image = cloud.images.create(BODY)
    assert proxy.download(image, cloud.token("alice")).sha512 == BODY.sha512
    proxy.until_complete(image)
    purge = f"DELETE /cache/images/{image.id}"
    hosts = (
        "evil.example",
        "evil.example:9394",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "0x7f.1",
        "",
    )
    origins = ("http://evil.example", "null", "https://127.0.0.1.evil.example", "file://", "http://127.0.0.1")
    tries = [(line, f"Host: {host}\r\n") for host in hosts for line in ("GET /cache", "GET /cache/", purge)]
    own = f"Host: {LOOPBACK}:{proxy.manage_port}\r\n"
    tries += [(purge, f"{own}Origin: {origin}\r\n") for origin in origins]
    tries += [(purge, f"{own}Sec-Fetch-Site: {site}\r\n") for site in ("cross-site", "same-site")]
    tries += [(purge, f"{own}Host: evil.example\r\n"), (purge, "")]
    seen: Counter[str] = Counter()
    for line, fields in tries:
        answer = exchange(proxy.manage_port, f"{line} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n".encode())
        seen[str(status_of(answer))] += 1
    campaign.record(
        "Security",
        "requests of other sites' pages and by names that were re-pointed",
        times=len(tries),
        clients=seen,
    )
    assert set(seen) <= {"400", "403", "421"}, seen
    assert proxy.entry(image) is not None


def test_tls(processes: Processes, tmp_path: Path, campaign: Campaign) -> None:
    """Both sites speak TLS 1.2 and 1.3 and nothing older; a hit is the same bytes; and without a certificate
    nobody manages anything."""
    authority, origin = Authority(tmp_path), EndlessOrigin()
    key = authority.issue("CN=localhost", server=True)
    operator = authority.issue("CN=operator,O=Example")
    stranger = Authority(tmp_path, "strangers").issue("CN=operator,O=Example")
    launch = Launch(tmp_path)
    ends = {
        "listen": f"ssl:{launch.data_port}:interface={LOOPBACK}:privateKey={key}:certKey={key}",
        "manage": f"ssl:{launch.manage_port}:interface={LOOPBACK}:privateKey={key}:certKey={key}",
    }
    certified = {
        "manage_auth": "certificate",
        "manage_ca_file": str(authority.certificate),
        "manage_subjects": "CN=operator,O=Example",
    }
    seen: Counter[str] = Counter()
    try:
        launch.start(*launch.flags(origin=origin.url, **ends, **certified), ready=False)
        launch.until(lambda: _speaks(launch.manage_port, authority))
        get = b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        for _ in range(campaign.scale(5, 50)):
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                answer = exchange(launch.data_port, get % b"/v2/images/a/file", tls=_tls(authority, version))
                assert answer.endswith(body_of("a"))
                seen[f"{version.name} served"] += 1
        for port in (launch.data_port, launch.manage_port):
            for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    exchange(port, get % b"/", tls=_tls(authority, version))
                seen["older TLS refused"] += 1
            assert b"TLS" not in exchange(port, get % b"/cache")
            seen["plain text not answered"] += 1
        list_images = get % b"/cache/images"
        assert status_of(exchange(launch.manage_port, list_images, tls=_tls(authority))) == 403
        assert status_of(exchange(launch.manage_port, list_images, tls=_tls(authority, key=operator))) == 200
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            assert exchange(launch.manage_port, list_images, tls=_tls(authority, key=stranger))
        seen["without the operator's certificate refused"] += 2
        assert launch.stop() == (0, "")
    finally:
        launch.clean_up()
        origin.close()
    campaign.record(
        "Security",
        "connections by TLS, old and new, with certificates and without",
        times=seen.total(),
        clients=seen,
    )


def _tls(
    authority: Authority, version: ssl.TLSVersion | None = None, key: Path | None = None
) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if version is not None:
        if version < ssl.TLSVersion.TLSv1_2:
            context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
    if key is not None:
        context.load_cert_chain(key)
    return context


def _speaks(port: int, authority: Authority) -> bool:
    try:
        with closing(socket.create_connection((LOOPBACK, port), timeout=5)) as plain:
            _tls(authority).wrap_socket(plain, server_hostname="localhost").close()
    except OSError:
        return False
    return True

"""Nobody gets in: what belongs to one is neither given nor shown to another, by any way that there is."""

import json
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import frozen

from tests.cloud.client import Answer, request
from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.images import Image
from tests.cloud.payload import MIB, Payload
from tests.cloud.ports import LOOPBACK
from tests.cloud.proxy import Proxy
from tests.cloud.relay import Relay
from tests.faults.campaign import Campaign
from tests.faults.raw import exchange, status_of
from txglancecache.management.native.routes import OPERATIONS

BODY = Payload(MIB, seed=901)
#: Bytes in a row that show that an answer has some of the body in it.
TELLING = 64


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
    pairs: list[tuple[float, float]] = []
    differing: list[object] = []
    tokens = (cloud.token("bob"), cloud.token("reader"), None, "gAAAAABgarbage")
    cached, other = (cloud.images.create(BODY) for _ in range(2))
    assert proxy.download(cached, cloud.token("alice")).sha512 == BODY.sha512
    proxy.until_complete(cached)
    for number in range(campaign.scale(5, 120)):
        for token in tokens:
            for method in ("GET", "HEAD"):
                # Whichever comes second finds everything warm: each of them does as often as the other.
                order = (cached, other) if (number + len(pairs)) % 2 else (other, cached)
                asked = {image.id: _refused(proxy, relay, image, token, method) for image in order}
                pairs.append((asked[cached.id][0], asked[other.id][0]))
                if asked[cached.id][1] != asked[other.id][1]:
                    differing.append((asked[cached.id][1], asked[other.id][1]))
    slower = sum(one > another for one, another in pairs) / len(pairs)
    medians = [statistics.median(times) * 1000 for times in zip(*pairs, strict=True)]
    campaign.record(
        "Security",
        "refused requests for an image that is cached and for another that is not, in turn",
        times=2 * len(pairs),
        clients=f"{len(differing)} pairs that differ; the cached one's answer the later in {slower:.1%} of "
        f"{len(pairs)}; medians {medians[0]:.1f} ms cached, {medians[1]:.1f} ms not cached",
    )
    assert not differing, differing[:3]
    # Were both alike, a share outside of these would come about once in millions of runs.
    margin = campaign.scale(40, 10) / 100
    assert abs(slower - 0.5) <= margin, slower


def _refused(
    proxy: Proxy, relay: Relay, image: Image, token: str | None, method: str
) -> tuple[float, tuple[object, ...]]:
    """How long a refusal took, and what was said to the client, and asked of the origin, for it."""
    description = f"/v2/images/{image.id}"
    before, described = len(relay.of(image.path)), len(relay.of(description))
    began = time.monotonic()
    answer = proxy.get(image, token, method=method)
    seconds = time.monotonic() - began
    asked = [each.method for each in relay.of(image.path)[before:]]
    return seconds, (_told(answer, image), asked, len(relay.of(description)) - described)


def _told(answer: Answer, image: Image) -> object:
    """What an answer says, apart from what is different each time."""
    fields = {
        name.lower(): value
        for name, value in answer.headers.items()
        if name.lower() not in ("date", "x-openstack-request-id", "x-compute-request-id")
    }
    return answer.status, fields, answer.body.replace(image.id.encode(), b"ID")


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


def test_paths_lead_nowhere(cloud: Cloud, proxy: Proxy, relay: Relay, campaign: Campaign) -> None:
    """No request target and no image id names a file, on either site. Where something fails over one, it is
    Glance."""
    before = {path for path in proxy.directory.rglob("*") if "bodies" not in path.parts}
    statuses: Counter[str] = Counter()
    passwd = Path("/etc/passwd").read_bytes().splitlines()[0]
    leaked, failed, glances = [], [], 0
    for port in (proxy.port, proxy.manage_port):
        for path in PATHS:
            for method in ("GET", "DELETE", "PUT"):
                head = f"{method} {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nConnection: close\r\n"
                token = f"X-Auth-Token: {cloud.token('alice')}\r\nContent-Length: 0\r\n\r\n"
                answer = exchange(port, (head + token).encode())
                status = status_of(answer)
                fails = status == 0 or (status >= 500 and status != 501)
                if b"\r\nVia: " in answer:  # what was passed on has that
                    statuses[f"{status} of Glance's"] += 1
                    glances += fails
                else:
                    statuses[f"{status} of the node's"] += 1
                    failed.extend([(port == proxy.port, method, path, answer[:300])] if fails else [])
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
    # Glance did fail, as seen on the wire, each time that its name is on it.
    assert glances <= sum((each.status or 0) >= 500 for each in relay.exchanges)


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

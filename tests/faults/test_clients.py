"""Clients that are hostile, careless or gone: the others are served, and nothing of it stays."""

import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import HeaderParser

import pytest
from attrs import define, field, frozen

from tests.cloud.client import Answer, call, request
from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.images import Image
from tests.cloud.payload import MIB, Payload
from tests.cloud.proxy import Proxy, eventually
from tests.cloud.relay import Relay
from tests.faults.campaign import Campaign
from tests.faults.hostile import (
    Downloads,
    Hostile,
    crowd,
    drip,
    outcomes,
    raise_descriptor_limit,
    say,
)

#: Seconds that these nodes wait for a client, where nothing else is said.
SHORT = 2.0
#: What a loaded machine may take longer, in seconds.
SLACK = 20.0
#: Nobody looks at it, but permission that was given with it can be used again.
TOKEN = "anybody's"
BODY = Payload(2 * MIB, seed=801)
LONG = Payload(64 * MIB, seed=802)


@pytest.fixture(scope="module", autouse=True)
def _many_sockets() -> None:
    raise_descriptor_limit()


@pytest.fixture(scope="module")
def glance(cloud: Cloud) -> Iterator[Relay]:
    """What crosses the wire to a Glance that asks nobody who they are."""
    relay = Relay(cloud.open_images.url)
    relay.start()
    yield relay
    relay.close()


@pytest.fixture(scope="module")
def image(cloud: Cloud) -> Image:
    return cloud.open_images.create(BODY)


@pytest.fixture(scope="module")
def long_image(cloud: Cloud) -> Image:
    return cloud.open_images.create(LONG)


@pytest.fixture(scope="module")
def node(start_proxy: ProxyFactory, glance: Relay, image: Image, long_image: Image) -> Proxy:
    """A node that waits for nobody, and has both images."""
    node = start_proxy(
        glance.url,
        head_timeout=SHORT,
        body_timeout=SHORT,
        idle_timeout=SHORT,
        stall_timeout=SHORT,
        min_rate="64KiB",
        min_free=0,
        authorization_ttl=600,
        revalidate_after=3600,
    )
    for wanted in (image, long_image):
        assert node.download(wanted, TOKEN).sha512 == wanted.payload.sha512
    return node


@pytest.fixture(scope="module")
def small(start_proxy: ProxyFactory, glance: Relay, image: Image) -> Proxy:
    """A node that lets few in at once, trusts the proxies here, and has no room for the long image."""
    small = start_proxy(
        glance.url,
        max_connections=50,
        manage_connections=40,
        max_requests_per_client=10,
        trusted_proxies="127.0.0.1",
        stall_timeout=SHORT,
        min_rate="64KiB",
        max_size=LONG.size // 2,
        min_free=0,
        authorization_ttl=600,
    )
    assert small.download(image, TOKEN).sha512 == BODY.sha512
    return small


@pytest.fixture
def patient(start_proxy: ProxyFactory, glance: Relay, image: Image) -> Iterator[Proxy]:
    """A node that waits as long as nodes do, and that nobody has used: what it takes is for one trial."""
    patient = start_proxy(glance.url, min_free=0, authorization_ttl=600)
    assert patient.download(image, TOKEN).sha512 == BODY.sha512
    yield patient
    patient.stop()


def get(node: Proxy, image: Image) -> bytes:
    """A request for an image, as a `download` from this node would make it."""
    host = node.url.removeprefix("http://")
    return f"GET {image.path} HTTP/1.1\r\nHost: {host}\r\nX-Auth-Token: {TOKEN}\r\n\r\n".encode()


def descriptors(node: Proxy) -> int:
    return len(os.listdir(f"/proc/{node.service.pid}/fd"))


def metric(node: Proxy, name: str, *labels: str) -> float:
    """The sum of a metric's samples that have all of these labels."""
    text = request("GET", f"{node.manage_url}/metrics").body.decode()
    lines = [line for line in text.splitlines() if line.startswith(f"txglancecache_{name}")]
    return sum(float(line.rpartition(" ")[2]) for line in lines if all(label in line for label in labels))


def told(node: Proxy, site: str, reason: str) -> int:
    """Lines of the log about clients that were refused."""
    lines = [line for line in node.service.logged().splitlines() if f"of the {site} site" in line]
    return sum(reason in line for line in lines)


def readers(node: Proxy, image: Image) -> int:
    entry = node.entry(image)
    return int(entry["readers"]) if entry else 0


@define(eq=False)
class Bystander:
    """Somebody who only wants an image, over and over, while others are up to no good."""

    node: Proxy
    image: Image
    right: int = 0
    wrong: list[str] = field(factory=list)
    slowest: float = 0.0

    def once(self) -> None:
        began = time.monotonic()
        try:
            got = self.node.download(self.image, TOKEN, timeout=SLACK)
        except OSError as error:
            self.wrong.append(repr(error))
            return
        self.slowest = max(self.slowest, time.monotonic() - began)
        if (got.status, got.sha512) == (200, self.image.payload.sha512):
            self.right += 1
        else:
            self.wrong.append(f"{got.status}, {got.size} bytes")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        over = threading.Event()

        def work() -> None:
            while not over.wait(0.1):
                self.once()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        self.once()
        assert self.wrong == []

    def __str__(self) -> str:
        return f"{self.right} downloads of others right, the slowest in {self.slowest:.1f} s"


@define(eq=False)
class Growth:
    """How much more memory a node takes than when this was made, at most, when it was looked at."""

    node: Proxy
    most: int = 0
    _before: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._before = self.node.rss()

    def look(self) -> None:
        self.most = max(self.most, self.node.rss() - self._before)

    def __str__(self) -> str:
        return f"{self.most / MIB:.0f} MiB more memory at most meanwhile"


@contextmanager
def nothing_stays(node: Proxy) -> Iterator[None]:
    """Descriptors and connections afterwards are what they were before."""
    before = settled(node)
    yield
    assert eventually(lambda: descriptors(node) <= before + 4, 2 * SHORT + SLACK), descriptors(node)
    assert eventually(lambda: metric(node, "connections", 'site="data"') == 0, SLACK)


def settled(node: Proxy) -> int:
    """Descriptors, once whoever was here before has gone."""
    assert eventually(lambda: metric(node, "connections", 'site="data"') == 0, 2 * SHORT + SLACK)
    return descriptors(node)


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.most_common())


# those who send slowly


@pytest.mark.parametrize("site", ["data", "management"])
def test_heads_that_never_end(node: Proxy, image: Image, site: str, campaign: Campaign) -> None:
    """Connections on which a head goes on coming byte by byte are told that it took too long."""
    count = campaign.scale(300, 1500) if site == "data" else 100
    port = node.port if site == "data" else node.manage_port
    other = Bystander(node, image)
    refused = metric(node, "refused_total", f'site="{site}"', "slow_head")
    lines = told(node, site, "slow_head")
    with nothing_stays(node), crowd(port, count) as clients, other.at_work():
        drip(
            clients,
            lambda number: b"GET / HTTP/1.1\r\nX: "[number : number + 1] or b"x",
            every=0.1,
            seconds=SLACK,
        )
        assert request("GET", f"{node.manage_url}/cache/health").status == 200
        assert all(client.over for client in clients)
    seen = outcomes(clients)
    assert set(seen) <= {"408", "reset"}, seen
    assert seen["408"] > count // 2
    assert metric(node, "refused_total", f'site="{site}"', "slow_head") - refused == count
    assert told(node, site, "slow_head") - lines <= 8
    campaign.record(
        "Clients",
        f"a head that goes on coming byte by byte, on the {site} site",
        times=count,
        clients=f"{listed(seen)}; {other}",
    )


def test_bodies_that_never_end(
    node: Proxy, image: Image, cloud: Cloud, glance: Relay, campaign: Campaign
) -> None:
    """Uploads that come byte by byte are told that they take too long, and free the origin."""
    count = campaign.scale(8, 24)  # Glance has a thread for each of a few only
    paths = [f"/v2/images/{cloud.open_images.queue()}/file" for _ in range(count)]
    head = (
        "PUT {} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    management = b"POST /cache/prune HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    other = Bystander(node, image)
    glance.calm()
    with nothing_stays(node), crowd(node.port, count) as slow, crowd(node.manage_port, 60) as slower:
        for client, path in zip(slow, paths, strict=True):
            client.send(head.format(path).encode())
        for client in slower:
            client.send(management.replace(b"Host: x", b"Host: 127.0.0.1:%d" % node.manage_port))
        with other.at_work():
            drip([*slow, *slower], lambda number: b"x", every=0.2, seconds=SLACK)
        assert all(client.over for client in [*slow, *slower])
    given_up = [client for client in slow if b"\r\nVia: 1.1 " in client.received]
    seen, seen_there = outcomes(client for client in slow if client not in given_up), outcomes(slower)
    assert seen + seen_there == {"408": count - len(given_up) + 60}
    assert seen, "Glance did not wait for any of them"
    begun = [exchange for path in paths for exchange in glance.of(path)]
    assert not any(exchange.request_whole for exchange in begun)
    assert eventually(lambda: open_at_origin(glance) == 0, SLACK)
    campaign.record(
        "Clients",
        "a body that comes byte by byte, uploads and requests to manage",
        times=count + len(slower),
        clients=f"{listed(seen + seen_there)}, {len(given_up)} answers of Glance's own; {other}",
        lost=f"{sum(exchange.request_whole for exchange in begun)} uploads taken for whole",
    )


def open_at_origin(glance: Relay) -> int:
    """Requests that the origin has not been answering and that are still open."""
    return sum(
        not connection.is_over
        and connection.observer.current is not None
        and not connection.observer.current.response_whole
        for connection in glance._connections
    )


# those who do nothing


def test_idle_connections(patient: Proxy, image: Image, campaign: Campaign) -> None:
    """A thousand connections on which nothing comes cost others nothing, and the node next to nothing."""
    count, rounds = 1000, campaign.scale(1, 3)
    other, growth = Bystander(patient, image), Growth(patient)
    there: list[int] = []

    def look() -> None:
        there.append(int(metric(patient, "connections", 'site="data"')))
        growth.look()

    seen: Counter[str] = Counter()
    with nothing_stays(patient):
        for _ in range(rounds):
            with crowd(patient.port, count) as clients:
                assert eventually(lambda: metric(patient, "connections", 'site="data"') == count, SLACK)
                with other.at_work():
                    drip(clients, lambda number: b"", every=0.2, seconds=3, meanwhile=look)
                seen += outcomes(clients)
    assert seen == {"open": count * rounds}
    assert min(there) >= count
    assert growth.most < count * 16 * 1024, growth
    campaign.record(
        "Clients",
        "a connection on which nothing is asked, a thousand at a time",
        times=count * rounds,
        clients=f"{listed(seen)} at once with {count - 1} others; {other}; {growth}",
    )


def test_idle_connections_for_too_long(node: Proxy, image: Image, campaign: Campaign) -> None:
    """They are closed in time."""
    count, other = campaign.scale(300, 1000), Bystander(node, image)
    with nothing_stays(node), crowd(node.port, count) as clients, other.at_work():
        drip(clients, lambda number: b"", every=0.2, seconds=SLACK)
    seen = outcomes(clients)
    assert seen == {"closed": count}
    campaign.record(
        "Clients",
        f"a connection on which nothing is asked for {SHORT:.0f} s, which is as long as this node waits",
        times=count,
        clients=f"{listed(seen)} by the node; {other}",
    )


def test_too_many_connections(small: Proxy, image: Image, campaign: Campaign) -> None:
    """Those that are too many are told so; whoever is idle gives way to whoever asks something."""
    node = small
    lines = told(node, "data", "connections")
    hello = b"GET / HTTP/1.1\r\nHost: x\r\nX: "  # a head that has begun
    with crowd(node.port, 50) as busy:
        for client in busy:
            client.send(hello)
        assert eventually(lambda: metric(node, "connections", 'site="data"') >= 50, SLACK)
        time.sleep(1.5)
        late = [say(node.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(campaign.scale(50, 500))]
        assert all(b"Retry-After: " in client.received for client in late)
        with crowd(node.port, 300) as burst:
            drip(burst, lambda number: b"", every=0.1, seconds=SLACK)
        assert request("GET", f"{node.manage_url}/cache/health").status == 200
    seen = outcomes([*late, *burst])
    assert set(seen) <= {"503", "closed", "reset"}, seen
    assert outcomes(late) == {"503": len(late)}
    assert eventually(lambda: metric(node, "connections", 'site="data"') == 0, SLACK)
    with crowd(node.port, 50):
        time.sleep(1.5)
        other = Bystander(node, image)
        for _ in range(20):
            other.once()
        assert other.wrong == []
    assert told(node, "data", "connections") - lines <= 8
    campaign.record(
        "Clients",
        "a connection more than there may be",
        times=len(late) + len(burst),
        clients=f"{listed(seen)}; {other.right} downloads right that idle connections gave way to",
    )


def test_too_many_requests_of_one_client(
    small: Proxy, glance: Relay, cloud: Cloud, campaign: Campaign
) -> None:
    """One client gets so many answers at once; others, told apart by what a trusted proxy says, theirs."""
    node = small
    refused = metric(node, "refused_total", 'reason="requests"')
    cold = cloud.open_images.create(Payload(MIB, seed=803))
    ask = f"GET {cold.path} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9, 198.51.100.%d\r\n\r\n"
    glance.hold(0)
    try:
        with crowd(node.port, 40) as clients:
            for number, client in enumerate(clients):
                client.send((ask % (number // 20)).encode())
            assert eventually(lambda: sum(look(client) != "open" for client in clients) == 20, SLACK)
            glance.hold(None)
            assert eventually(lambda: all(look(client) != "open" for client in clients), SLACK)
            seen = outcomes(clients)
    finally:
        glance.calm()
    assert seen == {"200": 20, "429": 20}
    streams = b"GET /cache/events HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n\r\n"
    with crowd(node.manage_port, 20) as listeners:
        for client in listeners:
            client.send(streams % node.manage_port)
        assert eventually(lambda: all(look(client) != "open" for client in listeners), SLACK)
        there = outcomes(listeners)
        assert there == {"200": 10, "429": 10}
        assert request("GET", f"{node.manage_url}/cache/health").status == 200
        assert request("GET", f"{node.manage_url}/cache").status == 429
        assert metric(node, "refused_total", 'reason="requests"') - refused == 31
    assert eventually(lambda: request("GET", f"{node.manage_url}/cache").status == 200, SLACK)
    campaign.record(
        "Clients",
        "a request more than one client may have answered at once",
        times=len(clients) + len(listeners),
        clients=listed(seen + there),
    )


def look(client: Hostile) -> str:
    client.look()
    return client.status


# those who take slowly, or not at all, or are gone


@pytest.mark.parametrize("cached", [True, False], ids=["hot", "cold"])
def test_a_crowd_that_takes_its_time(patient: Proxy, cloud: Cloud, campaign: Campaign, cached: bool) -> None:
    """Many downloads at 1 MB/s each of one image, which is here or still to come: all are whole and right."""
    count = campaign.scale(100, 1000)
    payload = Payload(campaign.scale(2, 16) * MIB, seed=804 + cached)
    image = cloud.open_images.create(payload)
    if cached:
        patient.download(image, TOKEN)
        patient.until_complete(image)
    growth, downloads = Growth(patient), Downloads(payload.data, 1e6)
    with nothing_stays(patient), crowd(patient.port, count, buffer=256 << 10) as clients:
        ask = get(patient, image)
        downloads.run(clients, ask, seconds=campaign.scale(60, 240), meanwhile=growth.look)
    assert (downloads.finished, downloads.wrong, downloads.broken) == (count, 0, 0)
    assert downloads.at_once == count
    assert growth.most < 16 * MIB + count * 32 * 1024, growth
    campaign.record(
        "Clients",
        f"a download of {payload.size // MIB} MiB, {'cached' if cached else 'cold'}, at no more than 1 MB/s",
        times=count,
        clients=f"{downloads.finished} whole and right, {downloads.at_once} at once, "
        f"{downloads.total / downloads.seconds / 1e6:.0f} MB/s together, {growth}",
        lost=f"{downloads.broken + downloads.wrong} downloads",
    )


def test_those_who_take_nothing(
    node: Proxy, small: Proxy, image: Image, long_image: Image, glance: Relay, campaign: Campaign
) -> None:
    """A client that takes nothing, or next to nothing, is cut off, from what is cached and what is not."""
    count = campaign.scale(20, 100)
    ask = get(node, long_image)
    other = Bystander(node, image)
    passed_on = 20
    stalled = {each: metric(each, "refused_total", 'site="data"', '"stalled"') for each in (node, small)}
    with (
        nothing_stays(node),
        nothing_stays(small),
        crowd(node.port, count, buffer=4096) as idle,
        crowd(node.port, count, buffer=4096) as slow,
        crowd(small.port, passed_on, buffer=4096) as passed,
        other.at_work(),
    ):
        for number, client in enumerate([*idle, *slow, *passed]):
            whose = b"X-Forwarded-For: 198.51.100.%d\r\n\r\n" % (number // 5)
            client.send(ask.removesuffix(b"\r\n") + whose)
        assert eventually(lambda: readers(node, long_image) == 2 * count, SLACK), readers(node, long_image)
        deadline = time.monotonic() + SLACK
        while time.monotonic() < deadline and readers(node, long_image):
            for client in slow:
                _sip(client)
            time.sleep(0.2)
        assert readers(node, long_image) == 0
        assert eventually(lambda: metric(small, "connections", 'site="data"') == 0, SLACK)
        assert eventually(lambda: open_at_origin(glance) == 0, SLACK)
        for client in [*idle, *slow, *passed]:
            client.look()
    assert not any(client.count >= LONG.size for client in [*idle, *slow, *passed])
    seen = Counter("cut off" if client.over else "left" for client in [*idle, *slow, *passed])
    assert set(seen) == {"cut off"}
    for each, number in ((node, 2 * count), (small, passed_on)):
        assert metric(each, "refused_total", 'site="data"', '"stalled"') - stalled[each] == number
        assert told(each, "data", "stalled")
    campaign.record(
        "Clients",
        "a client that takes nothing, or a kilobyte now and then, of an image that is cached or passed on",
        times=2 * count + passed_on,
        clients=f"{listed(seen)}; {other}",
    )


def _sip(client: Hostile) -> None:
    try:
        client.count += len(client.socket.recv(1024))
    except OSError:
        pass


def test_those_who_take_no_answers(node: Proxy, image: Image, campaign: Campaign) -> None:
    """Who asks for page after page on the management site and reads none is cut off."""
    ask = b"GET /cache/openapi.json HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % node.manage_port
    count = campaign.scale(10, 40)
    with crowd(node.manage_port, count, buffer=4096) as clients:
        for _ in range(20):
            for client in clients:
                client.push(ask * 20)
        assert eventually(lambda: metric(node, "connections", 'site="management"') <= 1, 3 * SHORT + SLACK)
        for client in clients:
            client.look()
        seen = Counter("cut off" if client.over else "left" for client in clients)
    assert set(seen) == {"cut off"}
    campaign.record(
        "Clients", "a client that asks to manage and reads no answer", times=count, clients=listed(seen)
    )


def test_those_who_listen_and_do_not_read(node: Proxy, campaign: Campaign) -> None:
    """Who asks for the stream of events and does not take it is cut off, and what waits for it is freed."""
    count, ids = campaign.scale(10, 40), [f"nobody-has-{number}" for number in range(500)]
    head = "GET /cache/events HTTP/1.1\r\nAccept: text/event-stream\r\n"
    ask = f"{head}Host: 127.0.0.1:{node.manage_port}\r\n\r\n"
    stalled = metric(node, "refused_total", 'site="management"', '"stalled"')
    with crowd(node.manage_port, count, buffer=4096) as clients:
        for client in clients:
            client.send(ask.encode())
        assert eventually(lambda: metric(node, "connections", 'site="management"') > count, SLACK)
        deadline = time.monotonic() + 3 * SHORT + SLACK
        while metric(node, "connections", 'site="management"') > 1 and time.monotonic() < deadline:
            call("POST", f"{node.manage_url}/cache/prefetch", payload={"images": ids})
            call("DELETE", f"{node.manage_url}/cache/jobs")
        assert metric(node, "connections", 'site="management"') == 1
        for client in clients:
            client.look()
        seen = Counter("cut off" if client.over else "left" for client in clients)
    assert set(seen) == {"cut off"}
    assert metric(node, "refused_total", 'site="management"', '"stalled"') - stalled == count
    campaign.record(
        "Clients", "a client that asks for the events and reads none", times=count, clients=listed(seen)
    )


def test_those_who_reset(node: Proxy, image: Image, long_image: Image, campaign: Campaign) -> None:
    """Connections that are reset in the middle of a download leave nothing behind."""
    rounds, each = campaign.scale(5, 40), 25
    ask = get(node, long_image)
    other = Bystander(node, image)
    with nothing_stays(node), other.at_work():
        for number in range(rounds):
            with crowd(node.port, each) as clients:
                for client in clients:
                    client.send(ask)
                time.sleep(0.02 * (number % 5))
                for client in clients:
                    client.reset()
    assert eventually(lambda: readers(node, long_image) == 0, SLACK)
    campaign.record("Clients", "a reset in the middle of a download", times=rounds * each, clients=str(other))


def test_those_who_vanish(
    cloud: Cloud, start_proxy: ProxyFactory, glance: Relay, image: Image, campaign: Campaign
) -> None:
    """Clients whose network is gone, without so much as a FIN, are noticed, waiting or reading."""
    count = campaign.scale(20, 100)
    cold = cloud.open_images.create(Payload(MIB, seed=805))
    glance.calm()
    node = start_proxy(glance.url, stall_timeout=SHORT, min_free=0)
    assert node.download(image, TOKEN).sha512 == BODY.sha512
    glance.hold(0)
    try:
        with crowd(node.port, count, buffer=1 << 16) as reading, crowd(node.port, count) as waiting:
            for client in reading:
                client.send(get(node, image))
            for client in waiting:
                client.send(get(node, cold))
            assert eventually(lambda: metric(node, "connections", 'site="data"') == 2 * count, SLACK)
            assert eventually(lambda: readers(node, image) == count, SLACK)
            for client in [*reading, *waiting]:
                client.vanish()
            gone = time.monotonic()
            assert eventually(lambda: metric(node, "connections", 'site="data"') == 0, 60)
            took = time.monotonic() - gone
    finally:
        glance.calm()
    assert readers(node, image) == 0
    kept = metric(node, "connections", 'site="data"')
    node.stop()
    campaign.record(
        "Clients",
        "a client whose network is gone, waiting for an answer or reading it",
        times=2 * count,
        clients=f"all given up {took:.0f} s later",
        lost=f"{kept:.0f} connections kept",
    )


# those who ask for much


@frozen
class Question:
    """A request, and what the answer to it has that the answers to others have not."""

    text: bytes
    status: int
    marks: tuple[bytes, ...] = ()

    def is_answered_by(self, answer: bytes) -> bool:
        return answer.startswith(b"HTTP/1.1 %d " % self.status) and all(mark in answer for mark in self.marks)


_BAD = Question(b"GET /\x80 HTTP/1.1\r\n\r\n", 400, (b"Connection: close\r\n",))


def questions(node: Proxy, image: Image, count: int) -> Iterator[Question]:
    """Parts of an image, a byte each, and now and then what needs no image."""
    ask = get(node, image).removesuffix(b"\r\n")
    for number in range(count):
        at = number * 1009 % BODY.size
        if number % 4 == 3:
            yield Question(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n", 204)
        else:
            marks = b"Content-Range: bytes %d-%d/" % (at, at), b"\r\n\r\n" + BODY.part(at, at + 1)
            yield Question(ask + b"Range: bytes=%d-%d\r\n\r\n" % (at, at), 206, marks)


def questions_to_manage(node: Proxy, image: Image, count: int) -> Iterator[Question]:
    """Parameters that nobody knows, which the answers name, and now and then one that is looked up."""
    ask = b"GET /cache/health%b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n"
    for number in range(count):
        if number % 4 == 3:
            yield Question(ask % (b"", node.manage_port), 200)
        else:
            yield Question(ask % (b"?x%dx" % number, node.manage_port), 400, (b"'x%dx'" % number,))


def test_pipelines(patient: Proxy, image: Image, campaign: Campaign) -> None:
    """Requests that are sent without waiting for answers are answered in order, and others in between."""
    count, rounds = 2000, campaign.scale(1, 10)
    node, other = patient, Bystander(patient, image)
    sites = {
        node.port: [*questions(node, image, count), _BAD],
        node.manage_port: [*questions_to_manage(node, image, count), _BAD],
    }
    seen: Counter[str] = Counter()
    with nothing_stays(node), other.at_work():
        for port, asked in sites.items():
            for _ in range(rounds):
                client = say(port, *(question.text for question in asked), seconds=60)
                got = list(answers(client.received))
                assert len(got) == len(asked)
                for question, answer in zip(asked, got, strict=True):
                    assert question.is_answered_by(answer), (question, answer)
                    seen[str(question.status)] += 1
    campaign.record(
        "Clients",
        "two thousand requests and a bad one in one go",
        times=rounds * len(sites),
        clients=f"{listed(seen)}, each the answer to what was asked in its place; {other}",
        lost=f"{rounds * sum(map(len, sites.values())) - seen.total()} answers",
    )


def answers(said: bytes) -> Iterator[bytes]:
    """One answer after the other, as far as each says that it goes."""
    at = 0
    while at < len(said):
        end = said.index(b"\r\n\r\n", at) + 4
        length = re.search(rb"\r\ncontent-length: *(\d+)\r\n", said[at:end].lower())
        end += int(length[1]) if length else 0
        yield said[at:end]
        at = end


Spans = list[tuple[int, int]]
#: What is asked for, and what is due of the `BODY`: where each part begins, and its length. None: refused.
RANGES: list[tuple[str, Spans | None]] = [
    (",".join(f"{n}-{n}" for n in range(0, 10000, 2)), None),
    (",".join(["0-"] * 5000), None),
    (",".join(f"{n * 100}-{n * 100 + 9}" for n in range(65)), None),
    (",".join(f"{n * 100}-{n * 100 + 9}" for n in range(64)), [(n * 100, 10) for n in range(64)]),
    (
        ",".join(f"{n * 100}-{n * 100 + 9}" for n in range(63, -1, -1)),
        [(n * 100, 10) for n in range(63, -1, -1)],
    ),
    (",".join(["0-"] * 64), [(0, BODY.size)]),
    (",".join(f"{n}-{n + 100}" for n in range(60)), [(0, 160)]),
    ("5-,0-9,3-7", [(0, BODY.size)]),
    ("7-9,100-199,0-4,5-6,150-249", [(0, 10), (100, 150)]),
    (f"500-599,{10**400}-,-1", [(500, 100), (BODY.size - 1, 1)]),
    (f"0-{10**400}", [(0, BODY.size)]),
    (f"{10**400}-", None),
    (f"-{10**400}", [(0, BODY.size)]),
    ("9-3", None),
    ("0-0," * 3 + "x", None),
    ("0-18446744073709551616", [(0, BODY.size)]),
    ("-0", None),
    (",,,,0-0,,,,", [(0, 1)]),
]


def test_ranges(node: Proxy, image: Image, campaign: Campaign) -> None:
    """However many, large or senseless the ranges are, what comes is what they mean, and not too much: more
    than 64 are refused; what overlaps or touches is sent once, in the place of what was asked for first."""
    seen: Counter[str] = Counter()
    data = BODY.data
    for ranges, due in RANGES:
        answer = request("GET", node.url + image.path, headers={"Range": f"bytes={ranges}"})
        if due is None:
            assert answer.status == 416, ranges[:60]
            assert answer.headers["Content-Range"] == f"bytes */{BODY.size}"
            assert answer.body == b""
            seen["refused with 416"] += 1
            continue
        assert answer.status == 206, ranges[:60]
        got = list(parts(answer))
        assert [(start, length) for start, length, _ in got] == due, ranges[:60]
        assert all(part == data[start : start + length] for start, length, part in got), ranges[:60]
        seen["answered with the very parts"] += 1
    campaign.record(
        "Clients", "thousands of ranges, overlapping, endless, senseless", times=len(RANGES), clients=seen
    )


def parts(answer: Answer) -> Iterator[tuple[int, int, bytes]]:
    """Where each part of an answer is said to be from, how long it is said to be, and its bytes."""
    boundary = answer.headers.get_boundary()
    if boundary is None:
        yield *_span(answer.headers["Content-Range"]), answer.body
        return
    assert answer.headers["Content-Range"] is None
    first, *pieces, end = (b"\r\n" + answer.body).split(b"\r\n--" + boundary.encode())
    assert (first, end) == (b"", b"--\r\n"), "no whole multipart"
    assert len(pieces) > 1
    for piece in pieces:
        head, _, data = piece.partition(b"\r\n\r\n")
        yield *_span(HeaderParser().parsestr(head.decode().lstrip())["Content-Range"]), data


def _span(content_range: str) -> tuple[int, int]:
    found = re.fullmatch(rf"bytes (\d+)-(\d+)/{BODY.size}", content_range)
    assert found is not None, content_range
    return int(found[1]), int(found[2]) + 1 - int(found[1])


# those who say what cannot be meant

HOST = b"Host: 127.0.0.1\r\n"


def _no_utf8(method: bytes, target: bytes) -> bytes:
    fields = (b"Accept", b"Content-Type", b"Referer", b"User-Agent", b"X-Image-Cache-Clear-Target")
    lines = b"".join(b"%s: \xe9/\xff\r\n" % name for name in fields)
    return b"%s %s HTTP/1.1\r\n%s%sContent-Length: 2\r\n\r\n{}" % (method, target, HOST, lines)


#: What is said, what is due on the data site, and on the management site. What the node does not refuse
#: itself it leaves to Glance, whose answers are its own affair.
ABSURD: list[tuple[str, bytes, str, str]] = [
    ("a URL of a mebibyte", b"GET /" + b"a" * MIB + b" HTTP/1.1\r\n" + HOST + b"\r\n", "414", "414"),
    ("a field of a mebibyte", b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * MIB + b"\r\n\r\n", "431", "431"),
    ("fields without end", b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 5000 + b"\r\n", "431", "431"),
    (
        "large fields",
        b"GET / HTTP/1.1\r\n" + HOST + (b"X: " + b"y" * 40000 + b"\r\n") * 4 + b"\r\n",
        "431",
        "431",
    ),
    ("a name of a mebibyte", b"GET / HTTP/1.1\r\n" + b"X" * MIB + b": a\r\n\r\n", "431", "431"),
    ("NUL in a URL", b"GET /v2/images/\0/file HTTP/1.1\r\n" + HOST + b"\r\n", "400", "400"),
    ("NUL in a field", b"GET / HTTP/1.1\r\n" + HOST + b"X: \0\r\n\r\n", "400", "400"),
    ("no UTF-8", b"GET /\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n", "400", "400"),
    *(
        (what, b"GET /v2/images/%b/file HTTP/1.1\r\n" % image_id + HOST + b"\r\n", data, management)
        for what, image_id, data, management in (
            ("encoded, no UTF-8", b"%ff%fe", "Glance's own 500", "400"),
            ("encoded NUL", b"%00", "Glance's own 404", "404"),
            ("encoded line", b"a%0d%0aX:%20y", "Glance's own 404", "404"),
            ("encoded by half", b"%zz%", "Glance's own 404", "404"),
            ("up", b"../../../../etc/passwd", "Glance's own 404", "Glance's own 404"),
            ("up, encoded", b"%2e%2e%2f%2e%2e%2fetc", "Glance's own 404", "Glance's own 404"),
            ("up, twice encoded", b"%252e%252e", "Glance's own 404", "404"),
            ("an id of 60 KB", b"a" * 60000, "Glance's own 414", "404"),
        )
    ),
    *(
        (
            f"{method.decode()} {target.decode()} with fields that are no UTF-8",
            _no_utf8(method, target),
            data,
            management,
        )
        for method, target, data, management in (
            (b"GET", b"/cache", "Glance's own 300", "200"),
            (b"GET", b"/cache/", "Glance's own 300", "200"),
            (b"GET", b"/metrics", "Glance's own 300", "200"),
            (b"GET", b"/cache/events", "Glance's own 300", "200"),
            (b"POST", b"/cache/prefetch", "Glance's own 300", "415"),
            (b"PUT", b"/versions", "Glance's own 200", "405"),
            (b"DELETE", b"/v2/cache", "Glance's own 500", "400"),
            (b"DELETE", b"/v2/cache/a", "Glance's own 500", "404"),
            (b"GET", b"/v2/images/a/file", "Glance's own 404", "404"),
        )
    ),
    (
        "ten thousand slashes",
        b"GET " + b"/" * 10000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        "Glance's own 414",
        "Glance's own 414",
    ),
    ("a method of 60 KB", b"G" * 60000 + b" / HTTP/1.1\r\n" + HOST + b"\r\n", "Glance's own 414", "405"),
    ("no method", b" / HTTP/1.1\r\n" + HOST + b"\r\n", "400", "400"),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n", "400", "400"),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400", "400"),
    ("HTTP/0.9", b"GET /v2/images\r\n\r\n", "400", "400"),
    ("nonsense", bytes(range(256)) * 40 + b"\r\n\r\n", "400", "400"),
]


@pytest.mark.parametrize("site", ["data", "management"])
def test_absurd_heads(node: Proxy, image: Image, site: str, campaign: Campaign) -> None:
    """Are refused with a status that says why, or are what nobody has; and nothing is logged as a bug."""
    port = node.port if site == "data" else node.manage_port
    before = sorted(path.name for path in node.cache_dir.rglob("*"))
    seen: Counter[str] = Counter()
    for what, text, *due in ABSURD:
        client = say(port, text, until=b"\r\n\r\n")
        outcome = f"Glance's own {client.status}" if b"\r\nVia: 1.1 " in client.received else client.status
        assert outcome == due[site == "management"], (what, client.received[:500])
        seen[outcome] += 1
    assert sorted(path.name for path in node.cache_dir.rglob("*")) == before
    assert node.download(image, TOKEN).sha512 == BODY.sha512
    Proxy.check_log(node.service)
    campaign.record(
        "Clients", f"heads and URLs that make no sense, on the {site} site", times=len(ABSURD), clients=seen
    )


CHUNKED = b"Transfer-Encoding: chunked\r\n"
#: Hidden in requests that somebody could read in more than one way.
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
LENGTH = b"Content-Length: %d\r\n" % len(HIDDEN)
POST = b"POST /asked HTTP/1.1\r\nHost: 127.0.0.1\r\n"
SMUGGLED: list[tuple[str, bytes]] = [
    ("length and chunks", POST + b"Content-Length: 6\r\n" + CHUNKED + b"\r\n0\r\n\r\nX"),
    ("length of chunks", POST + b"Content-Length: %d\r\n" % len(CHUNK) + CHUNKED + b"\r\n" + CHUNK),
    ("chunks and length", POST + CHUNKED + LENGTH + b"\r\n0\r\n\r\n" + HIDDEN),
    ("two lengths", POST + b"Content-Length: 0\r\n" + LENGTH + b"\r\n" + HIDDEN),
    ("two equal lengths", POST + LENGTH * 2 + b"\r\n" + HIDDEN),
    ("a list of lengths", POST + b"Content-Length: 0, %d\r\n\r\n" % len(HIDDEN) + HIDDEN),
    ("a list of equal lengths", POST + b"Content-Length: 5, 5\r\n\r\nhello" + HIDDEN),
    ("a length with a sign", POST + b"Content-Length: +%d\r\n\r\n" % len(HIDDEN) + HIDDEN),
    ("a negative length", POST + b"Content-Length: -1\r\n\r\n" + HIDDEN),
    ("a length in hex", POST + b"Content-Length: 0x%x\r\n\r\n" % len(HIDDEN) + HIDDEN),
    ("a length with an underscore", POST + b"Content-Length: 1_0\r\n\r\n" + HIDDEN),
    ("an empty length", POST + b"Content-Length: \r\n\r\n" + HIDDEN),
    ("a length that overflows", POST + b"Content-Length: 18446744073709551616\r\n\r\n" + HIDDEN),
    ("a length with text", POST + b"Content-Length: 5 bytes\r\n\r\nhello" + HIDDEN),
    ("xchunked", POST + b"Transfer-Encoding: xchunked\r\n" + LENGTH + b"\r\n" + CHUNK),
    ("chunked, identity", POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNK),
    ("identity", POST + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\n" + HIDDEN),
    ("identity, chunked", POST + b"Transfer-Encoding: identity, chunked\r\n\r\n" + CHUNK),
    ("two codings", POST + b"Transfer-Encoding: gzip\r\n" + CHUNKED + b"\r\n" + CHUNK),
    ("chunked twice", POST + CHUNKED * 2 + b"\r\n" + CHUNK),
    ("chunked and nothing", POST + b"Transfer-Encoding: chunked,\r\n\r\n" + CHUNK),
    ("an empty coding", POST + b"Transfer-Encoding:\r\n" + LENGTH + b"\r\n" + HIDDEN),
    ("chunked with a vertical tab", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNK),
    ("chunked in quotes", POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + CHUNK),
    ("chunked with a parameter", POST + b"Transfer-Encoding: chunked;a=b\r\n\r\n" + CHUNK),
    ("a space before the colon", POST + b"Transfer-Encoding : chunked\r\n" + LENGTH + b"\r\n" + CHUNK),
    ("a tab before the colon", POST + b"Content-Length\t: 5\r\n\r\nhello" + HIDDEN),
    ("a folded coding", POST + b"Transfer-Encoding:\r\n chunked\r\n" + LENGTH + b"\r\n" + CHUNK),
    ("a folded field", POST + b"X: a\r\n b: c\r\n\r\n" + HIDDEN),
    ("a field that begins with a space", POST + b" Content-Length: 5\r\n\r\nhello" + HIDDEN),
    ("a bare LF after a field", POST + b"X: y\n" + CHUNKED + b"\r\n" + CHUNK),
    ("only bare LFs", b"POST /asked HTTP/1.1\nHost: 127.0.0.1\n\n" + HIDDEN),
    ("a bare LF at the end", POST + b"\n" + HIDDEN),
    ("a bare CR in a field", POST + b"X: y\rContent-Length: 5\r\n\r\nhello" + HIDDEN),
    ("a bare CR for a line", b"POST /asked HTTP/1.1\rHost: 127.0.0.1\r\r" + HIDDEN),
    ("a field without a colon", POST + b"Content-Length 5\r\n\r\nhello" + HIDDEN),
    ("a NUL in the coding", POST + b"Transfer-Encoding: chunked\0\r\n\r\n" + CHUNK),
    ("chunks of HTTP/1.0", b"POST /asked HTTP/1.0\r\nHost: 127.0.0.1\r\n" + CHUNKED + b"\r\n" + CHUNK),
    ("HTTP/0.9", b"GET /asked\r\n" + HIDDEN),
    ("another version", b"POST /asked HTTP/1.9\r\nHost: 127.0.0.1\r\n\r\n" + HIDDEN),
    ("no version", b"POST /asked \r\nHost: 127.0.0.1\r\n\r\n" + HIDDEN),
    ("two hosts", POST + b"Host: y\r\n\r\n"),
    ("no host", b"POST /asked HTTP/1.1\r\n\r\n"),
    ("a chunk with a sign", POST + CHUNKED + b"\r\n+5\r\nhello\r\n0\r\n\r\n"),
    ("a negative chunk", POST + CHUNKED + b"\r\n-1\r\n" + HIDDEN),
    ("a chunk in 0x", POST + CHUNKED + b"\r\n0x5\r\nhello\r\n0\r\n\r\n"),
    ("a chunk with a space before", POST + CHUNKED + b"\r\n 5\r\nhello\r\n0\r\n\r\n"),
    ("a chunk with a space after", POST + CHUNKED + b"\r\n5 \r\nhello\r\n0\r\n\r\n"),
    ("a chunk without a size", POST + CHUNKED + b"\r\n;a\r\nhello\r\n0\r\n\r\n"),
    ("a chunk that is longer than it says", POST + CHUNKED + b"\r\n3\r\nhello\r\n0\r\n\r\n"),
    ("a chunk that ends with LF", POST + CHUNKED + b"\r\n5\r\nhello\n0\r\n\r\n"),
    ("a chunk size that ends with LF", POST + CHUNKED + b"\r\n5\nhello\r\n0\r\n\r\n"),
    ("a bare LF in an extension", POST + CHUNKED + b"\r\n5;a\nb\r\nhello\r\n0\r\n\r\n"),
    ("a bare CR in an extension", POST + CHUNKED + b"\r\n5;a\rb\r\nhello\r\n0\r\n\r\n"),
    ("an extension without end", POST + CHUNKED + b"\r\n5;" + b"a" * 20000 + b"\r\nhello\r\n0\r\n\r\n"),
    ("a bare LF for a trailer", POST + CHUNKED + b"\r\n0\r\n\n" + HIDDEN),
    ("trailers without end", POST + CHUNKED + b"\r\n0\r\n" + b"X: y\r\n" * 20000 + b"\r\n"),
]
#: What has one meaning only, though it looks odd: how many answers there are before the last one.
PLAIN: list[tuple[str, bytes]] = [
    ("a length with zeros", POST + b"Content-Length: 005\r\n\r\nhello"),
    ("CHUNKED", POST + b"Transfer-Encoding: CHUNKED\r\n\r\n" + CHUNK),
    ("a tab before the value", POST + b"Transfer-Encoding:\tchunked\r\n\r\n" + CHUNK),
    ("an extension", POST + CHUNKED + b"\r\n5;a=b\r\nhello\r\n0;c\r\n\r\n"),
    ("zeros before a size", POST + CHUNKED + b"\r\n0000005\r\nhello\r\n00\r\n\r\n"),
    ("a trailer", POST + CHUNKED + b"\r\n0\r\nContent-Length: 5\r\n\r\n"),
    ("a URL for another host", b"POST http://x/asked HTTP/1.1\r\nHost: y\r\nContent-Length: 0\r\n\r\n"),
    ("a length beside an underscore", POST + b"Content_Length: 5\r\nContent-Length: 0\r\n\r\n"),
    ("an empty line before", b"\r\n" + POST + LENGTH + b"\r\n" + HIDDEN),
]


@pytest.mark.parametrize("site", ["data", "management"])
def test_smuggling(node: Proxy, glance: Relay, image: Image, site: str, campaign: Campaign) -> None:
    """What could be read as one request or as two is read in one way, or refused with all that follows."""
    seen: Counter[str] = Counter()
    port = node.port if site == "data" else node.manage_port
    expected: Counter[str] = Counter()
    glance.calm()
    for number, (what, text) in enumerate([*SMUGGLED, *PLAIN]):
        mine, next_one = f"/asked-{number}", f"/following-{number}"
        follow = f"GET {next_one} HTTP/1.1\r\n".encode() + HOST + b"Connection: close\r\n\r\n"
        client = say(port, text.replace(b"/asked", mine.encode()), follow)
        assert client.over, what
        if (what, text) in SMUGGLED:
            assert client.statuses == [400], (what, client.statuses, client.received[:500])
            seen["refused"] += 1
        else:
            assert len(client.statuses) == 2, (what, client.statuses, client.received[:500])
            assert client.statuses[0] != 400 or site == "management", (what, client.received[:500])
            expected.update([mine, next_one] if site == "data" else [])
            seen["read in one way"] += 1
    request("GET", f"{node.url}/last")
    assert eventually(lambda: bool(glance.of("/last")), SLACK)
    # Of what was refused midway the origin has seen the beginning, and nothing that it could take for whole.
    whole = Counter(exchange.path for exchange in list(glance.exchanges) if exchange.request_whole)
    assert whole - Counter(["/last"]) == expected
    hidden = len(glance.of("/hidden"))
    assert hidden == 0
    assert node.download(image, TOKEN).sha512 == BODY.sha512
    campaign.record(
        "Clients",
        f"a request that hides another, on the {site} site",
        times=len(SMUGGLED) + len(PLAIN),
        clients=seen,
        lost=f"{hidden} requests got through that were hidden in others",
    )


def test_numbers_of_refusals(node: Proxy) -> None:
    """Refusals have been counted by site and reason, and the node is as it was."""
    assert metric(node, "refused_total", 'site="data"', 'reason="malformed"') > 0
    assert metric(node, "refused_total", 'site="management"', 'reason="malformed"') > 0
    assert json.loads(request("GET", f"{node.manage_url}/cache").body)

"""Bytes of strangers, by the thousand: whatever comes, nothing is a bug, and the node goes on."""

import random
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings

from tests.cloud.client import request
from tests.cloud.imitation import Imitation
from tests.cloud.ports import LOOPBACK
from tests.faults.campaign import Campaign
from tests.integration.endless import body_of, endless
from tests.integration.launching import Launch
from tests.unit.fuzzing import PROMISES, Promise

#: Connections at once.
_AT_ONCE = 8
_PHASES = (Phase.explicit, Phase.generate, Phase.shrink)


def test_promises(campaign: Campaign) -> None:
    """Everything that reads a stranger's bytes keeps what it promises about any bytes."""
    tried: Counter[str] = Counter()
    how = settings(
        max_examples=campaign.scale(20, 8000),
        derandomize=not campaign.whole,
        database=None,
        deadline=None,
        phases=_PHASES,
        suppress_health_check=list(HealthCheck),
    )
    for what, promise in PROMISES.items():
        how(given(promise.values)(_counted(tried, what, promise)))()
    campaign.record(
        "Security",
        f"made-up {', '.join(PROMISES)}",
        times=tried.total(),
        clients="each kept what is promised about it",
    )


def _counted(tried: Counter[str], what: str, promise: Promise) -> Callable[[object], None]:
    def check(value: object) -> None:
        tried[what] += 1
        promise.check(value)

    return check


@contextmanager
def node_before(origin: Imitation, directory: Path) -> Iterator[Launch]:
    launch = Launch(directory)
    try:
        launch.start(*launch.flags(origin=origin.url, max_size="64MiB", manage_connections="4000"))
        yield launch
    finally:
        launch.clean_up()
        origin.close()


_METHODS = ("GET",) * 8 + (
    "HEAD",
    "DELETE",
    "PUT",
    "POST",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "get",
    "PATCH",
    "G\x00",
    "",
)
_TARGETS = (
    "/v2/images/a/file",
    "/v2.5/images/b/file",
    "/v2/images/a",
    "/versions",
    "/cache",
    "/cache/",
    "/cache/images?limit=5",
    "/cache/events",
    "/cache/jobs/1",
    "/cache/prefetch",
    "/v2/cache/a",
    "/metrics",
    "*",
    "http://x/v2/images/a/file",
)
_VERSIONS = ("1.1",) * 9 + ("1.0", "2.0", "x")
_HOSTS = (("Host: localhost",),) * 9 + ((), ("Host: ",), ("Host: a", "Host: b"))
_FIELDS = (
    "Range: bytes=0-9,5-6,-1",
    "Range: bytes=" + "0-1," * 200,
    "If-None-Match: " + '"a",' * 200,
    "If-Range: W/",
    "Content-Length: 5",
    "Content-Length: -1",
    "Content-Length: 5, 5",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Expect: 100-continue",
    "Connection: close, host, range, x-auth-token",
    "Connection: upgrade",
    "Upgrade: h2c",
    "X-Auth-Token: " + "t" * 2000,
    "Accept: text/html;q=0.5, */*;q=" + "0" * 50,
    "Accept: \u00e9/*",
    "Content-Type: application/json",
    "Content-Type: \u00e9",
    "Referer: \u00e9",
    "Last-Event-ID: " + "9" * 30,
    "X-Forwarded-For: " + "1.1.1.1, " * 100,
    "X\u00ff: \u00ff",
    " folded",
    "no colon",
)
_BODIES = (
    b"",
    b"hello",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"-1\r\n",
    b'{"images": ["a"]}',
    b"[" * 500,
    b"\xff\x00" * 50,
)


def _made_up(rng: random.Random) -> bytes:
    """A request, more or less."""
    head = f"{rng.choice(_METHODS)} {rng.choice(_TARGETS)} HTTP/{rng.choice(_VERSIONS)}"
    fields = [*rng.choice(_HOSTS), *rng.sample(_FIELDS, rng.choice((0, 0, 1, 1, 2, 4)))]
    data = bytearray("\r\n".join([head, *fields, "", ""]).encode("latin-1"))
    data += rng.choice(_BODIES)
    for _ in range(rng.choice((0, 0, 0, 1, 2, 8))):
        place = rng.randrange(len(data) + 1)
        what = rng.randrange(4)
        if what == 0:
            data[place:place] = rng.randbytes(rng.randrange(1, 5))
        elif what == 1:
            del data[place : place + rng.randrange(1, 9)]
        elif what == 2:
            data[place : place + 1] = rng.choice(
                (b"\r\n", b"\n", b"\r", b"\x00", b"%", b"/", b";", b"\x1b", b" ")
            )
        else:
            data[place:place] = data[: rng.randrange(len(data) + 1)]
    return bytes(data)


def test_bodies_that_the_origin_does_not_read(tmp_path: Path, campaign: Campaign) -> None:
    """Do not become the beginning of somebody else's request."""
    hidden = b"hello"
    times = campaign.scale(20, 400)
    seen: Counter[str] = Counter()
    with node_before(Imitation(endless, attentive=False), tmp_path) as node:
        asked = f"http://{LOOPBACK}:{node.data_port}/v2/images/a/file"
        for number in range(times):
            head = b"GET /v2/images/a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(hidden)
            with socket.create_connection((LOOPBACK, node.data_port), timeout=10) as client:
                client.sendall(head + b"\r\n" + hidden)
                assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
            answer = request("GET", asked, token=f"token {number}")
            seen["right" if answer.body == body_of("a") else "another's"] += 1
    assert seen == {"right": times}
    campaign.record(
        "Security",
        "a request with a body that Glance does not read, and one of somebody else behind it",
        times=times,
        clients=seen,
        lost=f"{times - seen['right']} answers that are another's",
    )


def test_requests(tmp_path: Path, campaign: Campaign) -> None:
    """Whatever is said to either site: no answer is a bug, nothing that is no HTTP reaches the origin, and
    what is meant well is answered meanwhile."""
    seeds = random.Random() if campaign.whole else random.Random(905)
    seen: Counter[str] = Counter()
    wrong: list[tuple[bytes, bytes]] = []
    said_in_all = 0
    origin = Imitation(endless)
    with node_before(origin, tmp_path) as node, ThreadPoolExecutor(_AT_ONCE) as pool:
        meant_well = f"http://{LOOPBACK}:{node.data_port}/v2/images/a/file"
        for _ in range(campaign.scale(6, 400)):
            requests = [_made_up(random.Random(seeds.randrange(1 << 30))) for _ in range(4 * _AT_ONCE)]
            ports = [(node.data_port, node.manage_port)[number % 2] for number in range(len(requests))]
            for said, answer in zip(requests, pool.map(_say, ports, requests), strict=True):
                statuses = re.findall(rb"HTTP/1\.[01] ([0-9]{3}) ", answer)
                said_in_all += 1
                seen.update([_kind(status.decode()) for status in statuses] or ["nothing"])
                if (answer and not statuses) or any(_is_a_fault(status) for status in statuses):
                    wrong.append((said, answer[:1000]))
            assert request("GET", meant_well).body == body_of("a")
        assert wrong == []
        assert origin.malformed == []
        assert not re.search(r"Traceback|Unhandled|#critical\]|\x1b", node.log())
        assert node.stop() == (0, "")
    campaign.record(
        "Security",
        "made-up and mangled requests to both sites",
        times=said_in_all,
        clients=seen,
        lost=f"{len(wrong)} faults, {len(origin.malformed)} that were no HTTP for the origin",
    )


def _kind(status: str) -> str:
    return status if status.startswith("5") else f"{status[0]}xx"


def _is_a_fault(status: bytes) -> bool:
    """Of the node's: the origin is well, and answers whatever it is asked. 501 and 505 are about the
    request."""
    return status.startswith(b"5") and status not in (b"501", b"505")


def _say(port: int, data: bytes) -> bytes:
    """What is answered, until the node closes or says no more for a while."""
    answer = bytearray()
    with closing(socket.create_connection((LOOPBACK, port), timeout=10)) as client, suppress(OSError):
        client.sendall(data)
        client.settimeout(0.3)
        while len(answer) < 1 << 20 and (piece := client.recv(1 << 16)):
            answer += piece
    return bytes(answer)

"""An origin that misbehaves never hurts a client more than it must: what breaks is resumed behind their
backs, what is wrong reaches nobody, and nothing is left over."""

import contextlib
import os
import random
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import pytest
from attrs import define, field

from tests.cloud.client import Download, request
from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.images import Image
from tests.cloud.payload import MIB, Payload
from tests.cloud.proxy import Proxy, eventually
from tests.faults import unreliable as faults
from tests.faults.campaign import Campaign
from tests.faults.unreliable import Fault, Unreliable
from tests.unit.authority import Authority

RIGHT, CUT, NONE, WRONG = "whole and right", "cut off", "not answered", "WRONG"
SPOILT = "cut off behind a wrong bit"
SIZE = 4 * MIB + 321
#: Images that are tried at the same time: most of a trial is waiting.
LANES = 4
#: Seconds of silence that the node bears.
SILENCE = 5.0
_RESUMED = r"The transfer of \w+ broke: .*; resuming in"
_GIVEN_UP = r"Cannot fill \w+: "
_REFUSED = r"The origin refused to fill \w+ for one client"
_NO_RANGES: str | None = None  # nothing went wrong that anybody would have to know of


@pytest.fixture(scope="module")
def glance(cloud: Cloud) -> Iterator[Unreliable]:
    """A Glance that anybody may ask, behind what spoils its answers."""
    origin = Unreliable(cloud.open_images.url)
    origin.up()
    yield origin
    origin.down()


@pytest.fixture(scope="module")
def node(glance: Unreliable, start_proxy: ProxyFactory) -> Proxy:
    return start_proxy(
        origin=glance.url,
        authorization_ttl=0,
        origin_timeout=SILENCE,
        origin_connect_timeout=2,
        origin_min_rate="64KiB",
    )


@pytest.fixture(scope="module")
def images(cloud: Cloud) -> list[Image]:
    return [cloud.open_images.create(Payload(SIZE, seed=900 + lane)) for lane in range(LANES)]


@define(eq=False)
class Trials:
    """One image, spoilt again and again."""

    node: Proxy
    glance: Unreliable
    image: Image
    seen: Counter[str] = field(factory=Counter)
    wrong: list[str] = field(factory=list)
    rng: random.Random = field(factory=lambda: random.Random(1))

    def cold(self, what: str, spoilt: Sequence[Fault], *, ranged: bool = True) -> Counter[str]:
        """Clients that come together while nothing is cached, and one afterwards, when all is in order."""
        self.forget()
        self.glance.spoil(self.image.path, *spoilt)
        ranges = [(0, SIZE), (0, SIZE)] + [self._range()] * ranged
        with ThreadPoolExecutor(len(ranges)) as pool:
            outcomes = Counter(pool.map(self._download, range(len(ranges)), ranges))
        self.glance.spoil(self.image.path)
        self.seen += outcomes
        if outcomes[WRONG]:
            self.wrong.append(f"{what}: {dict(outcomes)}")
        self.check(what)
        return outcomes

    def forget(self) -> None:
        """Have the node keep nothing of it."""
        if self.node.entry(self.image) is not None:
            self.node.purge(self.image)

    def check(self, what: str) -> None:
        """Afterwards the cache is right, and nothing is going on."""
        again = self._download(9, (0, SIZE))
        if again != RIGHT:
            self.wrong.append(f"{what}: {again} afterwards")
        if not eventually(self._is_quiet, 10):
            self.wrong.append(f"{what}: left {self.node.entry(self.image)}")

    def _is_quiet(self) -> bool:
        entry = self.node.entry(self.image) or {}
        return (entry.get("state"), entry.get("readers")) == ("complete", 0)

    def _range(self) -> tuple[int, int]:
        start = self.rng.randrange(SIZE)
        return start, min(SIZE, start + self.rng.randint(1, 2 * MIB))

    def _download(self, client: int, interval: tuple[int, int]) -> str:
        start, stop = interval
        headers = {"X-Client": str(client)}
        if interval != (0, SIZE):
            headers["Range"] = f"bytes={start}-{stop - 1}"
        try:
            got = self.node.download(self.image, headers=headers, timeout=60)
        except (OSError, HTTPException):
            return NONE
        return judge(got, self.image, start, stop)


def judge(got: Download, image: Image, start: int, stop: int) -> str:
    """What a client saw."""
    if got.status not in (200, 206):
        return f"status {got.status}"
    if got.whole and got.size != stop - start:
        return WRONG
    right = got.sha512 == image.payload.hash_of(start, start + got.size)
    if got.whole:
        return RIGHT if right else WRONG
    return CUT if right else SPOILT


@define(eq=False)
class Leftovers:
    """What a node has open, of bodies and pipes, when it keeps nothing; the rest is its clients'."""

    node: Proxy
    pipes: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.pipes = len(self._pipes())

    def check(self) -> None:
        self.node.purge()
        quiet = eventually(lambda: not self._bodies() and len(self._pipes()) <= self.pipes, 10)
        assert quiet, (self.pipes, sorted(self._open()))

    def _bodies(self) -> list[str]:
        return [path for path in self._open() if "/bodies/" in path or "/quarantine/" in path]

    def _pipes(self) -> list[str]:
        return [path for path in self._open() if path.startswith("pipe:")]

    def _open(self) -> list[str]:
        folder = Path(f"/proc/{self.node.service.pid}/fd")
        paths = []
        for file in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                paths.append(os.readlink(file))
        return paths


def lanes(node: Proxy, glance: Unreliable, images: Sequence[Image]) -> list[Trials]:
    return [Trials(node, glance, image, rng=random.Random(lane)) for lane, image in enumerate(images)]


def sum_of(trials: Sequence[Trials]) -> Counter[str]:
    return sum((each.seen for each in trials), Counter[str]())


_CUTS: Sequence[Callable[[int], Fault]] = (
    faults.cut,
    faults.reset,
    faults.cut,
    faults.reset,
    faults.stall,
    faults.drip,
    faults.chunked,
    faults.cut_head,
    faults.reset_head,
    faults.gibberish,
    faults.surplus,
    lambda at: faults.paced(8 * MIB),
    lambda at: faults.says("503 Service Unavailable"),
    lambda at: faults.says("500 Oops"),
    lambda at: faults.says("429 Too Many Requests", "Retry-After: 1"),
)


def test_cut_anywhere(node: Proxy, glance: Unreliable, images: list[Image], campaign: Campaign) -> None:
    """An origin whose answers break off at any byte, several times in a row, costs its clients time only."""
    Trials(node, glance, images[0]).check("warming up")
    left = Leftovers(node)
    glance.played.clear()
    rounds = campaign.scale(2, 70)

    def run(trials: Trials) -> None:
        for number in range(rounds):
            spoilt = [
                trials.rng.choice(_CUTS)(int(trials.rng.triangular(0, SIZE, 0)))
                for _ in range(trials.rng.randint(1, 4))
            ]
            what = f"round {number}, {', '.join(fault.name for fault in spoilt)}"
            outcomes = trials.cold(what, spoilt)
            if set(outcomes) != {RIGHT}:
                trials.wrong.append(f"{what}: {dict(outcomes)}")

    trials = lanes(node, glance, images)
    with ThreadPoolExecutor(LANES) as pool:
        list(pool.map(run, trials))
    assert [line for each in trials for line in each.wrong] == []
    left.check()
    log = node.service.logged()
    assert re.search(_RESUMED, log)
    campaign.record(
        "Origin",
        "an answer that breaks off, stalls, drips or fails at a random byte",
        times=len(glance.played),
        clients=sum_of(trials),
    )


#: What an origin may do to one answer, and what the log says then.
_ODDITIES: Sequence[tuple[Fault, str | None]] = (
    (faults.mute(), _RESUMED),
    (faults.drip_head(), _RESUMED),
    (faults.too_long, _RESUMED),
    (faults.too_short, _RESUMED),
    (faults.two_lengths, _RESUMED),
    (faults.until_close, None),
    (faults.interim_flood, _RESUMED),
    (faults.some_interim, None),
    (faults.field_flood, _RESUMED),
    (faults.long_field, _RESUMED),
    (faults.nul, _RESUMED),
    (faults.carriage_return, _RESUMED),
    (faults.folded, None),
    (faults.coding_unknown, _RESUMED),
    (faults.chunked(), None),
    (faults.chunked(100), _RESUMED),
    (faults.surplus(), None),
    (faults.gibberish(), _RESUMED),
    (faults.says("204 No Content"), _RESUMED),
    (faults.says("302 Found", "Location: http://127.0.0.1:1/"), _REFUSED),
    (faults.says("304 Not Modified"), _REFUSED),
    (faults.says("401 Unauthorized"), _REFUSED),
    (faults.says("404 Not Found"), _REFUSED),
    (faults.says("200 OK", body=b"<html>Down for maintenance</html>"), _RESUMED),
    (faults.says("500 Internal Server Error"), _RESUMED),
    (faults.says("503 Service Unavailable", "Retry-After: 1"), _RESUMED),
)
#: What it may do to an answer that resumes another. Where it is as if there were no ranges, all is well.
_ODD_PARTS: Sequence[tuple[Fault, str | None]] = (
    (faults.other_range, None),
    (faults.other_total, _RESUMED),
    (faults.multipart, None),
    (faults.whole_instead, None),
)
#: After a broken transfer, 204 and 200 and a length mean something else, but nothing worse.
_AS_WITHOUT_RANGES = {
    "HTTP/1.0 without a length",
    "a Content-Length that is too long",
    "a Content-Length that is too short",
    "a 200",
    "chunks",
    "broken chunks",
}


@pytest.mark.parametrize("resumed", [False, True], ids=["first", "resumed"])
def test_odd_answers(
    resumed: bool, node: Proxy, glance: Unreliable, images: list[Image], campaign: Campaign
) -> None:
    """One answer that is not as it should be, the first of an image or one that goes on where another broke
    off, is noticed, logged, and asked for again: no client sees anything of it."""
    left = Leftovers(node)
    trials = lanes(node, glance, images)
    odd = [*_ODDITIES[:: campaign.scale(3, 1)], *_ODD_PARTS] if resumed else _ODDITIES
    silent = []

    def run(lane: int) -> None:
        for fault, logged in odd[lane::LANES]:
            before = len(node.service.logged())
            broken = faults.cut(trials[lane].rng.randrange(1, SIZE))
            # A part that is asked for first makes it an answer to something else.
            spoilt = [broken, fault] if resumed else [fault]
            outcomes = trials[lane].cold(fault.name, spoilt, ranged=resumed)
            if set(outcomes) != {RIGHT}:
                trials[lane].wrong.append(f"{fault.name}: {dict(outcomes)}")
            if logged and not (resumed and fault.name in _AS_WITHOUT_RANGES):
                found = re.search(logged, node.service.logged()[before:])
                silent.extend([] if found else [fault.name])

    glance.played.clear()
    with ThreadPoolExecutor(LANES) as pool:
        list(pool.map(run, range(LANES)))
    assert [line for each in trials for line in each.wrong] == []
    assert silent == []
    assert set(glance.played) >= {fault.name for fault, _ in odd}
    left.check()
    Proxy.check_log(node.service)
    campaign.record(
        "Origin",
        "an answer that resumes another is odd" if resumed else "an answer is odd",
        times=len(odd),
        clients=sum_of(trials),
    )


def test_wrong_bytes(node: Proxy, glance: Unreliable, images: list[Image], campaign: Campaign) -> None:
    """A body in which one bit is wrong is completed by no client: it goes to the quarantine, and the next
    download brings the right one. One that comes in a coding nobody asked for is not taken for the image."""
    left = Leftovers(node)
    trials = lanes(node, glance, images)
    rounds = campaign.scale(3, 30)

    def run(lane: int) -> None:
        for number in range(rounds):
            at = trials[lane].rng.randrange(SIZE)
            trials[lane].cold(f"bit {at}, round {number}", [faults.flip(at)], ranged=False)

    with ThreadPoolExecutor(LANES) as pool:
        list(pool.map(run, range(LANES)))
    assert [line for each in trials for line in each.wrong] == []
    quarantined = len(re.findall("failed verification and is quarantined", node.service.logged()))
    assert quarantined == LANES * rounds
    campaign.record(
        "Origin",
        "one bit of a body is wrong",
        times=quarantined,
        clients=(seen := sum_of(trials)),
        lost=f"{seen.total() - seen[RIGHT]} downloads that had begun with it",
    )

    coded = trials[0].cold("gzip", [faults.zipped()])
    assert set(coded) == {RIGHT}
    # given up, or asked for again where another answer was of use meanwhile
    assert re.search(r"(Cannot fill|The transfer of) \w+.*gzip", node.service.logged())
    left.check()


def test_an_origin_that_is_away(
    node: Proxy, glance: Unreliable, images: list[Image], campaign: Campaign
) -> None:
    """While it refuses connections nobody gets anything, at once, not even what is cached: it cannot be asked
    whether they may. What was under way waits, and goes on when it is back."""
    left = Leftovers(node)
    trials = lanes(node, glance, images)
    cached, under_way = trials[0], trials[1]
    cached.check("before")
    seen: Counter[str] = Counter()
    for _ in range(campaign.scale(1, 5)):
        under_way.forget()
        glance.spoil(under_way.image.path, faults.paced(2 * MIB))
        with ThreadPoolExecutor(3) as pool:
            running = [pool.submit(under_way._download, client, (0, SIZE)) for client in range(3)]
            node.until_holds(under_way.image, 10_000)
            glance.down()
            began = time.monotonic()
            refused = [cached._download(client, (0, SIZE)) for client in range(3)]
            assert time.monotonic() - began < 10
            assert refused == ["status 502"] * 3
            time.sleep(2)
            assert not any(each.done() for each in running)
            glance.up()
            assert [each.result() for each in running] == [RIGHT] * 3
        cached.check("afterwards")
        seen += Counter(refused) + Counter([RIGHT] * 4)
    glance.calm()
    left.check()
    campaign.record("Origin", "it refuses connections for seconds", times=campaign.scale(1, 5), clients=seen)


def test_an_origin_that_is_gone_for_good(
    start_proxy: ProxyFactory, glance: Unreliable, images: list[Image], campaign: Campaign
) -> None:
    """When it goes in the middle of a body and is not back in time, clients are cut off, and the log says of
    each why. What had come is kept: when the origin is there again, the rest is all that is asked of it."""
    retries = 2
    node = start_proxy(origin=glance.url, authorization_ttl=0, fill_retries=retries, origin_connect_timeout=2)
    left = Leftovers(node)
    trials = Trials(node, glance, images[0])
    image = trials.image
    times = campaign.scale(1, 6)
    kept = twice = 0
    for _ in range(times):
        trials.forget()
        glance.spoil(image.path, faults.paced(2 * MIB))
        said = len(node.service.logged())
        with ThreadPoolExecutor(3) as pool:
            running = [pool.submit(trials._download, client, (0, SIZE)) for client in range(3)]
            node.until_holds(image, MIB)
            glance.down()
            trials.seen.update(each.result() for each in running)
        trials.seen[trials._download(4, (0, SIZE))] += 1
        log = node.service.logged()[said:]
        assert len(re.findall(_RESUMED, log)) == retries + 1, log
        assert len(re.findall(_GIVEN_UP + "no connection to the origin: ", log)) == 1, log
        aborted = rf"Image {image.id}, \w+: \d+ bytes in [\d.]+ s, aborted: no connection to the origin: "
        assert len(re.findall(aborted, log)) == 3, log

        entry = node.entry(image)
        assert entry is not None, "nothing is kept"
        assert (entry["state"], entry["readers"]) == ("partial", 0)
        there = entry["bytes_on_disk"]
        assert entry["extents"] == [[0, there]]
        assert MIB <= there < SIZE
        before = glance.given[image.path]
        glance.up()
        trials.seen[trials._download(5, (0, SIZE))] += 1
        kept += there
        twice += glance.given[image.path] - before - (SIZE - there)
        trials.check("afterwards")
    assert trials.wrong == []
    assert trials.seen == {CUT: 3 * times, "status 502": times, RIGHT: times}
    assert twice == 0
    left.check()
    campaign.record(
        "Origin",
        f"it goes in the middle of a body, and is away for longer than {retries} retries take",
        times=times,
        clients=trials.seen,
        lost=f"{twice / MIB:.3g} of the {kept / MIB:.3g} MiB that had come",
    )


#: What an origin may answer for a while, and what those see who come meanwhile.
_BURSTS = (
    (faults.says("500 Internal Server Error"), "status 500"),
    (faults.says("503 Service Unavailable", "Retry-After: 7"), "status 503"),
    (faults.mute(), "status 504"),
)


@pytest.mark.parametrize("asked", ["who may have it", "what it is"])
def test_bursts_of_errors(
    asked: str, start_proxy: ProxyFactory, glance: Unreliable, images: list[Image], campaign: Campaign
) -> None:
    """While the origin cannot say who may have an image, clients get its own answer, or a 504; while it
    cannot say what the image is, they get it past the cache. Downloads that are under way go on, and what is
    cached stays."""
    node = start_proxy(
        origin=glance.url, authorization_ttl=0, revalidate_after=0, origin_timeout=2, origin_min_rate=0
    )
    # Before its first question the node asks what Glance this is: an error is not taken for an answer.
    glance.spoil("/versions", faults.says("503 Service Unavailable"))
    trials = lanes(node, glance, images)
    trials[0].check("the first question")
    left = Leftovers(node)
    clients, rounds = 3, campaign.scale(1, 5)
    bursts = _BURSTS if campaign.whole else _BURSTS[1:]
    lost = []
    glance.played.clear()

    def about(image: Image, fact: str) -> object:
        return (node.entry(image) or {}).get(fact)

    def burst(image: Image, fault: Fault) -> list[Download]:
        if asked == "who may have it":
            glance.spoil_permission(image.path, *[fault] * clients)
        else:
            glance.spoil(image.path.removesuffix("/file"), *[fault] * clients)
        with ThreadPoolExecutor(clients) as pool:
            got = list(pool.map(lambda _: node.download(image, timeout=60), range(clients)))
        glance.spoil_permission(image.path)
        glance.spoil(image.path.removesuffix("/file"))
        return got

    def run(trials: Trials) -> None:
        image = trials.image
        for number in range(rounds):
            for fault, expected in bursts:
                what = f"{fault.name}, round {number}"
                trials.forget()
                cold = burst(image, fault)
                trials.check(what)
                before = about(image, "created")
                with ThreadPoolExecutor(1) as pool:
                    pace = SIZE / 3  # for as long as the burst
                    under_way = pool.submit(node.download, image, rate=pace, timeout=60)
                    node.until(lambda: about(image, "readers") == 1, "a client")
                    warm = burst(image, fault)
                    outcomes = [judge(under_way.result(), image, 0, SIZE)]
                if asked == "what it is" and expected != "status 504":
                    expected = RIGHT
                refused = [judge(got, image, 0, SIZE) for got in [*cold, *warm]]
                if set(refused) != {expected} or outcomes != [RIGHT]:
                    trials.wrong.append(f"{what}: {refused}, {outcomes}")
                if expected == "status 503":
                    assert {got.headers["Retry-After"] for got in [*cold, *warm]} == {"7"}
                trials.seen.update(outcomes + refused)
                if about(image, "created") != before:
                    lost.append(what)
                trials.check(what)

    with ThreadPoolExecutor(LANES) as pool:
        list(pool.map(run, trials))
    assert [line for each in trials for line in each.wrong] == []
    assert lost == []
    assert set(glance.played) == {fault.name for fault, _ in bursts}
    left.check()
    Proxy.check_log(node.service)
    times = LANES * rounds * len(bursts)
    campaign.record(
        "Origin",
        f"a burst of errors, or of silence, when it is asked {asked}",
        times=2 * times,
        clients=sum_of(trials),
        lost=f"{len(lost)} of {times} cached images",
    )


def test_an_origin_without_an_address(
    start_proxy: ProxyFactory, images: list[Image], campaign: Campaign
) -> None:
    """A name that nobody knows is a 502 that says so, each time; the node starts, and can be managed."""
    node = start_proxy(origin="http://no-such-host.invalid:9292", origin_connect_timeout=20)
    times = campaign.scale(2, 10)
    seen = Counter(f"status {node.download(images[0], timeout=60).status}" for _ in range(times))
    assert seen == {"status 502": times}
    said = "with 502: no connection to the origin: .*no-such-host.invalid"
    assert len(re.findall(said, node.service.logged())) == times
    assert request("GET", f"{node.manage_url}/cache/health").status == 200
    assert request("GET", f"{node.manage_url}/cache/ready").status == 503
    campaign.record("Origin", "its name is not known", times=times, clients=seen)


def test_an_origin_that_hangs(
    node: Proxy, glance: Unreliable, images: list[Image], campaign: Campaign
) -> None:
    """An origin that takes requests and says nothing costs as long as is configured, and is a 504."""
    cached = Trials(node, glance, images[0])
    cached.check("before")
    glance.hang = True
    try:
        with ThreadPoolExecutor(8) as pool:
            began = time.monotonic()
            outcomes = Counter(pool.map(cached._download, range(8), [(0, SIZE)] * 8))
            seconds = time.monotonic() - began
    finally:
        glance.hang = False
    assert outcomes == {"status 504": 8}
    assert SILENCE <= seconds < 3 * SILENCE + 5
    cached.check("afterwards")
    campaign.record("Origin", "it takes requests and never answers", times=8, clients=outcomes)


def test_a_restarted_origin(
    cloud: Cloud, node: Proxy, glance: Unreliable, images: list[Image], campaign: Campaign
) -> None:
    """The real Glance is killed in the middle of transfers and started again: every client gets its image on
    the connection that it has."""
    left = Leftovers(node)
    trials = lanes(node, glance, images)
    seen: Counter[str] = Counter()
    times = campaign.scale(1, 4)
    for _ in range(times):
        for each in trials:
            each.forget()
            glance.spoil(each.image.path, faults.paced(2 * MIB))
        with ThreadPoolExecutor(2 * LANES) as pool:
            running = [pool.submit(each._download, client, (0, SIZE)) for each in trials for client in (1, 2)]
            for each in trials:
                node.until_holds(each.image, 10_000)
            # What the relay has already taken from Glance would reach the node all the same.
            glance.down()
            cloud.restart_open_glance()
            glance.up()
            seen.update(each.result() for each in running)
    assert set(seen) == {RIGHT}
    for each in trials:
        each.check("afterwards")
    assert [line for each in trials for line in each.wrong] == []
    left.check()
    campaign.record("Origin", "Glance is killed and started again", times=times, clients=seen)


def test_an_expired_token(cloud: Cloud, start_proxy: ProxyFactory, campaign: Campaign) -> None:
    """A transfer that has to be taken up again when its client's token has expired goes on with another
    client's. With none left the download is cut off, and the next goes on where it ended."""
    origin = Unreliable(cloud.glance.url)
    origin.up()
    proxy = start_proxy(origin=origin.url, authorization_ttl=0, origin_timeout=10)
    image = cloud.images.create(Payload(SIZE, seed=950))
    seen: Counter[str] = Counter()
    for others in (True, False) if campaign.whole else (False,):
        proxy.purge()
        go_on = threading.Event()
        origin.spoil(image.path, faults.held(MIB, go_on))
        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(proxy.download, image, cloud.token("alice"))] if others else []
            if others:
                proxy.until_holds(image, MIB // 2)
            brief = cloud.brief_token("alice")
            running.append(pool.submit(proxy.download, image, brief))
            proxy.until(lambda: (proxy.entry(image) or {}).get("readers") == len(running), "all clients")  # noqa: B023
            proxy.until_holds(image, MIB // 2)
            proxy.until(lambda: not cloud.identity.is_valid(brief), "the end of a token")  # noqa: B023
            go_on.set()
            outcomes = [judge(each.result(), image, 0, SIZE) for each in running]
        assert outcomes == ([RIGHT, RIGHT] if others else [CUT])
        seen.update(outcomes)
        refused = len(re.findall(_REFUSED + ": 401", proxy.service.logged()))
        assert refused == (1 if others or not campaign.whole else 2)
        before = origin.moved
        assert judge(proxy.download(image, cloud.token("alice")), image, 0, SIZE) == RIGHT
        assert others or 0 < origin.moved - before < SIZE
    origin.down()
    campaign.record(
        "Origin",
        "a token expires before a broken transfer is taken up again; once, another client's is at hand",
        times=campaign.scale(1, 2),
        clients=seen,
    )


def test_tls(cloud: Cloud, start_proxy: ProxyFactory, tmp_path: Path, campaign: Campaign) -> None:
    """An origin that asks for a certificate gets this node's; one that cannot be trusted is a 502 that says
    why, and sees no request."""
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    server, mine = authority.issue("CN=glance", server=True), authority.issue("CN=node")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    origin = Unreliable(cloud.open_images.url, context)
    origin.up()
    image = cloud.open_images.create(Payload(SIZE, seed=960))
    options: dict[str, object] = {"origin": origin.url, "authorization_ttl": 0}
    known = start_proxy(**options, origin_ca_file=authority.certificate, origin_cert_file=mine)
    origin.spoil(image.path, faults.cut(MIB), faults.reset(MIB))
    assert judge(known.download(image), image, 0, SIZE) == RIGHT
    seen = Counter([RIGHT])
    asked = origin.requests
    wrong: dict[str, dict[str, object]] = {
        "no certificate of its own": {"origin_ca_file": authority.certificate},
        "another authority's certificate": {
            "origin_ca_file": authority.certificate,
            "origin_cert_file": other.issue("CN=node"),
        },
        "another authority": {"origin_ca_file": other.certificate, "origin_cert_file": mine},
        "the system's authorities": {"origin_cert_file": mine},
        "another name": {
            "origin": origin.url.replace("localhost", "127.0.0.1"),
            "origin_ca_file": authority.certificate,
            "origin_cert_file": mine,
        },
        "no TLS": {"origin": origin.url.replace("https://localhost", "http://127.0.0.1")},
        "TLS where there is none": {"origin": cloud.open_images.url.replace("http:", "https:")},
    }
    for what, settings in list(wrong.items())[:: campaign.scale(3, 1)]:
        proxy = start_proxy(**{**options, **settings})
        got = proxy.download(image)
        assert got.status == 502, what
        seen[f"status {got.status}"] += 1
        assert re.search("Answered .* with 502: .*origin", proxy.service.logged()), what
        proxy.stop()
    assert origin.requests == asked
    origin.down()
    campaign.record("Origin", "TLS with certificates, right and wrong", times=seen.total(), clients=seen)


def test_slow_images_hold_up_nobody(
    cloud: Cloud, glance: Unreliable, start_proxy: ProxyFactory, images: list[Image], campaign: Campaign
) -> None:
    """However many images come slowly, the next one comes at once."""
    node = start_proxy(origin=glance.url, origin_min_rate=0)
    left = Leftovers(node)
    count = campaign.scale(6, 100)
    # So small that Glance is done with each at once, although nobody takes it: it has few threads.
    slow = [cloud.open_images.create(Payload(96 << 10, seed=1000 + n)) for n in range(count)]
    go_on = threading.Event()
    for image in slow:
        glance.spoil(image.path, faults.trickle(64 << 10, go_on))
    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(node.download, image) for image in slow]
        for image in slow:
            node.until_holds(image, 64 << 10)
        seen = Counter(judge(node.download(image), image, 0, SIZE) for image in images)
        assert not any(each.done() for each in running)
        go_on.set()
        seen.update(
            judge(each.result(), image, 0, image.size) for each, image in zip(running, slow, strict=True)
        )
    assert seen == {RIGHT: count + len(images)}
    left.check()
    campaign.record("Origin", "many images come slowly, and others are asked for", times=count, clients=seen)

"""Clocks that are set, a process that stands still, tokens that end while they are being used."""

import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from attrs import define, field

from tests.cloud.client import Download, authorized, call, request
from tests.cloud.cloud import BRIEF, Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.images import Image
from tests.cloud.payload import MIB, Payload
from tests.cloud.ports import LOOPBACK
from tests.cloud.processes import Processes
from tests.cloud.proxy import Proxy, eventually
from tests.cloud.relay import Relay
from tests.faults.campaign import Campaign
from tests.faults.unreliable import Fault, Given, Unreliable, Wire

AREA = "Time"
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
needs_faketime = pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime (Debian's faketime)")
SMALL, BODY = Payload(MIB, seed=60), Payload(16 * MIB, seed=61)
BIG = Payload(40 * MIB, seed=62)  # more than the cache may hold, where that matters
YEAR = 366 * 86400
OCTETS = {"Content-Type": "application/octet-stream"}


@define(eq=False)
class Wall:
    """The time of day as one process sees it."""

    file: Path
    ahead: int = 0

    def set(self, ahead: int) -> None:
        """Let it be so many seconds later than it is."""
        self.ahead = ahead
        fresh = self.file.with_suffix(".new")
        fresh.write_text(f"{ahead:+d}\n")
        fresh.replace(self.file)

    @property
    def variables(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def now(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def wall(tmp_path: Path) -> Wall:
    wall = Wall(tmp_path / "wall")
    wall.set(0)
    return wall


@pytest.fixture
def proxy(processes: Processes, relay: Relay, wall: Wall) -> Iterator[Proxy]:
    """A node with a clock of its own."""
    home = processes.directory / "proxy-wall"
    home.mkdir()
    options = {"authorization_ttl": 2, "origin_timeout": 30, "shutdown_grace": 5}
    proxy = Proxy(relay.url, home, processes.logs, options, variables=wall.variables)
    proxy.start()
    try:
        yield proxy
        if proxy.is_running:
            proxy.stop()
    finally:
        proxy.close()
        shutil.rmtree(home)


def stored(cloud: Cloud, proxy: Proxy, payload: Payload) -> Image:
    """An image of which the node has all."""
    image = cloud.images.create(payload)
    assert proxy.download(image, cloud.token("alice")).sha512 == payload.sha512
    proxy.until_complete(image)
    return image


def outcome(got: Download, payload: Payload) -> str:
    if got.status != 200:
        return f"answered with {got.status}"
    assert not got.whole or got.sha512 == payload.sha512
    return "whole and right" if got.whole else "cut off"


@needs_faketime
def test_the_time_of_day_is_set(
    campaign: Campaign, proxy: Proxy, wall: Wall, cloud: Cloud, relay: Relay
) -> None:
    """A year forth and a year back, in the middle of everything: nothing expires, nothing stays for ever, all
    that is to happen in a second happens in a second."""
    times = campaign.scale(1, 12)
    token = cloud.token("alice")
    warm = stored(cloud, proxy, BODY)
    seen: Counter[str] = Counter()
    for number in range(times):
        jump = YEAR if number % 2 == 0 else -YEAR
        cold, small = cloud.images.create(BODY), cloud.images.create(SMALL)
        relay.hold(BODY.size // 2)
        with ThreadPoolExecutor() as pool:
            begun = threading.Semaphore(0)
            hit = pool.submit(proxy.download, warm, token, rate=BODY.size / 2, on_first_byte=begun.release)
            fill = pool.submit(proxy.download, cold, token, on_first_byte=begun.release)
            assert begun.acquire(timeout=30)
            assert begun.acquire(timeout=30)
            wall.set(jump)
            # a transfer that breaks now is resumed as soon as ever
            relay.cut(BODY.size // 2 + MIB)
            relay.hold(None)
            seen.update(outcome(each.result(), BODY) for each in (hit, fill))
        proxy.until_complete(cold, 20)
        assert len(relay.transfers(cold.path)) == 2

        # what the API says is by that clock
        assert outcome(proxy.download(small, token), SMALL) == "whole and right"
        proxy.until_complete(small)
        shown = proxy.entry(small)
        for instant in (shown["created"], shown["last_access"], proxy.status()["events"][-1]["time"]):
            assert abs(instant - wall.now()) < 60
        answer = proxy.get(small, token)
        assert abs(parsedate_to_datetime(answer.headers["Date"]).timestamp() - wall.now()) < 60

        # a permission holds for its two seconds and no longer
        mine = cloud.identity.issue("alice")
        assert proxy.get(warm, mine, {"Range": "bytes=0-0"}).status == 206
        wall.set(-jump)
        cloud.identity.revoke(mine)
        began = time.monotonic()
        while proxy.get(warm, mine, {"Range": "bytes=0-0"}).status != 401:
            assert time.monotonic() - began < 15
            time.sleep(0.1)
        seen["refused when the permission was old"] += 1

        # jobs and the index go on
        call("POST", f"{proxy.manage_url}/cache/images/{small.id}/verify")
        proxy.until(lambda: _jobs_are_done(proxy), "jobs that are done")
        time.sleep(1.5)
        proxy.kill()
        proxy.start()
        assert {warm.id, cold.id, small.id} <= set(proxy.images())
    assert seen["cut off"] == 0
    campaign.record(AREA, "The time of day set a year forth or back under load", times=times, clients=seen)


def _jobs_are_done(proxy: Proxy) -> bool:
    jobs = call("GET", f"{proxy.manage_url}/cache/jobs").json()["jobs"]
    return all(job["state"] == "done" for job in jobs)


def test_standing_still(campaign: Campaign, start_proxy: ProxyFactory, cloud: Cloud, relay: Relay) -> None:
    """SIGSTOP for longer than every time-out, in the middle of everything, then SIGCONT: those who waited get
    what they waited for, and nobody uses a permission that ended meanwhile."""
    times, pause = campaign.scale(1, 8), 4.0
    proxy = start_proxy(
        authorization_ttl=1, origin_timeout=2, origin_connect_timeout=2, max_size=BIG.size - 1, min_free=0
    )
    token = cloud.token("alice")
    warm = stored(cloud, proxy, BODY)
    passed = cloud.images.create(BIG)
    seen: Counter[str] = Counter()
    for _ in range(times):
        cold = cloud.images.create(BODY)
        uploaded = Image(cloud.images.queue(), "alice", BODY)
        mine = cloud.identity.issue("alice")
        before = proxy.status()["counters"]["transfers_failed"]
        with ThreadPoolExecutor() as pool:
            begun = threading.Semaphore(0)
            relay.pace(8 * MIB)
            running = [
                pool.submit(proxy.download, warm, token, rate=BODY.size / 3, on_first_byte=begun.release),
                pool.submit(proxy.download, cold, token, on_first_byte=begun.release),
                pool.submit(proxy.download, cold, token, on_first_byte=begun.release),
            ]
            through = pool.submit(proxy.download, passed, token, on_first_byte=begun.release)
            upload = pool.submit(_slow_upload, proxy, uploaded, token, begun)
            for _ in range(5):
                assert begun.acquire(timeout=30)
            assert proxy.get(warm, mine, {"Range": "bytes=0-0"}).status == 206
            os.kill(proxy.service.pid, signal.SIGSTOP)
            try:
                cloud.identity.revoke(mine)
                late = [
                    pool.submit(proxy.get, warm, token, {"Range": "bytes=0-9"}),
                    pool.submit(proxy.get, warm, mine, {"Range": "bytes=0-9"}),
                ]
                time.sleep(pause)
            finally:
                os.kill(proxy.service.pid, signal.SIGCONT)
            allowed, revoked = (each.result() for each in late)
            assert (allowed.status, allowed.body) == (206, BODY.part(0, 10))
            assert revoked.status == 401
            seen["asked meanwhile: served"] += 1
            seen["asked meanwhile, token revoked: 401"] += 1
            seen.update(outcome(each.result(), BODY) for each in running)
            assert "bypass" in through.result().cache_status
            seen[f"passed through, {outcome(through.result(), BIG)}"] += 1
            seen[f"upload answered with {upload.result()}"] += 1
        relay.calm()
        assert cloud.images.show(uploaded)["os_hash_value"] == BODY.sha512
        seen["transfers that had to be resumed"] += proxy.status()["counters"]["transfers_failed"] - before
    assert seen["cut off"] == 0
    assert seen["passed through, whole and right"] == times
    assert seen["upload answered with 204"] == times
    assert seen["transfers that had to be resumed"] <= times
    campaign.record(AREA, f"Stopped for {pause:.0f} s, with time-outs of 2 s", times=times, clients=seen)


def _slow_upload(proxy: Proxy, image: Image, token: str, begun: threading.Semaphore) -> int:
    def chunks() -> Iterator[bytes]:
        for number, chunk in enumerate(BODY.chunks()):
            if number == 2:
                begun.release()
            time.sleep(0.1)
            yield chunk

    headers = {**OCTETS, "Content-Length": str(BODY.size)}
    return request("PUT", proxy.url + image.path, token=token, headers=headers, body=chunks()).status


@define(eq=False)
class Ending:
    """A token whose end is near."""

    cloud: Cloud
    kind: str
    token: str = field(init=False)

    @token.default
    def _(self) -> str:
        return (
            self.cloud.brief_token("alice") if self.kind == "expires" else self.cloud.identity.issue("alice")
        )

    def end(self) -> None:
        """It is no good from now on."""
        if self.kind == "revoked":
            self.cloud.identity.revoke(self.token)
        assert eventually(lambda: not self.cloud.identity.is_valid(self.token), BRIEF + 10)


@pytest.mark.parametrize("kind", ["revoked", "expires"])
@pytest.mark.parametrize("ttl", [0, 3])
def test_a_token_ends(
    ttl: int, kind: str, campaign: Campaign, start_proxy: ProxyFactory, cloud: Cloud, relay: Relay
) -> None:
    """A response that is under way goes on to its end; the next request is refused, at the latest when the
    permission is as old as it may be."""
    if (ttl, kind) != (0, "revoked"):
        campaign.whole_only()
    times = campaign.scale(1, 4)
    proxy = start_proxy(authorization_ttl=ttl)
    warm = stored(cloud, proxy, BODY)
    seen: Counter[str] = Counter()
    for _ in range(times):
        ending = Ending(cloud, kind)
        with ThreadPoolExecutor() as pool:
            begun = threading.Event()
            running = pool.submit(
                proxy.download, warm, ending.token, rate=BODY.size / 8, on_first_byte=begun.set
            )
            assert begun.wait(10)
            asked = time.monotonic()
            assert proxy.get(warm, ending.token, {"Range": "bytes=0-0"}).status == 206
            ending.end()
            if ttl == 0:
                assert proxy.get(warm, ending.token).status == 401
            else:
                time.sleep(max(0.0, asked + ttl + 0.2 - time.monotonic()))
                assert proxy.get(warm, ending.token).status == 401
            seen["next request: 401"] += 1
            assert not running.done()
            seen[f"running response {outcome(running.result(), BODY)}"] += 1
    assert seen["running response whole and right"] == times
    end = "is revoked" if kind == "revoked" else "expires"
    what = f"A token {end} during a download, authorization_ttl {ttl}"
    campaign.record(AREA, what, times=times, clients=seen)


@pytest.mark.parametrize("company", [True, False], ids=["in company", "alone"])
def test_a_token_ends_during_a_fill(
    company: bool, campaign: Campaign, start_proxy: ProxyFactory, cloud: Cloud, relay: Relay
) -> None:
    """A fill that has to be resumed when its token is gone goes on with another client's; where there is
    none, its readers are cut off, and the next client goes on where it ended."""
    if not company:
        campaign.whole_only()
    times = campaign.scale(1, 6)
    proxy = start_proxy(authorization_ttl=0)
    seen: Counter[str] = Counter()
    for _ in range(times):
        image, ending = cloud.images.create(BODY), Ending(cloud, "revoked")
        relay.hold(BODY.size // 2)
        with ThreadPoolExecutor() as pool:
            tokens = [cloud.token("alice"), ending.token] if company else [ending.token]
            running = []
            for token in tokens:
                begun = threading.Event()
                running.append(pool.submit(proxy.download, image, token, on_first_byte=begun.set))
                assert begun.wait(30)
            ending.end()
            relay.cut(BODY.size // 2)
            relay.hold(None)
            outcomes = [outcome(each.result(), BODY) for each in running]
        assert outcomes == (["whole and right"] * 2 if company else ["cut off"])
        seen.update(outcomes)
        held = proxy.entry(image)["bytes_on_disk"]
        assert proxy.get(image, ending.token).status == 401
        assert outcome(proxy.download(image, cloud.token("alice")), BODY) == "whole and right"
        seen["next client whole and right"] += 1
        assert held >= BODY.size // 2 - MIB
        assert relay.moved(image.path) == BODY.size
        relay.calm()
    what = "A token is revoked and the transfer with it breaks, "
    campaign.record(
        AREA, what + ("another client there" if company else "nobody else there"), times=times, clients=seen
    )


@define(eq=False)
class Revoking:
    """An origin that stands before Glance, and has a token revoked when it is asked for a body."""

    cloud: Cloud
    origin: Unreliable
    token: str = ""

    def between(self, image: Image, token: str) -> None:
        """Revoke the token as soon as the image's body is asked for, which is after its holder was let in."""
        self.token = token
        self.origin.spoil(image.path, Fault("a token is revoked", self._pass_on, self._revoke))

    def _revoke(self, head: bytes) -> bytes:
        self.cloud.identity.revoke(self.token)
        return head

    @staticmethod
    def _pass_on(wire: Wire, given: Given) -> None:
        wire.send(given.head)


def test_a_token_ends_between_permission_and_body(
    campaign: Campaign, start_proxy: ProxyFactory, cloud: Cloud
) -> None:
    """A client that is alone and was let in, and whose token is revoked before the body is fetched, gets what
    Glance says then, or is cut off where the body gives out. Nothing comes into the cache by that."""
    times = campaign.scale(1, 10)
    origin = Unreliable(cloud.glance.url)
    origin.up()
    proxy = start_proxy(origin=origin.url, authorization_ttl=60)
    revoking = Revoking(cloud, origin)
    seen: Counter[str] = Counter()
    try:
        for _ in range(times):
            for case in ("not cached", "purged", "here in part"):
                image, mine = cloud.images.create(BODY), cloud.identity.issue("alice")
                if case != "not cached":
                    asked = None if case == "purged" else {"Range": "bytes=0-0"}
                    assert proxy.get(image, mine, asked).status in (200, 206)
                    proxy.until(lambda: not proxy.entry(image)["filling"], "the end of a fill")  # noqa: B023
                if case == "purged":
                    proxy.purge(image)
                if case == "not cached":
                    revoking.between(image, mine)
                else:
                    cloud.identity.revoke(mine)
                held = (proxy.entry(image) or {}).get("bytes_on_disk", 0)
                got = proxy.download(image, mine)
                assert not cloud.identity.is_valid(mine)
                assert not got.whole or got.status == 401, (case, got)
                assert got.status == 401 or got.sha512 == BODY.hash_of(0, held)
                assert (proxy.entry(image) or {}).get("bytes_on_disk", 0) == held
                seen[f"{case}: {outcome(got, BODY)}"] += 1
                assert proxy.get(image, mine, {"Range": "bytes=-1"}).status == 401
                assert outcome(proxy.download(image, cloud.token("alice")), BODY) == "whole and right"
    finally:
        origin.down()
    assert origin.played == ["a token is revoked"] * times
    campaign.record(
        AREA,
        "A token is revoked between permission and body, nobody else there; the image not cached, purged "
        "while the permission holds, or here in part",
        times=3 * times,
        clients=seen,
    )
    expected = ("not cached: answered with 401", "purged: answered with 401", "here in part: cut off")
    assert seen == dict.fromkeys(expected, times)


def test_a_stream_of_events(campaign: Campaign, start_proxy: ProxyFactory, cloud: Cloud) -> None:
    """Who listens to events does so no longer than the token allows."""
    campaign.whole_only()
    proxy = start_proxy(manage_auth="keystone", keystone_url=cloud.keystone.url, keystone_ttl=1)
    ending = cloud.identity.issue("admin")
    ends: list[float] = []

    def listen(token: str, over: threading.Event) -> str:
        with closing(HTTPConnection(LOOPBACK, proxy.manage_port, timeout=60)) as connection:
            fields = authorized(token, {"Accept": "text/event-stream"})
            connection.request("GET", "/cache/events", headers=fields)
            response = connection.getresponse()
            assert response.status == 200
            begun.release()
            try:
                while response.readline():
                    if over.is_set():
                        return "token valid: goes on"
            except (OSError, HTTPException):
                return "cut off"
            ends.append(time.monotonic())
            return "token revoked: ended"

    begun, over = threading.Semaphore(0), threading.Event()
    with ThreadPoolExecutor() as pool:
        streams = [pool.submit(listen, token, over) for token in (ending, cloud.token("admin"))]
        for _ in streams:
            assert begun.acquire(timeout=30)
        began = time.monotonic()
        cloud.identity.revoke(ending)
        assert streams[0].result(60) == "token revoked: ended"
        over.set()
        outcomes = [stream.result(60) for stream in streams]
    assert outcomes == ["token revoked: ended", "token valid: goes on"]
    assert ends[0] - began < 30
    campaign.record(AREA, "A token is revoked while its holder listens to events", times=1, clients=outcomes)

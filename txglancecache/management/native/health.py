"""Whether the node can do its work: a few checks, made together, whose outcome is kept for a moment."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryFile

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, TimeoutError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from txglancecache.cache.status import CacheStatus
from txglancecache.errors import GlanceCacheError
from txglancecache.management.answers import JSON
from txglancecache.origin.client import OriginClient
from txglancecache.sizes import format_size
from txglancecache.waiting import InThread, Outcome

_log = Logger()

#: Tells in a few words what was found; raises if the check is not passed.
Check = Callable[[], Awaitable[str]]

#: Seconds for which an outcome is kept, so that many who ask cost no more than one.
_KEPT = 3.0
#: Seconds that a check may take.
_PATIENCE = 5.0
#: Bytes that are written to see whether it works.
_WRITTEN = 4096
#: No list of versions has more bytes.
_LARGEST = 1 << 20


class NotReady(GlanceCacheError):
    """A check is not passed; ``str()`` tells why."""


@frozen
class Finding:
    """What one check came to."""

    ok: bool
    detail: str
    seconds: float


@frozen
class Readiness:
    """What all of them came to, by their names."""

    findings: Mapping[str, Finding]

    @property
    def ready(self) -> bool:
        return all(finding.ok for finding in self.findings.values())

    def as_json(self) -> dict[str, JSON]:
        checks: dict[str, JSON] = {
            name: {"ok": finding.ok, "detail": finding.detail, "seconds": round(finding.seconds, 3)}
            for name, finding in self.findings.items()
        }
        return {"ready": self.ready, "checks": checks}


@define(eq=False)
class Doctor:
    """Makes the checks."""

    _checks: Mapping[str, Check]
    _clock: IReactorTime
    _outcome: Outcome[Readiness] | None = field(default=None, init=False)
    _kept_until: float = field(default=0.0, init=False)

    async def readiness(self) -> Readiness:
        """What the checks come to now, or came to a moment ago."""
        if self._outcome is None or (self._outcome.settled and self._clock.seconds() >= self._kept_until):
            self._outcome = Outcome.of(Deferred.fromCoroutine(self._make_all()))
        return await self._outcome.wait()

    async def _make_all(self) -> Readiness:
        making = [Deferred.fromCoroutine(self._make(name)) for name in self._checks]
        found: list[Finding] = await gatherResults(making)
        self._kept_until = self._clock.seconds() + _KEPT
        return Readiness(dict(zip(self._checks, found, strict=True)))

    async def _make(self, name: str) -> Finding:
        began = self._clock.seconds()
        making = Deferred.fromCoroutine(_text(self._checks[name]))
        try:
            ok, detail = True, await making.addTimeout(_PATIENCE, self._clock)
        except TimeoutError:
            ok, detail = False, f"no answer within {_PATIENCE:g} s"
        except (GlanceCacheError, OSError) as error:
            ok, detail = False, str(error)
        except Exception:
            _log.failure("The check of {name} failed", name=name)
            ok, detail = False, "this is a bug; the log has the details"
        return Finding(ok, detail, self._clock.seconds() - began)


async def _text(check: Check) -> str:
    return await check()


def origin_check(client: OriginClient) -> Check:
    """Whether the origin answers, and with something else than that it cannot."""
    fields = [(b"Host", client.origin.netloc), (b"Accept", b"application/json")]

    async def check() -> str:
        response = await client.request(b"GET", b"/versions", fields)
        await response.collect(_LARGEST)
        said = f"the origin answered {response.head.status}"
        if response.head.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise NotReady(said)
        return said

    return check


def disk_check(path: Path, in_thread: InThread) -> Check:
    """Whether a file that is written into this directory gets onto the disk. It leaves nothing there."""

    def write() -> None:
        with TemporaryFile(dir=path, buffering=0) as file:
            file.write(bytes(_WRITTEN))
            os.fsync(file.fileno())

    async def check() -> str:
        await in_thread(write)
        return f"{_WRITTEN} bytes written to the cache directory"

    return check


def room_check(status: Callable[[], CacheStatus]) -> Check:
    """Whether there is room for images, or would be if those in the cache made way."""

    async def check() -> str:
        now = status()
        most = min(now.max_size, now.disk_free + now.bytes_on_disk - now.min_free)
        if most <= 0:
            free, least = format_size(now.disk_free), format_size(now.min_free)
            raise NotReady(f"{free} are free on the disk, and {least} are to stay free")
        return f"{format_size(most)} for images, of which {format_size(now.bytes_on_disk)} are taken"

    return check

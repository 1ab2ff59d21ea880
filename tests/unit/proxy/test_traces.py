"""What a bug tells the world, in the log and in the answer: where it is, and nothing of who asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from tests.unit.proxy.site import Rig
from tests.unit.traces import A_BUG, broken, broken_later, written_log
from txglancecache.cache.cache import Cache
from txglancecache.delivery.delivery import Delivery
from txglancecache.origin.client import OriginClient
from txglancecache.origin.connection import OriginConnection
from txglancecache.origin.exchange import Exchange
from txglancecache.origin.glance import Glance, ImageSource
from txglancecache.proxy.app import _AtOnce
from txglancecache.proxy.authorization import Authorizer
from txglancecache.proxy.clearance import Clearance
from txglancecache.proxy.images import Images
from txglancecache.proxy.passthrough import PassThrough
from txglancecache.proxy.sending import Sending
from txglancecache.proxy.site import DataRoot

BODY = b"x" * 100_000
TOKEN, SIGNATURE, COOKIE = "gAAAAABtoken0123456789", "5ig0123456789abcdef", "c00kie0123456789abcdef"


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "cache")
    rig.store("one", BODY, tokens={TOKEN})
    yield rig
    await rig.stop()


async def ask(rig: Rig) -> str:
    """All that the client gets, if it gets an answer."""
    target = f"/v2/images/one/file?temp_url_sig={SIGNATURE}"
    try:
        got = await rig.ask("GET", target, TOKEN, cookie=f"session={COOKIE}")
    except (OSError, HTTPException):
        return ""
    return f"{got.status} {got.headers} {got.body!r}"


PLACES: list[tuple[type, str, Callable[..., Any]]] = [
    (DataRoot, "render", broken),
    (_AtOnce, "render", broken),
    (Images, "at_once", broken),
    (Images, "download", broken_later),
    (Clearance, "settle", broken_later),
    (Authorizer, "check", broken_later),
    (Glance, "authorize", broken_later),
    (Glance, "identify", broken_later),
    (PassThrough, "outgoing", broken),
    (Cache, "admit", broken_later),
    (Cache, "read", broken_later),
    (Sending, "run", broken_later),
    (Delivery, "send", broken_later),
    (ImageSource, "fetch", broken_later),
    (OriginClient, "request", broken_later),
    (Exchange, "begin", broken),
    (Exchange, "received", broken),
    (OriginConnection, "send", broken),
]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("debugging", [False, True], ids=["", "debugging"])
@pytest.mark.parametrize(("kind", "name", "bug"), PLACES)
async def test_a_bug_tells_no_secrets(
    rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    kind: type,
    name: str,
    bug: Callable[..., Any],
    debugging: bool,
) -> None:
    """Wherever it is on the way of a download, in the fill too."""
    with written_log(debugging=debugging) as log, monkeypatch.context() as patched:
        patched.setattr(kind, name, bug)
        answer = await ask(rig)
    text = log.getvalue()
    assert A_BUG in text
    assert "Traceback" in text
    for secret in (TOKEN, SIGNATURE, COOKIE):
        assert secret not in text
        assert secret not in answer
    assert "Traceback" not in answer
    assert A_BUG not in answer

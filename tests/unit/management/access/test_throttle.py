"""How many wrong credentials an address may bring."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from txglancecache.management.access.throttle import Throttle


def throttle(clock: Clock, **how: int) -> Throttle:
    return Throttle(clock.seconds, **{"burst": 3, "interval": 6, "most": 100, **how})


def test_burst() -> None:
    """A few failures may follow each other; then one has to wait, and only at that address."""
    clock = Clock()
    guarded = throttle(clock)
    for _ in range(3):
        assert guarded.wait("192.0.2.1") == 0
        guarded.failed("192.0.2.1")
    assert guarded.wait("192.0.2.1") == 6
    assert guarded.wait("192.0.2.2") == 0


def test_forgiveness() -> None:
    """With time one more try is due, and after it one has to wait again; in the end all is forgotten."""
    clock = Clock()
    guarded = throttle(clock)
    for _ in range(3):
        guarded.failed("192.0.2.1")
    clock.advance(5)
    assert guarded.wait("192.0.2.1") == 1
    clock.advance(1)
    assert guarded.wait("192.0.2.1") == 0
    guarded.failed("192.0.2.1")
    assert guarded.wait("192.0.2.1") == 6
    clock.advance(18)
    assert guarded.wait("192.0.2.1") == 0
    assert not guarded._failures


def test_limit() -> None:
    """However many failures there were at once, the wait is short."""
    guarded = throttle(Clock())
    for _ in range(1000):
        guarded.failed("192.0.2.1")
    assert guarded.wait("192.0.2.1") == 6


def test_memory() -> None:
    """Of many addresses, those that failed longest ago are forgotten."""
    guarded = throttle(Clock(), burst=1, most=2)
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.3"):
        guarded.failed(address)
    waits = [guarded.wait(f"192.0.2.{number}") for number in (1, 2, 3)]
    assert waits == [6, 0, 6]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("", "", True),
    ],
)
def test_addresses(one: str, other: str, same: bool) -> None:
    """A network that one site has for itself is one address; so are all clients of a unix socket."""
    guarded = throttle(Clock(), burst=1)
    guarded.failed(one)
    assert (guarded.wait(other) > 0) is same


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans())))
def test_bounds(steps: list[tuple[float, bool]]) -> None:
    """Who waits as long as told may try again; nobody waits for longer than the interval."""
    clock = Clock()
    guarded = throttle(clock)
    for seconds, fails in steps:
        clock.advance(seconds)
        if fails:
            guarded.failed("x")
        wait = guarded.wait("x")
        assert 0 <= wait <= 6
        clock.advance(wait)
        assert guarded.wait("x") == 0

"""For how long a token is known, and how often Keystone is asked about it."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from tests.unit.management.access.fake_keystone import URL, FakeKeystone
from tests.unit.management.requests import a_request
from txglancecache.management.access.authenticate import CannotTell, KeystoneUser, NotAuthenticated
from txglancecache.management.access.tokens import ByToken


@define(eq=False)
class World:
    """An authenticator and its Keystone."""

    ttl: float = 10.0
    fake: FakeKeystone = field(factory=FakeKeystone)
    by_token: ByToken = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.by_token = ByToken(self.fake.keystone, self.fake.clock, self.ttl, self.fake.wall)

    def ask(self, token: bytes) -> tuple[Deferred[Any], list[Any]]:
        """An answer that may be under way, and where it will be."""
        answers: list[Any] = []
        work = Deferred.fromCoroutine(self.by_token.identify(a_request(X_Auth_Token=token)))
        work.addBoth(answers.append)
        return work, answers

    def answer(self, token: bytes) -> Any:
        _, answers = self.ask(token)
        assert answers, "not answered"
        return answers[0].value if isinstance(answers[0], Failure) else answers[0]

    def known(self, token: bytes) -> bool:
        return self.by_token.recall(a_request(X_Auth_Token=token)) is not None


def test_challenge() -> None:
    """Who has no token is sent to Keystone."""
    assert World().by_token.challenge == f'Keystone uri="{URL}"'


def test_remembered() -> None:
    """A token that Keystone vouches for is known for a while, without asking."""
    world = World()
    world.fake.know(b"t", "alice", "admin")
    assert not world.known(b"t")
    user = world.answer(b"t")
    assert isinstance(user, KeystoneUser)
    assert world.by_token.recall(a_request(X_Auth_Token=b"t")) is user
    world.fake.clock.advance(9.9)
    assert world.known(b"t")
    world.fake.clock.advance(0.1)
    assert not world.known(b"t")
    assert world.fake.site.asked == [b"t"]


def test_not_beyond_expiry() -> None:
    """A token is not known for longer than it lives."""
    world = World(ttl=30.0)
    world.fake.know(b"t", "alice", "admin", expires=5.0)
    world.answer(b"t")
    world.fake.clock.advance(4.9)
    assert world.known(b"t")
    world.fake.clock.advance(0.1)
    assert not world.known(b"t")


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_time_of_day_is_set(jump: float) -> None:
    """Whoever sets the time of day makes no token known for a longer or a shorter time."""
    world = World()
    world.fake.know(b"t", "alice", "admin")
    world.answer(b"t")
    world.fake.ahead = jump
    assert world.known(b"t")
    world.fake.clock.advance(10.0)
    assert not world.known(b"t")


def test_never_remembered() -> None:
    """With a time of 0, Keystone is asked for each request."""
    world = World(ttl=0.0)
    world.fake.know(b"t", "alice", "admin")
    assert isinstance(world.answer(b"t"), KeystoneUser)
    assert not world.known(b"t")


def test_refusals_are_not_remembered() -> None:
    """A token that is not valid may be valid later, and trouble may pass."""
    world = World()
    assert isinstance(world.answer(b"t"), NotAuthenticated)
    world.fake.site.status = 500
    with capturedLogs():
        assert isinstance(world.answer(b"t"), CannotTell)
    world.fake.site.status = None
    world.fake.know(b"t", "alice", "admin")
    assert isinstance(world.answer(b"t"), KeystoneUser)


def test_keystone_down() -> None:
    """When Keystone is gone, what it has said holds until its time is up, and nothing else."""
    world = World()
    world.fake.know(b"t", "alice", "admin")
    world.answer(b"t")
    world.fake.site.status = 503
    assert world.known(b"t")
    world.fake.clock.advance(10)
    assert not world.known(b"t")
    with capturedLogs():
        assert isinstance(world.answer(b"t"), CannotTell)


def test_asked_once() -> None:
    """Equal questions at once are one; who gives up waiting takes nothing from the others."""
    world = World()
    world.fake.know(b"t", "alice", "admin")
    world.fake.site.held = []
    (one, first), (_, second), (_, third) = world.ask(b"t"), world.ask(b"t"), world.ask(b"other")
    assert world.fake.site.asked == [b"t", b"other"]
    one.cancel()
    assert first[0].check(CancelledError)
    world.fake.let_go()
    assert isinstance(second[0], KeystoneUser)
    assert third[0].check(NotAuthenticated)


def test_asked_in_the_absence_of_the_asker() -> None:
    """An answer that nobody waits for any more is still of use to the next one."""
    world = World()
    world.fake.know(b"t", "alice", "admin")
    world.fake.site.held = []
    one, _ = world.ask(b"t")
    one.cancel()
    world.fake.let_go()
    assert world.known(b"t")


def test_many_tokens_at_once() -> None:
    """Keystone is asked about so many tokens at once, and no more."""
    world = World()
    world.fake.site.held = []
    waiting = [world.ask(b"%d" % number) for number in range(32)]
    assert isinstance(world.answer(b"one more"), CannotTell)
    world.fake.let_go()
    assert all(answers[0].check(NotAuthenticated) for _, answers in waiting)
    assert isinstance(world.answer(b"one more"), NotAuthenticated)


def test_memory() -> None:
    """Of many tokens, those that were used longest ago are forgotten; the tokens themselves are no keys."""
    world = World()
    for number in range(1025):
        world.fake.know(b"secret%d" % number, "alice", "admin")
        world.answer(b"secret%d" % number)
        if number == 1000:
            assert world.known(b"secret0")
    assert world.known(b"secret0")
    assert not world.known(b"secret1")
    assert len(world.by_token._known) == 1024
    assert b"secret" not in b"".join(world.by_token._known)
    assert "secret" not in repr(world.by_token)


def test_what_is_no_token() -> None:
    """No token, an empty one, two of them or an endless one are not worth asking about."""
    world = World()
    for fields, tried in (
        ({}, False),
        ({"X_Auth_Token": b""}, True),
        ({"X_Auth_Token": [b"t", b"t"]}, True),
        ({"X_Auth_Token": b"x" * 8193}, True),
    ):
        request = a_request(**fields)
        assert world.by_token.recall(request) is None
        answers: list[Any] = []
        Deferred.fromCoroutine(world.by_token.identify(request)).addBoth(answers.append)
        refusal = answers[0].value
        assert isinstance(refusal, NotAuthenticated)
        assert refusal.tried is tried
    assert world.fake.site.asked == []

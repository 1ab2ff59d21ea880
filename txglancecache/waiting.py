"""One event, several waiters: each gets a Deferred of its own.

Klein cancels a route's Deferred when its client leaves. Whoever awaits something shared therefore
awaits a Deferred from here, whose cancellation reaches nobody else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Hashable
from contextlib import suppress
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

_T = TypeVar("_T")
_Q = TypeVar("_Q", bound=Hashable)
_P = ParamSpec("_P")
_log = Logger()


class InThread(Protocol):
    """Runs a blocking function in some pool of threads."""

    def __call__(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]: ...


def _leave(waiters: list[Deferred[_T]], waiter: Deferred[_T]) -> None:
    if waiter in waiters:
        waiters.remove(waiter)


@define(eq=False)
class Signal:
    """Something that happens again and again."""

    _waiters: list[Deferred[None]] = field(factory=list, init=False)

    def wait(self) -> Deferred[None]:
        """Fires the next time that `fire` or `fail` is called."""
        waiter: Deferred[None] = Deferred(lambda cancelled: _leave(self._waiters, cancelled))
        self._waiters.append(waiter)
        return waiter

    def fire(self) -> None:
        waiters, self._waiters[:] = list(self._waiters), []
        for waiter in waiters:
            if not waiter.called:  # the one before may have had it cancelled
                waiter.callback(None)


@define(eq=False)
class Outcome(Generic[_T]):
    """The one outcome of work that is under way, for all who ask for it now or later."""

    _waiters: list[Deferred[_T]] = field(factory=list, init=False)
    _result: list[_T | Failure] = field(factory=list, init=False)

    @classmethod
    def of(cls, work: Deferred[_T]) -> Outcome[_T]:
        """The outcome of ``work``, which nobody else may add callbacks to or cancel."""
        outcome = cls()
        work.addBoth(outcome._settle)
        return outcome

    @property
    def settled(self) -> bool:
        return bool(self._result)

    @property
    def value(self) -> _T | None:
        """The result; ``None`` as long as there is none."""
        result = self._result[0] if self._result else None
        return None if isinstance(result, Failure) else result

    def wait(self) -> Deferred[_T]:
        """The result, or the failure, as soon as it is known."""
        waiter: Deferred[_T] = Deferred(lambda cancelled: _leave(self._waiters, cancelled))
        if self._result:
            _pass_on(self._result[0], waiter)
        else:
            self._waiters.append(waiter)
        return waiter

    def _settle(self, result: _T | Failure) -> None:
        self._result.append(result)
        if isinstance(result, Failure) and not self._waiters:
            _log.debug("Nobody waited for what failed: {error}", error=result.getErrorMessage())
        waiters, self._waiters[:] = list(self._waiters), []
        for waiter in waiters:
            if not waiter.called:  # as in a `Signal`
                _pass_on(result, waiter)


@define(eq=False)
class Shared(Generic[_Q, _T]):
    """Questions that are being asked; who comes with an equal one meanwhile shares its answer."""

    _asking: dict[_Q, Outcome[_T]] = field(factory=dict, init=False)

    def ask(self, question: _Q, work: Callable[[], Coroutine[Any, Any, _T]]) -> Deferred[_T]:
        """What ``work`` returns, which goes on whoever leaves."""
        asking = self._asking.get(question)
        if asking is None:
            asking = Outcome.of(Deferred.fromCoroutine(work()))
            if not asking.settled:
                self._asking[question] = asking
                asking.wait().addBoth(lambda _: self._asking.pop(question))
        return asking.wait()


def _pass_on(result: _T | Failure, waiter: Deferred[_T]) -> None:
    if isinstance(result, Failure):
        waiter.errback(result)
    else:
        waiter.callback(result)


@define(eq=False)
class Semaphore:
    """Held by a few at a time, while the others wait in order; by one, unless there are more ``places``.

    Twisted's hands a place over inside of `release`, to one whose own `release` hands it over inside of that:
    a hundred who hold it for a moment each are more calls within calls than the interpreter allows, and the
    one at which it stops is never heard of again. Here they are called one after the other.
    """

    _free: int = field(default=1, alias="places")
    _waiters: deque[Deferred[None]] = field(factory=deque, init=False)
    _calling: bool = field(default=False, init=False)

    def acquire(self) -> Deferred[None]:
        """Fires when there is a place; whoever does not want it any more may cancel that."""
        waiter: Deferred[None] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        self._call()
        return waiter

    def release(self) -> None:
        """Give the place to the next in line."""
        self._free += 1
        self._call()

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *exception: object) -> None:
        self.release()

    def _call(self) -> None:
        if self._calling:
            return
        self._calling = True
        try:
            while self._free and self._waiters:
                self._free -= 1
                self._waiters.popleft().callback(None)
        finally:
            self._calling = False


async def to_the_end(work: Deferred[_T]) -> _T:
    """Await ``work`` that cannot be taken back, a thread's: when cancelled, end only after it has ended."""
    outcome = Outcome.of(work)
    try:
        return await outcome.wait()
    except CancelledError:
        with suppress(Exception):  # whoever does not want it does not want to know what became of it either
            await outcome.wait()
        raise

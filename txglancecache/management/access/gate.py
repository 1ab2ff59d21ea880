"""In front of the whole management site: who is it, and may they?

Decides from the method, the path and the caller alone, before anything behind it looks at the request, and
puts the caller onto the request for what does. Whom it cannot name, it does not let in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import cast

from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request

from txglancecache.headers import texts
from txglancecache.management.accept import preferred
from txglancecache.management.access.allowing import Policy
from txglancecache.management.access.authenticate import (
    Authenticator,
    Caller,
    CannotTell,
    NotAuthenticated,
    introduce,
    let_ask_again,
)
from txglancecache.management.access.permissions import OPEN, Access, access
from txglancecache.management.access.throttle import Throttle
from txglancecache.management.answers import Problem, answer_problem

_log = Logger()

_SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS"})
_HTML, _JSON = "text/html", "application/json"
#: Seconds after which it is worth asking again, when who is asking could not be found out.
_TRY_AGAIN = 5


@define(eq=False)
class _Refused(Exception):
    """The request is answered here."""

    problem: Problem


class Gate(Resource):
    """A resource behind which callers are known, and are allowed what they ask for."""

    isLeaf = True

    def __init__(
        self,
        inner: IResource,
        authenticator: Authenticator,
        policy: Policy,
        throttle: Throttle,
        refuse: Callable[[IRequest, Problem], bytes] = answer_problem,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self._inner = inner
        self._authenticator = authenticator
        self._policy = policy
        self._throttle = throttle
        self._refuse = refuse

    def render(self, request: IRequest) -> bytes | int:
        needed = access(request.method, request.postpath)
        if needed.page and _is_for_a_browser(request):
            # What is behind this must not take it for anything else.
            request.requestHeaders.setRawHeaders(b"Accept", [_HTML.encode("ascii")])
            needed = OPEN
        if not needed.known:
            return self._pass_on(request)
        try:
            caller = self._authenticator.recall(request)
            if caller is None:
                return self._find_out(request, needed)
            self._admit(request, caller, needed)
        except _Refused as refused:
            return self._refuse(request, refused.problem)
        return self._pass_on(request)

    def _pass_on(self, request: IRequest) -> bytes | int:
        body: bytes | int = self._inner.render(request)
        return body

    def _find_out(self, request: IRequest, needed: Access) -> int:
        """Admit the request, or not, when it is known whose it is."""
        wait = self._throttle.wait(_address(request))
        if wait:
            raise _Refused(
                Problem(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    "too many wrong credentials came from this address",
                    {"Retry-After": str(wait)},
                )
            )
        work = Deferred.fromCoroutine(self._identify(request, needed))
        asked = cast(Request, request)
        asked.notifyFinish().addErrback(lambda gone: work.cancel())
        work.addErrback(_failed, asked)
        return NOT_DONE_YET

    async def _identify(self, request: IRequest, needed: Access) -> None:
        try:
            self._admit(request, await self._named(request), needed)
        except _Refused as refused:
            request.write(self._refuse(request, refused.problem))
            request.finish()
        else:
            cast(Request, request).render(self._inner)

    async def _named(self, request: IRequest) -> Caller:
        try:
            return await self._authenticator.identify(request)
        except NotAuthenticated as error:
            if error.tried:
                self._throttle.failed(_address(request))
                _log.warn("{address} is not let in: {error}", address=_address(request), error=str(error))
            raise _Refused(self._who_are_you(error)) from None
        except CannotTell as error:
            again = {"Retry-After": str(_TRY_AGAIN)}
            raise _Refused(Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), again)) from None

    def _who_are_you(self, error: NotAuthenticated) -> Problem:
        challenge = self._authenticator.challenge
        if challenge is None:
            # A 401 has to say how to do better, and HTTP has no word for a certificate.
            return Problem(HTTPStatus.FORBIDDEN, str(error))
        return Problem(HTTPStatus.UNAUTHORIZED, str(error), {"WWW-Authenticate": challenge})

    def _admit(self, request: IRequest, caller: Caller, needed: Access) -> None:
        if needed.rule is not None and not self._policy.allows(needed.rule, caller):
            _log.info("{caller!r} may not {rule}", caller=caller.name, rule=needed.rule)
            raise _Refused(Problem(HTTPStatus.FORBIDDEN, f"the policy's rule {needed.rule} says no"))
        if request.method not in _SAFE_METHODS:
            # The site's log of requests has no names.
            method, path = request.method.decode("ascii", "replace"), request.path
            _log.info("{caller!r} may {method} {path}", caller=caller.name, method=method, path=path)
        introduce(request, caller)
        let_ask_again(request, partial(self._would_admit, request, needed))

    async def _would_admit(self, request: IRequest, needed: Access) -> bool:
        try:
            caller = self._authenticator.recall(request) or await self._authenticator.identify(request)
        except (NotAuthenticated, CannotTell):
            return False
        return needed.rule is None or self._policy.allows(needed.rule, caller)


def _failed(failure: Failure, request: Request) -> None:
    if not failure.check(CancelledError):  # the client is gone
        request.processingFailed(failure)


def _is_for_a_browser(request: IRequest) -> bool:
    accepted = texts(request.requestHeaders, b"Accept")
    return preferred(accepted, (_JSON, _HTML)) == _HTML


def _address(request: IRequest) -> str:
    """A client on a unix socket has none; all of them are one."""
    return str(getattr(cast(Request, request).getClientAddress(), "host", ""))

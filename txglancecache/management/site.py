"""The management site: what is in front of what, and which part answers which request.

The guard comes first, because no request that a browser was tricked into may cost anything. Then comes
whoever decides who may, then the parts: each says which requests are its own, the first that does gets
them, and the native API gets the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from io import BytesIO
from typing import Any

from attrs import frozen
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource, getChildForRequest
from twisted.web.server import Request

from txglancecache.clients.site import ClientSite
from txglancecache.management.access.guard import Guard
from txglancecache.management.answers import Problem, answer_problem
from txglancecache.management.native.inputs import MAX_BODY

#: A client that goes on sending a body that is too long is cut off after so many bytes.
_ENOUGH = 1 << 20
#: What is answered however much else a client has asked for.
_FOR_WATCHING = frozenset({b"/cache/health", b"/cache/ready", b"/metrics"})


@frozen
class Part:
    """Something that answers a share of the requests.

    :param claims: whether a request is one of them, by its method, its decoded ``postpath`` and its fields.
    """

    claims: Callable[[IRequest], bool]
    resource: IResource


class GuardedResource(Resource):
    """A resource behind the guard."""

    isLeaf = True

    def __init__(self, inner: IResource, guard: Guard) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self._inner = inner
        self._guard = guard

    def render(self, request: IRequest) -> bytes | int:
        fields = request.requestHeaders
        if not request.method.isupper():
            # Klein reads a method in small letters as if it were not.
            return answer_problem(request, Problem(HTTPStatus.NOT_IMPLEMENTED, "there is no such method"))
        if not request.uri.startswith(b"/"):
            # Some of it would go to the origin, which may repeat it to say that it is none.
            return answer_problem(request, Problem(HTTPStatus.BAD_REQUEST, "the target is no path"))
        refusal = self._guard.refusal(
            request.method,
            fields.getRawHeaders(b"Host", []),
            fields.getRawHeaders(b"Origin", []),
            fields.getRawHeaders(b"Sec-Fetch-Site", []),
        )
        if refusal is not None:
            return answer_problem(request, Problem(refusal.status, refusal.message))
        try:
            b"/".join(request.postpath).decode("utf-8")
        except UnicodeDecodeError:
            return answer_problem(request, Problem(HTTPStatus.BAD_REQUEST, "the path is not UTF-8"))
        body: bytes | int = self._inner.render(request)
        return body


class Parts(Resource):
    """Gives each request to the part whose it is."""

    isLeaf = True

    def __init__(self, parts: Sequence[Part], rest: IResource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self._parts = parts
        self._rest = rest

    def render(self, request: IRequest) -> bytes | int:
        found = next((part.resource for part in self._parts if part.claims(request)), self._rest)
        body: bytes | int = getChildForRequest(found, request).render(request)
        return body


def management_resource(
    native: IResource,
    guard: Guard,
    *,
    parts: Sequence[Part] = (),
    admit: Callable[[IResource], IResource] = lambda inner: inner,
) -> IResource:
    """The root of the management site.

    :param admit: puts whoever decides who may in front of a resource.
    """
    return GuardedResource(admit(Parts(parts, native)), guard)


class ManagementRequest(Request):
    """A request whose body is kept in memory: as much of it as it takes to see that it is too long."""

    channel: Any
    content: BytesIO
    _received = 0

    def __repr__(self) -> str:
        return f"<{self.method!r} {self.path!r}>"  # Twisted logs it, and a query may hold secrets

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self.content.tell() <= MAX_BODY:
            self.content.write(data[: MAX_BODY + 1])
        if self._received > _ENOUGH:
            self.channel.transport.abortConnection()


class ManagementSite(ClientSite):
    """A factory for connections of operators."""

    requestFactory = ManagementRequest


def management_site(root: IResource, **options: Any) -> ManagementSite:
    """The management site; `ClientSite` says what else there is to say.

    Whoever watches over the node gets an answer whatever else goes on here.
    """
    return ManagementSite(root, is_exempt=_is_for_watching, **options)


def _is_for_watching(target: bytes) -> bool:
    return target.partition(b"?")[0] in _FOR_WATCHING

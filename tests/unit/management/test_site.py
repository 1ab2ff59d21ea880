"""How the management site is put together, and what it does with bodies."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field
from treq.testing import StubTreq
from twisted.internet.interfaces import IProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource

from tests.unit.management.native.world import Site, result
from txglancecache.management.access.guard import Guard
from txglancecache.management.site import Part, management_resource, management_site


class Says(Resource):
    """Answers with one word, and the path that is left."""

    isLeaf = True

    def __init__(self, word: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self.word = word

    def render(self, request: IRequest) -> bytes:
        return b" ".join([self.word.encode(), *request.postpath])


class Closed(Resource):
    """Lets nobody in who does not say please."""

    isLeaf = True

    def __init__(self, inner: IResource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self.inner = inner

    def render(self, request: IRequest) -> Any:
        if not request.requestHeaders.hasHeader(b"Please"):
            request.setResponseCode(401)
            return b"no"
        return self.inner.render(request)


def under(name: bytes) -> Any:
    return lambda request: request.postpath[0] == name


def ask(resource: IResource, path: str, **fields: str) -> tuple[int, bytes]:
    stub_treq: Any = StubTreq
    client = stub_treq(resource)
    response = result(client.get(f"http://localhost{path}", headers=fields))
    return response.code, result(response.content())


def test_parts() -> None:
    """The first part that claims a request gets it, with its whole path; the native API gets the rest."""
    tree = Resource()  # type: ignore[no-untyped-call]  # so it is in Twisted
    tree.putChild(b"tree", Says("leaf"))  # type: ignore[no-untyped-call]  # so it is in Twisted
    parts = [
        Part(under(b"v2"), Says("first")),
        Part(under(b"v2"), Says("second")),
        Part(under(b"tree"), tree),
    ]
    root = management_resource(Says("native"), Guard(), parts=parts)
    assert ask(root, "/v2/cache") == (200, b"first v2 cache")
    assert ask(root, "/cache/images") == (200, b"native cache images")
    assert ask(root, "/tree/x") == (200, b"leaf x")


def test_order() -> None:
    """The guard comes before whoever decides who may, and that before the parts."""
    root = management_resource(
        Says("native"), Guard(), parts=[Part(under(b"v2"), Says("part"))], admit=Closed
    )
    assert ask(root, "/v2", Host="evil.example", Please="1")[0] == 421
    assert ask(root, "/v2") == (401, b"no")
    assert ask(root, "/cache") == (401, b"no")
    assert ask(root, "/v2", Please="1") == (200, b"part v2")


@define(eq=False)
class Connection:
    """A client's connection to the site."""

    transport: StringTransport = field(factory=StringTransport)
    channel: IProtocol = field(init=False)

    def __attrs_post_init__(self) -> None:
        root = management_resource(Site().native.resource(), Guard())
        self.channel = management_site(root, reactor=Clock()).buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def send(self, *data: bytes) -> bytes:
        """Send it, and return what is answered to it."""
        self.transport.clear()
        for part in data:
            self.channel.dataReceived(part)
        return self.transport.value()


HEAD = b"POST /cache/prune HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_body() -> None:
    """A body is taken however it is framed, and the connection goes on after it."""
    connection = Connection()
    sized = connection.send(HEAD + b"Content-Length: 12\r\n\r\n", b'{"target"', b":5}")
    assert sized.startswith(b"HTTP/1.1 200 ")
    chunked = connection.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n")
    assert chunked.startswith(b"HTTP/1.1 200 ")
    assert connection.send(HEAD + b"\r\n").startswith(b"HTTP/1.1 200 ")


def test_long_body() -> None:
    """Of a body that is too long no more is kept than shows that it is; then the connection goes on."""
    connection = Connection()
    length = 200 << 10
    answer = connection.send(HEAD + b"Content-Length: %d\r\n\r\n" % length, *[b" " * 1024] * 200)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert connection.send(HEAD + b"Content-Length: 2\r\n\r\n{}").startswith(b"HTTP/1.1 200 ")


def test_endless_body() -> None:
    """Who goes on sending is cut off."""
    connection = Connection()
    connection.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    sent = 0
    while not connection.transport.disconnected:
        connection.send(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        sent += 0x10000
        assert sent < 2 << 20


@pytest.mark.parametrize("target", [b"?x=1", b"cache", b"http://localhost/cache", b"localhost:443"])
def test_no_path(target: bytes) -> None:
    """A target that is no path is refused, and nobody else is asked what it means."""
    answer = Connection().send(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("method", [b"get", b"Get", b"head", b"delete"])
def test_no_such_method(method: bytes) -> None:
    """A method in small letters is none, and gets past nobody who knows only those in capitals."""
    for path in (b"/v2", b"/cache/", b"/cache", b"/metrics"):
        answer = Connection().send(method + b" " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 501 "), answer

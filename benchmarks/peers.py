"""What Twisted and Klein serve by themselves, with nothing added: ``static.File``, and a route.

``python -m benchmarks.peers file PORT PATH`` and ``python -m benchmarks.peers route PORT SIZE``.
"""

import sys
from pathlib import Path

from klein import Klein
from twisted.internet import endpoints, reactor
from twisted.internet.interfaces import IReactorTCP
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Site
from twisted.web.static import File


def plain_file(path: str) -> IResource:
    """One file, whatever is asked for."""
    resource = File(path, defaultType="application/octet-stream")
    resource.isLeaf = True
    resource.getChild = lambda name, request: resource  # type: ignore[method-assign]
    return resource


def bare_route(size: int) -> IResource:
    """A body of ``size`` bytes from a route that does nothing else."""
    app, body = Klein(), bytes(size)

    @app.route("/v2/images/<image>/file")
    def download(request: IRequest, image: str) -> bytes:
        request.setHeader(b"content-type", b"application/octet-stream")
        request.setHeader(b"content-length", b"%d" % size)
        return body

    return app.resource()


def serve(resource: IResource, port: int, on: IReactorTCP) -> None:
    endpoints.TCP4ServerEndpoint(on, port, interface="127.0.0.1").listen(Site(resource))


def main() -> None:
    kind, port, what = sys.argv[1:]
    resource = plain_file(str(Path(what))) if kind == "file" else bare_route(int(what))
    serve(resource, int(port), reactor)
    reactor.run()


if __name__ == "__main__":
    main()

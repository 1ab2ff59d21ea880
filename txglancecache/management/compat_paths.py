"""Which requests the compatible API answers; and a resource that gives it those, and another the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

_MINOR = re.compile(rb"v2\.[0-9]{1,3}")
_CACHE = frozenset({b"cache", b"cached_images", b"queued_images"})
_LEGACY = frozenset({b"cached_images", b"queued_images"})
_VERSIONS: tuple[Sequence[bytes], ...] = ([b""], [b"versions"])


def normal(path: Sequence[bytes]) -> list[bytes]:
    """The segments of a decoded path; ``/v2`` and every ``/v2.N`` are one to Glance."""
    head, *rest = path or [b""]
    return [b"v2" if _MINOR.fullmatch(head) else head, *rest]


def is_for_cache(method: bytes, path: Sequence[bytes]) -> bool:
    """Whether Glance's cache API, or the document that says that it is there, is asked for.

    :param path: the decoded segments.
    """
    match normal(path):
        case [b"v2", name, *_]:
            return name in _CACHE
        case [b"v1", name, *_]:
            return name in _LEGACY
    return method in (b"GET", b"HEAD") and list(path) in _VERSIONS


def is_for_glance(method: bytes, path: Sequence[bytes]) -> bool:
    """Whether something of Glance's is asked for, as opposed to something of this site's own."""
    return normal(path)[0] in (b"", b"versions", b"v1", b"v2")


class Normalized(Resource):
    """Gives the compatible API paths without minor versions."""

    isLeaf = True

    def __init__(self, app: IResource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self._app = app

    def render(self, request: Request) -> bytes | int:
        request.postpath = normal(request.postpath or [])
        body: bytes | int = self._app.render(request)
        return body


class Beside(Resource):
    """Gives one resource the requests that are for it, by method and decoded path, and another the rest."""

    isLeaf = True

    def __init__(
        self, one: IResource, is_for_it: Callable[[bytes, Sequence[bytes]], bool], rest: IResource
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self._one = one
        self._is_for_it = is_for_it
        self._rest = rest

    def render(self, request: Request) -> bytes | int:
        resource = self._one if self._is_for_it(request.method, request.postpath or []) else self._rest
        body: bytes | int = resource.render(request)
        return body

"""Which requests the compatible API answers.

All that is looked at is the method and ``postpath``, the decoded segments of the path."""

from __future__ import annotations

import re
from collections.abc import Sequence

from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource

_MINOR = re.compile(rb"v2\.[0-9]{1,3}")
_CACHE = frozenset({b"cache", b"cached_images", b"queued_images"})
_LEGACY = frozenset({b"cached_images", b"queued_images"})
_VERSIONS = ([b""], [b"versions"])


def normal(path: Sequence[bytes]) -> list[bytes]:
    """The segments of a decoded path; ``/v2`` and every ``/v2.N`` are one to Glance."""
    head, *rest = path or [b""]
    return [b"v2" if _MINOR.fullmatch(head) else head, *rest]


def is_for_cache(request: IRequest) -> bool:
    """Whether Glance's cache API, or the document that says that it is there, is asked for."""
    path = list(request.postpath)
    match normal(path):
        case [b"v2", name, *_]:
            return name in _CACHE
        case [b"v1", name, *_]:
            return name in _LEGACY
    return request.method in (b"GET", b"HEAD") and path in _VERSIONS


def is_for_glance(request: IRequest) -> bool:
    """Whether something of Glance's is asked for, as opposed to something of this site's own."""
    return normal(request.postpath)[0] in (b"", b"versions", b"v1", b"v2")


class Normalized(Resource):
    """Gives a resource paths without minor versions.

    It belongs in front of what decides who may: to that, too, every ``/v2.N`` is to be ``/v2``.
    """

    isLeaf = True

    def __init__(self, app: IResource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self._app = app

    def render(self, request: IRequest) -> bytes | int:
        request.postpath = normal(request.postpath)
        body: bytes | int = self._app.render(request)
        return body

"""The heads of this node's own answers about images: which fields they have, and what these say."""

from __future__ import annotations

import secrets
from enum import Enum

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from txglancecache.headers import cache_status
from txglancecache.image import Image
from txglancecache.proxy.clearance import Cleared
from txglancecache.proxy.site import DataRequest
from txglancecache.ranges import MultipartPlan, Partial, Whole

_CONTENT_TYPE = b"application/octet-stream"


class How(Enum):
    """Where the bytes of an answer come from, as `cache_status` says it."""

    HIT = {"hit": True}
    MISS = {"fwd": b"miss", "stored": True}
    PARTIAL = {"fwd": b"partial", "stored": True}
    COLLAPSED = {"fwd": b"miss", "collapsed": True}
    NO_BODY = {"fwd": b"miss"}

    @property
    def word(self) -> str:
        """For the log, and for whoever counts."""
        return self.name.lower()


@define(eq=False)
class Heads:
    """Sets status and fields.

    :param name: this cache's name in ``Cache-Status``.
    :param via: its member of ``Via``.
    """

    _clock: IReactorTime
    _name: bytes
    _via: bytes
    _statuses: dict[How, bytes] = field(init=False)

    @_statuses.default
    def _(self) -> dict[How, bytes]:
        return {how: cache_status(self._name, **how.value) for how in How}

    def begin(self, request: DataRequest, cleared: Cleared, code: int, how: How) -> None:
        """What every answer about a known image has."""
        request.setResponseCode(code)
        request.cache_status = self._statuses[how]
        request.verbatim = [
            (b"ETag", cleared.image.etag),
            (b"Accept-Ranges", b"bytes"),
            (b"Cache-Status", request.cache_status),
            (b"Via", self._via),
            (b"Age", b"%d" % (self._clock.seconds() - cleared.since)),
        ]
        if cleared.request_id is not None:
            request.verbatim.append((b"x-openstack-request-id", cleared.request_id))

    def describe(
        self, request: DataRequest, image: Image, selection: Whole | Partial
    ) -> MultipartPlan | None:
        """What an answer with a body has besides; returns the framing of more than one part."""
        plan = None
        content_type, length = _CONTENT_TYPE, image.size
        if isinstance(selection, Partial):
            if len(selection.ranges) > 1:
                boundary = secrets.token_hex(16).encode()
                plan = MultipartPlan(boundary, image.size, _CONTENT_TYPE, selection.ranges)
                content_type, length = plan.content_type_header, plan.length
            else:
                (part,) = selection.ranges
                length = part.length
                request.verbatim.append((b"Content-Range", part.content_range(image.size)))
        request.verbatim.append((b"Content-Type", content_type))
        request.setHeader(b"Content-Length", b"%d" % length)
        if image.checksum is not None:
            request.verbatim.append((b"Content-MD5", image.checksum.encode()))
        if image.repr_digest is not None:
            request.verbatim.append((b"Repr-Digest", image.repr_digest))
        return plan

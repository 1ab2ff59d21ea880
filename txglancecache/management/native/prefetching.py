"""Whether a caller may have images fetched: the origin is asked, in the caller's name."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define
from twisted.internet.defer import Deferred, FirstError, gatherResults

from txglancecache.errors import OriginError
from txglancecache.headers import RawHeaders, first
from txglancecache.management.managed import Catalog
from txglancecache.management.native.problems import BadRequest, NotFound, NotPermitted, Unauthorized
from txglancecache.origin.glance import Denied, Uncacheable

#: So many images are asked about at once.
_AT_ONCE = 8


@define(eq=False)
class Permission:
    """Asks the origin whether its images may be fetched.

    :param host: the origin's name, as its requests say it.
    """

    _catalog: Catalog
    _host: bytes

    async def check(self, image_ids: Sequence[str], identity: RawHeaders) -> None:
        """Return if all of them can be fetched with these fields.

        :raises NotFound: the origin has no such image, or does not show it to this caller.
        :raises BadRequest: the image cannot be fetched, because it is not active or nobody knows its digest.
        :raises Unauthorized, NotPermitted: the origin says so.
        :raises OriginError: it could not be asked.
        """
        fields = [(b"Host", self._host), *identity]
        for begin in range(0, len(image_ids), _AT_ONCE):
            some = image_ids[begin : begin + _AT_ONCE]
            asking = [Deferred.fromCoroutine(self._check_one(image_id, fields)) for image_id in some]
            try:
                await gatherResults(asking, consumeErrors=True)
            except FirstError as error:
                raise (error.subFailure.value or error) from None
            finally:
                for one in asking:
                    one.cancel()

    async def _check_one(self, image_id: str, fields: RawHeaders) -> None:
        found = await self._catalog.identify(b"/v2/images/" + image_id.encode("ascii"), fields)
        if isinstance(found, Denied):
            raise _denial(image_id, found)
        if found is Uncacheable.NOT_ACTIVE:
            raise BadRequest(f"only images with status active can be prefetched, and {image_id} has another")
        if isinstance(found, Uncacheable):
            raise BadRequest(f"image {image_id} cannot be cached: {found.value}")


def _denial(image_id: str, denied: Denied) -> Exception:
    head = denied.answer.head
    match head.status:
        case 401:
            challenge = first(head.headers, b"WWW-Authenticate")
            return Unauthorized("the origin does not take this token", challenge)
        case 403:
            return NotPermitted(f"the origin does not let this token have image {image_id}")
        case 404:
            return NotFound(f"the origin has no image {image_id}, or does not show it to this token")
        case status:
            return OriginError(f"the origin answered {status}")

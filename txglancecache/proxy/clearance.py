"""Whether a client may have an image now, and what the image is.

The origin decides, for every request. What is kept here is only what the origin said.
"""

from __future__ import annotations

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

from txglancecache.cache.cache import Cache
from txglancecache.cache.entry import Entry
from txglancecache.headers import RawHeaders, values
from txglancecache.image import Image, is_image_id
from txglancecache.origin.glance import Allowed, Denied, Glance, Uncacheable
from txglancecache.proxy.authorization import Authorizer


@frozen(eq=False)
class Asked:
    """What a client asks for, and the fields with which the origin is asked on its behalf.

    ``target`` is the request target of the download, as it came; ``at`` is when, in the clock's seconds.
    """

    image_id: str
    target: bytes
    headers: RawHeaders = field(repr=False)
    at: float = 0.0

    @property
    def plain(self) -> bool:
        """Whether the target is spelt so that `metadata_target` can be told from it."""
        return self.target.partition(b"?")[0].endswith(b"/file")

    @property
    def metadata_target(self) -> bytes:
        """The request target of the image's description."""
        return self.target.partition(b"?")[0].removesuffix(b"/file")

    def header(self, name: bytes) -> bytes | None:
        """A field of the client's request, several of one name joined."""
        found = values(self.headers, name)
        return b", ".join(found) if found else None


@frozen
class Cleared:
    """The client may have this image. ``since`` is when the origin said so, in the clock's seconds."""

    image: Image
    since: float
    request_id: bytes | None


@frozen
class NotCacheable:
    """The cache has no part in this; the origin is to answer."""

    reason: bytes


class NotShown:
    """The origin does not show the image to this client; it is to answer for itself."""


class JustChanged:
    """The origin's image has just turned out to be another: look again."""


@define(eq=False)
class Clearance:
    """Settles permission and identity.

    :param revalidate_after: seconds after which the origin is asked anew what an image is.
    """

    _cache: Cache
    _glance: Glance
    _authorizer: Authorizer
    _clock: IReactorTime
    _revalidate_after: float

    async def settle(self, asked: Asked) -> Cleared | Denied | NotShown | NotCacheable | JustChanged:
        """Ask the origin what has to be asked.

        :raises OriginError: it cannot be asked.
        """
        if not is_image_id(asked.image_id) or not asked.plain or asked.header(b"content-range"):
            return NotCacheable(b"not-understood")
        entry = self._cache.find(asked.image_id)
        image: Image | NotShown | NotCacheable = entry.image if entry else await self._identify(asked)
        if not isinstance(image, Image):
            return image
        verdict = await self._authorizer.check(asked.image_id, asked.target, asked.headers, image.size)
        if isinstance(verdict, Denied):
            self._cache.counters.denied += 1
            if entry is not None:
                self._drop_if_gone(asked, entry, verdict.answer.head.status)
            return verdict
        if not isinstance(verdict, Allowed):
            if entry is not None:
                self._cache.outdated(entry)
            return JustChanged()
        now = self._clock.seconds()
        if entry is not None and now - entry.identified > self._revalidate_after:
            image = await self._identify(asked)
            if not isinstance(image, Image):
                return image
            if not image.same_body(entry.image):
                self._cache.outdated(entry)
                return JustChanged()
            entry.identified = now
        if self._superseded(entry, image):
            return JustChanged()
        if entry is not None:
            entry.confirmed = now
        return Cleared(image, verdict.since, verdict.request_id)

    def _superseded(self, entry: Entry | None, image: Image) -> bool:
        """Whether the cache has learnt better while the origin was asked.

        What is cleared replaces what is there: it must not be an image that has itself been replaced.
        """
        current = self._cache.find(image.image_id)
        if current is None or current is entry:
            return current is not entry
        return entry is not None or not current.image.same_body(image)

    async def _identify(self, asked: Asked) -> Image | NotShown | NotCacheable:
        image = await self._glance.identify(asked.metadata_target, asked.headers)
        if isinstance(image, Uncacheable):
            return NotCacheable(image.value.replace(" ", "-").encode())
        if isinstance(image, Denied):
            self._cache.counters.denied += 1
            return NotShown()
        if image.image_id != asked.image_id:
            return NotCacheable(b"not-described")
        return image

    def _drop_if_gone(self, asked: Asked, entry: Entry, status: int) -> None:
        """Drop the entry if the origin's answer means that the image is gone.

        Glance says 404 both of what is gone and of what the client may not see. So that nobody can flush
        other people's images, a 404 counts only for a client that had been allowed this image, or when
        nobody has been for as long as a description is believed.
        """
        forgotten = self._clock.seconds() - entry.confirmed > self._revalidate_after
        if status == 410 or (
            status == 404
            and (
                forgotten
                or self._authorizer.was_allowed(asked.image_id, asked.target, asked.headers, entry.image.size)
            )
        ):
            self._cache.drop(entry, f"the origin answered {status}")

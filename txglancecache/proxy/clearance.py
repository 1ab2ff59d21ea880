"""Whether a client may have an image now, and what the image is.

The origin decides, for every request. What is kept here is only what the origin said.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

from txglancecache.cache.cache import Cache
from txglancecache.cache.entry import Entry
from txglancecache.headers import RawHeaders, values
from txglancecache.image import Image, is_image_id
from txglancecache.origin.glance import Allowed, Denied, Glance, Uncacheable
from txglancecache.proxy.authorization import Authorizer
from txglancecache.waiting import Shared

#: Names of images that the origin has said something about.
_MOST_KEPT = 65_536


@frozen(eq=False)
class Asked:
    """What a client asks for, and the fields with which the origin is asked on its behalf.

    ``target`` is the request target of the download, as it came; ``at`` is when, in the clock's seconds.
    """

    image_id: str
    target: bytes = field(repr=False)  # its query may hold secrets too
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

    Permission comes first, known image or not: a client that is refused sees one answer of the origin's, and
    how it came about tells nothing about what is cached.

    :param revalidate_after: seconds after which the origin is asked anew what an image is.
    """

    _cache: Cache
    _glance: Glance
    _authorizer: Authorizer
    _clock: IReactorTime
    _revalidate_after: float
    _describing: Shared[bytes, Image | Uncacheable | Denied] = field(factory=Shared, init=False, repr=False)
    _said: OrderedDict[tuple[str, bytes | None], Image] = field(factory=OrderedDict, init=False, repr=False)

    def known(self, asked: Asked) -> Cleared | None:
        """What `settle` is going to say, if the origin need not be asked for that."""
        entry = self._cache.find(asked.image_id)
        if entry is None or not asked.plain or not self._is_known(asked, entry):
            return None
        allowed = self._authorizer.known(asked.image_id, asked.target, asked.headers, entry.image.size)
        if allowed is None:
            return None
        entry.confirmed = self._clock.seconds()
        return Cleared(entry.image, allowed.since, allowed.request_id)

    async def settle(self, asked: Asked) -> Cleared | Denied | NotShown | NotCacheable | JustChanged:
        """Ask the origin what has to be asked.

        :raises OriginError: it cannot be asked.
        """
        if not is_image_id(asked.image_id) or not asked.plain or asked.header(b"content-range"):
            return NotCacheable(b"not-understood")
        entry = self._cache.find(asked.image_id)
        size = entry.image.size if entry else None
        verdict = await self._authorizer.check(asked.image_id, asked.target, asked.headers, size)
        if isinstance(verdict, Denied):
            return await self._denied(asked, entry, verdict)
        if not isinstance(verdict, Allowed):
            if entry is not None and self._is_current(entry) and not self._is_known(asked, entry):
                return NotCacheable(b"another-origin")
            if entry is not None:
                self._cache.outdated(entry)
            return JustChanged()
        if entry is not None and self._is_known(asked, entry):
            image = entry.image
        else:
            found = await self._identify(asked)
            if not isinstance(found, Image):
                return found
            image = found
            if entry is None:
                self._authorizer.identified(asked.image_id, asked.target, asked.headers, image.size)
            elif not image.same_body(entry.image):
                if self._is_current(entry):
                    return NotCacheable(b"another-origin")
                self._cache.outdated(entry)
                return JustChanged()
            else:
                entry.identified = self._clock.seconds()
        if self._superseded(entry, image):
            return JustChanged()
        if entry is not None:
            entry.confirmed = self._clock.seconds()
        return Cleared(image, verdict.since, verdict.request_id)

    async def _denied(
        self, asked: Asked, entry: Entry | None, denied: Denied
    ) -> Denied | NotShown | NotCacheable:
        """What a client gets that is not allowed the image; it may be one without data."""
        status = denied.answer.head.status
        if entry is None and status == 500:
            # Glance fails when it is asked for a range of an image that has no size yet.
            image = await self._identify(asked)
            if not isinstance(image, Image):
                return image
        self._cache.counters.denied += 1
        if entry is not None:
            self._drop_if_gone(asked, entry, status)
        return denied

    def _is_known(self, asked: Asked, entry: Entry) -> bool:
        """Whether the origin has said that this is the image, lately, and to those who call it by this name.

        An address may be that of several origins, told apart by ``Host``: each has images of its own.
        """
        said = self._said.get((asked.image_id, asked.header(b"host")))
        return self._is_current(entry) and said is not None and said.same_body(entry.image)

    def _is_current(self, entry: Entry) -> bool:
        return self._clock.seconds() - entry.identified <= self._revalidate_after

    def _superseded(self, entry: Entry | None, image: Image) -> bool:
        """Whether the cache has learnt better while the origin was asked.

        What is cleared replaces what is there: it must not be an image that has itself been replaced.
        """
        current = self._cache.find(image.image_id)
        if current is None or current is entry:
            return current is not entry
        return entry is not None or not current.image.same_body(image)

    async def _identify(self, asked: Asked) -> Image | NotShown | NotCacheable:
        image = await self._describing.ask(
            self._authorizer.asker(asked.target, asked.headers),
            partial(self._glance.identify, asked.metadata_target, asked.headers),
        )
        if isinstance(image, Uncacheable):
            return NotCacheable(image.value.replace(" ", "-").encode())
        if isinstance(image, Denied):
            self._cache.counters.denied += 1
            return NotShown()
        if image.image_id != asked.image_id:
            return NotCacheable(b"not-described")
        name = asked.image_id, asked.header(b"host")
        self._said[name] = image
        self._said.move_to_end(name)
        while len(self._said) > _MOST_KEPT:
            self._said.popitem(last=False)
        return image

    def _drop_if_gone(self, asked: Asked, entry: Entry, status: int) -> None:
        """Drop the entry if the origin's answer means that the image is gone.

        Glance says 404 both of what is gone and of what the client may not see. So that nobody can flush
        other people's images, a 404 counts only for a client that had been allowed this image, and once, or
        when nobody has been for as long as a description is believed.
        """
        forgotten = self._clock.seconds() - entry.confirmed > self._revalidate_after
        had_been = self._authorizer.forget(asked.image_id, asked.target, asked.headers, entry.image.size)
        if status == 410 or (status == 404 and (had_been or forgotten)):
            self._cache.drop(entry, f"the origin answered {status}")

"""What jobs do: have an image in the cache before anybody downloads it, and verify a body again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import define
from twisted.internet.defer import CancelledError

from txglancecache.cache.cache import Cache
from txglancecache.cache.jobs import Progress
from txglancecache.cache.status import JobKind
from txglancecache.cache.steward import Steward
from txglancecache.errors import EntryDropped, JobFailed, OriginError
from txglancecache.headers import RawHeaders, without
from txglancecache.image import Image, is_image_id
from txglancecache.origin.client import OriginClient
from txglancecache.origin.glance import Changed, Denied, Glance, ImageSource, Uncacheable

#: The service's own credentials as header fields; ``None`` where none are configured.
Credentials = Callable[[], Awaitable[RawHeaders | None]]


@define(eq=False)
class Chores:
    """Does the work of jobs; see `txglancecache.cache.jobs.Worker`.

    :param credentials: with which the origin is asked when the client's own fields are not known, or are
        those of nobody any more.
    """

    _cache: Cache
    _steward: Steward
    _glance: Glance
    _client: OriginClient
    _credentials: Credentials

    def needed(self, kind: JobKind, image_id: str) -> bool:
        """Whether there is anything to do: a complete body is not fetched again."""
        entry = self._cache.find(image_id)
        return kind is not JobKind.PREFETCH or entry is None or not entry.finished

    async def do(self, kind: JobKind, image_id: str, headers: RawHeaders | None, progress: Progress) -> None:
        if kind is JobKind.PREFETCH:
            await self._prefetch(image_id, headers, progress)
        else:
            await self._verify(image_id, progress)

    async def _prefetch(self, image_id: str, headers: RawHeaders | None, progress: Progress) -> None:
        """Read the whole image to the end, and throw it away: what was read stays in the cache."""
        if not is_image_id(image_id):
            raise JobFailed("this is no image id")
        target = b"/v2/images/%s/file" % image_id.encode("ascii")
        image, fields = await self._find(target, headers)
        entry = await self._cache.admit(image)
        progress.size, progress.done = image.size, lambda: entry.extents.total
        source = ImageSource(self._client, target, fields)
        (reader,) = await self._cache.read(
            entry, [(0, image.size)], whole=True, source=source, for_cache=True
        )
        try:
            with reader:
                while reader.left:
                    await reader.wait()
                    if entry.dropped:
                        raise EntryDropped("the image was dropped meanwhile")
                    reader.advance(reader.available())
        except CancelledError:
            self._cache.release(entry)
            raise

    async def _find(self, target: bytes, headers: RawHeaders | None) -> tuple[Image, RawHeaders]:
        """What the image is, and the fields that it is to be had with.

        The queue may be longer than a token lives: where the client's is none any more the service's own
        stands in for it. What the origin does not let this client have it is not asked for in another name.
        """
        own = await self._credentials() if headers is None else None
        try:
            return await self._identify(target, headers or own or ())
        except _Unauthenticated:
            if own is not None:
                raise
            own = await self._credentials()
            if own is None:
                raise JobFailed(
                    "the origin answered 401: the credentials of whoever asked are gone or have expired, "
                    "and [service_auth] names none"
                ) from None
        return await self._identify(target, own)

    async def _identify(self, target: bytes, identity: RawHeaders) -> tuple[Image, RawHeaders]:
        fields = [(b"Host", self._client.origin.netloc), *without(identity, b"host")]
        image = await self._glance.identify(target.removesuffix(b"/file"), fields)
        if isinstance(image, Uncacheable):
            raise JobFailed(f"the image cannot be cached: {image.value}")
        if isinstance(image, Denied):
            raise _refusal(image)
        verdict = await self._glance.authorize(target, fields, image.size)
        if isinstance(verdict, Denied):
            raise _refusal(verdict)
        if isinstance(verdict, Changed):
            raise OriginError("the image has just changed")
        return image, fields

    async def _verify(self, image_id: str, progress: Progress) -> None:
        entry = self._cache.find(image_id)
        if entry is None:
            raise JobFailed("the image is not in the cache")
        if not entry.finished:
            raise JobFailed("the image is not complete")
        verifier = self._steward.verifier(entry)
        progress.size, progress.done = entry.image.size, lambda: verifier.hashed
        await self._steward.verify(entry, verifier)


class _Unauthenticated(JobFailed):
    """The origin does not know whose request it is."""


def _refusal(denied: Denied) -> JobFailed | OriginError:
    status = denied.answer.head.status
    if status >= 500 or status in (408, 429):
        return OriginError(f"the origin answered {status}")
    kind = _Unauthenticated if status == 401 else JobFailed
    return kind(f"the origin answered {status}")

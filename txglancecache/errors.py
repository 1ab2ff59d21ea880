"""Every error this package raises on purpose.

Each carries its facts as fields. None knows a status code: each site maps errors to HTTP in one
place of its own.
"""

from __future__ import annotations

from attrs import define, field


class GlanceCacheError(Exception):
    """The base of all errors of this package."""


@define(eq=False)
class ConfigurationError(GlanceCacheError):
    """A setting that cannot be used; ``str()`` is one line for an operator."""

    message: str

    def __str__(self) -> str:
        return self.message


@define(eq=False)
class OriginError(GlanceCacheError):
    """The origin could not be asked, or its answer could not be used."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class OriginUnreachable(OriginError):
    """No connection to the origin: refused, unresolvable, or TLS failed."""


class OriginTimeout(OriginError):
    """The origin accepted a connection or a request and then said nothing for too long."""


class OriginProtocolError(OriginError):
    """The origin broke HTTP's framing, or closed before its answer was whole."""


class OriginBusy(OriginError):
    """Every connection that may be opened to the origin is in use."""


@define(eq=False)
class OriginOverloaded(OriginError):
    """The origin cannot answer now. It may have said after how many seconds to ask again."""

    retry_after: float | None = None


@define(eq=False)
class SourceRefused(GlanceCacheError):
    """The origin does not give these bytes to the client on whose behalf they were asked for."""

    status: int

    def __str__(self) -> str:
        return f"the origin answered {self.status}"


class RangesUnsupported(GlanceCacheError):
    """The origin cannot send a part of this body; it has to be taken from the start."""


class ImageChanged(GlanceCacheError):
    """The origin's body is no longer the one that was described."""


@define(eq=False)
class RequestBodyBroken(GlanceCacheError):
    """The client went away, or broke its framing, before its request body was whole."""

    received: int = field(default=0)

    def __str__(self) -> str:
        return f"request body broken off after {self.received} bytes"


class StoreError(GlanceCacheError):
    """The cache directory cannot be used, or the disk failed."""


@define(eq=False)
class StoreUnusable(StoreError):
    """The cache directory cannot be created, entered or written."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"cannot use cache directory {self.path}: {self.reason}"


@define(eq=False)
class DirectoryLocked(StoreError):
    """Another process owns the cache directory."""

    path: str

    def __str__(self) -> str:
        return f"cache directory {self.path} is in use by another process"


class Exhausted(StoreError):
    """Something that every file needs has run out; no file is the worse for it."""


@define(eq=False)
class NoRoom(Exhausted):
    """The bytes do not fit, even after evicting all that may be evicted."""

    wanted: int

    def __str__(self) -> str:
        return f"no room for {self.wanted} bytes"


@define(eq=False)
class BodyAltered(StoreError):
    """Somebody else changed a body file whose content was known to be right."""

    what: str

    def __str__(self) -> str:
        return f"{self.what} was altered"


@define(eq=False)
class FillFailed(GlanceCacheError):
    """An entry's missing bytes could not be had from any source that its readers brought."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@define(eq=False)
class DigestMismatch(GlanceCacheError):
    """A complete body does not have the digest that Glance promised."""

    algorithm: str
    expected: str
    actual: str

    def __str__(self) -> str:
        return f"{self.algorithm} is {self.actual}, not {self.expected}"


class EntryDropped(GlanceCacheError):
    """The entry left the cache while a reader was waiting for bytes that will not come."""


class ClientGone(GlanceCacheError):
    """The client closed its connection before its response was whole."""


@define(eq=False)
class ClientStalled(GlanceCacheError):
    """The client took nothing for so many seconds."""

    seconds: float

    def __str__(self) -> str:
        return f"the client took nothing for {self.seconds:g} s"


@define(eq=False)
class JobFailed(GlanceCacheError):
    """A job cannot be done, and trying again will not help."""

    reason: str

    def __str__(self) -> str:
        return self.reason

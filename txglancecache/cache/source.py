"""Where a fill gets its bytes from."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from txglancecache.origin.client import Response


class Source(Protocol):
    """The origin's answer to one client: asks for the bytes with that client's own credentials."""

    def fetch(self, start: int, stop: int, size: int) -> Coroutine[Any, Any, Response]:
        """The response whose body is ``[start, stop)`` of a body of ``size`` bytes.

        :raises SourceRefused: this client may not have them.
        :raises RangesUnsupported: only the whole body can be had.
        :raises ImageChanged: it is another body now.
        :raises FillFailed: they cannot be had from the origin.
        :raises OriginError: trying again may help.
        """

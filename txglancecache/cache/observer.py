"""Who is told what a fill brought about."""

from __future__ import annotations

from typing import Protocol

from txglancecache.cache.entry import Entry
from txglancecache.errors import DigestMismatch, StoreError


class FillObserver(Protocol):
    """Who is told what a fill brought about."""

    def fill_busy(self, entry: Entry) -> None:
        """Bytes are being fetched or checked, after none were."""

    def fill_started(self, entry: Entry) -> None:
        """Bytes are asked for, after none were."""

    def fill_grew(self, entry: Entry) -> None:
        """There is more on disk than before."""

    def fill_verified(self, entry: Entry) -> None:
        """Every byte is there and the digest is right."""

    def fill_idle(self, entry: Entry) -> None:
        """Nothing is under way any more."""

    def fill_mismatch(self, entry: Entry, error: DigestMismatch) -> None:
        """Every byte is there and the digest is wrong."""

    def outdated(self, entry: Entry) -> None:
        """The origin has another body now."""

    def disk_failed(self, entry: Entry, error: StoreError) -> None:
        """The file cannot be written or read."""

"""Who is told how the origin answers."""

from __future__ import annotations

from typing import Protocol


class OriginObserver(Protocol):
    """Told of each request to the origin when the head of its answer is in, or when it is not coming."""

    def answered(self, method: bytes, status: int, seconds: float) -> None:
        """The head came after so many seconds."""

    def failed(self, error: Exception) -> None:
        """There was no answer."""


class Unobserved:
    """Nobody looks."""

    def answered(self, method: bytes, status: int, seconds: float) -> None:
        pass

    def failed(self, error: Exception) -> None:
        pass

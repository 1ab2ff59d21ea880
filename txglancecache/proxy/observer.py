"""Who is told how downloads go. The one way in which measuring gets into this package."""

from __future__ import annotations

from typing import Protocol


class DownloadObserver(Protocol):
    """Told of each response that has a body out of the cache, when it begins and when it is over.

    ``how`` is where its bytes come from: ``hit``, ``miss``, ``partial`` or ``collapsed``.
    """

    def began(self, how: str, waited: float) -> None:
        """The first byte is there to be sent, ``waited`` seconds after the request came."""

    def ended(self, how: str, seconds: float, from_disk: int, from_origin: int, *, whole: bool) -> None:
        """It took so long from the first byte on.

        :param from_disk: bytes sent that had been in the cache before the request came.
        :param from_origin: bytes sent that came from the origin since.
        :param whole: all was sent that had been asked for.
        """


class Unobserved:
    """Nobody looks."""

    def began(self, how: str, waited: float) -> None:
        pass

    def ended(self, how: str, seconds: float, from_disk: int, from_origin: int, *, whole: bool) -> None:
        pass

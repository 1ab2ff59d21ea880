"""An image that becomes another one under the same id: each page of a body tells of which edition it is."""

import struct
from functools import lru_cache

from attrs import define

from tests.cloud.imitation import Made

IMAGE_ID = "changing"
PATH = f"/v2/images/{IMAGE_ID}/file"
PAGE = 4096
SIZE = 1024 * PAGE

_MARK = struct.Struct(">QQ")


def _page(edition: int, number: int) -> bytes:
    return _MARK.pack(edition, number) * (PAGE // _MARK.size)


@lru_cache(4)
def body_of(edition: int) -> bytes:
    """The image as it is in this edition; those of all editions are of one size."""
    return b"".join(_page(edition, number) for number in range(SIZE // PAGE))


def editions(body: bytes, start: int) -> set[int]:
    """Of which editions the pages are that a body is made of; it begins at `start`, where a page does.

    :raises ValueError: some of it is of none.
    """
    found = set()
    for at in range(0, len(body) - _MARK.size + 1, PAGE):
        edition, number = _MARK.unpack_from(body, at)
        page = body[at : at + PAGE]
        if page != _page(edition, (start + at) // PAGE)[: len(page)]:
            raise ValueError(f"what is at {start + at} calls itself page {number} of edition {edition}")
        found.add(edition)
    return found


@define(eq=False)
class Changing:
    """The image, as `tests.cloud.imitation.Imitation` sends it.

    :param described: whether its description tells the editions apart. Else it has the digest of none.
    :param edition: that answers which begin from now on are of.
    """

    described: bool
    edition: int = 1

    def __call__(self, image_id: str) -> Made | None:
        if image_id != IMAGE_ID:
            return None
        body = body_of(self.edition)
        return Made(body, body if self.described else b"")

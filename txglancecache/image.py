"""What the origin says an image's body is."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cached_property, lru_cache

from attrs import field, frozen
from attrs.validators import ge

#: Structured-field names of RFC 9530 for the digests that it registers as secure.
_REPR_DIGEST_NAMES = {"sha512": b"sha-512", "sha256": b"sha-256"}

_HEX = "0123456789abcdef"
_IMAGE_ID = re.compile(r"(?!\.+$)[0-9A-Za-z._-]{1,255}")


@frozen
class Image:
    """One image body: whose it is, how long, and the digest that it must have.

    ``algorithm`` is a hashlib name and ``digest`` hex: Glance's ``os_hash_algo`` and ``os_hash_value``,
    or ``md5`` and ``checksum`` for an image without them. ``checksum`` is the md5 that Glance sends as
    ``Content-MD5``, where it has one. ``size`` is in bytes.
    """

    image_id: str
    size: int = field(validator=ge(0))
    algorithm: str
    digest: str
    checksum: str | None = None

    @property
    def is_possible(self) -> bool:
        """Whether the origin can have said this: not so if it was read from where others could write.

        :raises TypeError: of what has other types than these.
        """
        return (
            is_image_id(self.image_id)
            and 0 < self.size < 1 << 63
            and usable_algorithm(self.algorithm)
            and _is_hex(self.digest)
            and (self.checksum is None or _is_hex(self.checksum))
        )

    @cached_property
    def etag(self) -> bytes:
        """The strong entity tag, RFC 9110 section 8.8.3: equal for equal bytes and only for them."""
        return f'"{self.algorithm}:{self.digest}"'.encode("ascii")

    @cached_property
    def repr_digest(self) -> bytes | None:
        """The ``Repr-Digest`` field value of RFC 9530, for the algorithms registered there."""
        name = _REPR_DIGEST_NAMES.get(self.algorithm)
        if name is None:
            return None
        return name + b"=:" + base64.b64encode(bytes.fromhex(self.digest)) + b":"

    def same_body(self, other: Image) -> bool:
        """Whether both are the same bytes; a checksum that was filled in later changes nothing."""
        return (self.size, self.algorithm, self.digest) == (other.size, other.algorithm, other.digest)


def is_image_id(text: str) -> bool:
    """Whether this can be an image's id: nothing that would mean anything in a URL or a path."""
    return _IMAGE_ID.fullmatch(text) is not None


def _is_hex(text: str) -> bool:
    return text != "" and len(text) % 2 == 0 and not text.strip(_HEX)


@lru_cache(64)
def usable_algorithm(name: str) -> bool:
    """Whether hashlib can compute this digest here and its length is fixed (not a SHAKE)."""
    try:
        return hashlib.new(name, usedforsecurity=False).digest_size > 0
    except (ValueError, TypeError):
        return False

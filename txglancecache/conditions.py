"""Conditional requests: whether a response is wanted at all, and whether as a range (RFC 9110 section 13).

Pure rules for GET and HEAD of a body that has an entity-tag and no modification date. So
``If-Modified-Since`` and ``If-Unmodified-Since`` are not here: a recipient must ignore them for want of a
date (sections 13.1.3 and 13.1.4).
"""

from __future__ import annotations

import re
from enum import Enum, auto

from attrs import frozen

# One member of a list of entity-tags (RFC 9110 section 8.8.3), or an empty one, up to its comma. A tag may
# hold commas itself, so the field cannot simply be split at them. Possessive, so that it takes linear time.
_MEMBER = re.compile(rb'[ \t]*+((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")?[ \t]*(?:,|\Z)')


class Verdict(Enum):
    """What the preconditions of a request make of it."""

    PROCEED = auto()
    NOT_MODIFIED = auto()
    """304: the client has these very bytes."""
    PRECONDITION_FAILED = auto()
    """412: the client wants other bytes than these."""


@frozen
class Conditions:
    """A request's conditional fields, several of one name joined by commas."""

    if_match: bytes | None = None
    if_none_match: bytes | None = None
    if_range: bytes | None = None

    def verdict(self, etag: bytes) -> Verdict:
        """Evaluate ``If-Match`` and then ``If-None-Match``, in the order of RFC 9110 section 13.2.2.

        :param etag: the current entity-tag, with its quotes.
        """
        if self.if_match is not None and not _listed(self.if_match, etag, strongly=True):
            return Verdict.PRECONDITION_FAILED
        if self.if_none_match is not None and _listed(self.if_none_match, etag, strongly=False):
            return Verdict.NOT_MODIFIED
        return Verdict.PROCEED

    def range_applies(self, etag: bytes) -> bool:
        """May a ``Range`` be honoured, or has the body changed since the client got its part?

        The comparison is strong; a date never matches a body that has none (RFC 9110 section 13.1.5).
        """
        return self.if_range is None or _same(self.if_range.strip(), etag, strongly=True)


def _listed(value: bytes, etag: bytes, *, strongly: bool) -> bool:
    """Does the list of entity-tags in ``value``, or a lone ``*``, match ``etag``?"""
    return value.strip() == b"*" or any(_same(tag, etag, strongly=strongly) for tag in _tags(value))


def _tags(value: bytes) -> list[bytes]:
    """The entity-tags that ``value`` lists; none at all if it lists anything else."""
    tags = []
    position = 0
    while position < len(value):
        member = _MEMBER.match(value, position)
        if member is None:
            return []
        if member[1]:
            tags.append(member[1])
        position = member.end()
    return tags


def _same(one: bytes, other: bytes, *, strongly: bool) -> bool:
    """Compare entity-tags (RFC 9110 section 8.8.3.2): a weak one is strongly the same as nothing."""
    if strongly:
        return one == other and not one.startswith(b"W/")
    return one.removeprefix(b"W/") == other.removeprefix(b"W/")

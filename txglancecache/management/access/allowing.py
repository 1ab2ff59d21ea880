"""What is asked whether a caller may do something, and the answer of a site that asks nobody who they are."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

from txglancecache.management.access.authenticate import Caller


class Policy(Protocol):
    """Says who may do what."""

    def allows(self, rule: str, caller: Caller) -> bool: ...


@frozen
class AllowAll:
    """For a site that only this machine reaches."""

    def allows(self, rule: str, caller: Caller) -> bool:
        return True

"""Bugs made to order, and the log of them as twistd writes it: text, tracebacks and all."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet import defer
from twisted.logger import globalLogPublisher, textFileLogObserver

#: What a bug from here says of itself.
A_BUG = "a bug, with"


def broken(*args: Any, **names: Any) -> Any:
    """Fails, and tells of all that it was given as well as that can tell of itself.

    What is plain bytes, or a plain sequence, has no say in that: it is left out.
    """
    given = [each for each in [*args, *names.values()] if not isinstance(each, bytes | list | tuple)]
    raise RuntimeError(f"{A_BUG} {', '.join(map(repr, given))}")


async def broken_later(*args: Any, **names: Any) -> Any:
    """As `broken`, for what is awaited."""
    broken(*args, **names)


@contextmanager
def written_log(*, debugging: bool = False) -> Iterator[io.StringIO]:
    """What is logged within this.

    :param debugging: Deferreds remember where they come from, and tell it too.
    """
    log = io.StringIO()
    observer = textFileLogObserver(log)
    before = defer.getDebugging()
    defer.setDebugging(debugging)
    globalLogPublisher.addObserver(observer)
    try:
        yield log
    finally:
        globalLogPublisher.removeObserver(observer)
        defer.setDebugging(before)

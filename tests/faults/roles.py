"""Roles that are played side by side, each in a thread of its own."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

_Role = TypeVar("_Role")


@contextmanager
def at_work(
    roles: Sequence[_Role], play: Callable[[_Role, random.Random, threading.Event], None], seed: int
) -> Iterator[None]:
    """Within this each role is played; at the end `play` is told that it is over, and has ended.

    What each of them does at random follows from `seed` and its place among the others.
    """
    over = threading.Event()
    threads = [
        threading.Thread(target=play, args=(role, random.Random(f"{seed} {number}"), over))
        for number, role in enumerate(roles)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()

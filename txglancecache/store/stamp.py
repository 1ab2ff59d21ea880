"""What a body file looked like when its content was known to be right.

Nothing in it is read for that: a file that still looks the same has not been written to. Only its owner could
write to it and see to it that it looks the same, by setting the clock.
"""

from __future__ import annotations

import os

from attrs import astuple, frozen

from txglancecache.errors import StoreError


@frozen
class Stamp:
    """Which file it was, how long, and when its content and its attributes were last changed, in ns."""

    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, fd: int) -> Stamp:
        """What the open file looks like now.

        :raises StoreError: nobody can tell.
        """
        found = look_at(fd)
        return cls(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    @classmethod
    def decode(cls, text: str) -> Stamp:
        """What `encode` made.

        :raises ValueError: it is something else.
        """
        inode, size, modified, changed = map(int, text.split())
        return cls(inode, size, modified, changed)

    def encode(self) -> str:
        return " ".join(map(str, astuple(self)))

    def fits(self, fd: int) -> bool:
        """Whether the open file is the same still.

        Losing its last name changes a file's attributes, and nothing in it: whoever has it open may go on.

        :raises StoreError: nobody can tell.
        """
        return self.is_of(look_at(fd))

    def is_of(self, found: os.stat_result) -> bool:
        """As `fits`, of what has been looked at."""
        if (found.st_ino, found.st_size, found.st_mtime_ns) != (self.inode, self.size, self.modified):
            return False
        return found.st_ctime_ns == self.changed or found.st_nlink == 0


def look_at(fd: int) -> os.stat_result:
    """What the file system says of an open file.

    :raises StoreError: it says nothing.
    """
    try:
        return os.fstat(fd)
    except OSError as error:
        raise StoreError(f"cannot look at a body: {error}") from error

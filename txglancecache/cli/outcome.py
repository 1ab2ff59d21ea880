"""How a command ends: its exit status, and the errors that lead to one."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses that scripts can count on."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    NOT_ALLOWED = 5
    NOT_READY = 6
    INTERRUPTED = 130


#: What `--help` says about each.
MEANINGS = {
    Exit.OK: "done",
    Exit.FAILED: "the node could not do it, or did not in part; a job failed",
    Exit.USAGE: "wrong usage: arguments, an id that begins more than one image's",
    Exit.NOT_FOUND: "no such image or job",
    Exit.UNREACHABLE: "the node (or Keystone) does not answer",
    Exit.NOT_ALLOWED: "not allowed: no token, wrong token, wrong role",
    Exit.NOT_READY: "the node answers and is not ready (status --check)",
    Exit.INTERRUPTED: "interrupted with Ctrl-C",
}


class CommandError(Exception):
    """A command cannot go on. The text is for a person."""

    exit = Exit.FAILED


class UsageError(CommandError):
    """What was asked for makes no sense."""

    exit = Exit.USAGE


class NotFound(CommandError):
    """There is no such thing."""

    exit = Exit.NOT_FOUND


class Unreachable(CommandError):
    """Nobody answers."""

    exit = Exit.UNREACHABLE


class NotAllowed(CommandError):
    """Whoever asks may not."""

    exit = Exit.NOT_ALLOWED


class Unavailable(CommandError):
    """The node answers that it cannot now."""

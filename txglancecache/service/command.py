"""The command line of ``twistd glancecache``: flags, ``--help``, and one line for what is wrong.

Every flag is made from an option's declaration. Ends with ``Settings``, or, for what is not to serve, with
the process: ``--check`` and ``--version`` are done as soon as they are understood, before ``twistd`` begins
to think of daemons and their PID files.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence

from oslo_config import cfg
from twisted.python import usage

from txglancecache import __version__
from txglancecache.errors import GlanceCacheError
from txglancecache.service.check import check
from txglancecache.service.config import Settings, load
from txglancecache.service.options import GROUP, OPTIONS, SECTIONS, flag

_INTRODUCTION = (
    "Stands in front of Glance, keeps image bodies on local disk and serves them from there; everything else "
    "it passes through. For every download the origin is asked whether that client may have it."
)

_EXAMPLE = """\
Example:
  twistd -n glancecache --origin http://glance:9292 --cache-dir /var/cache/glance --max-size 200GiB
  curl -sH "X-Auth-Token: $TOKEN" http://localhost:9393/v2/images/$ID/file -o image
  curl -s http://127.0.0.1:9394/cache
"""


_CHECKS = {
    "check": "Look at the cache directory instead of serving: whether the index and the files agree, and "
    "whether what is recorded is on disk. Changes nothing. The exit status is 1 if something is damaged, or "
    "if a node is using the directory.",
    "check-digests": "As --check, and hash every whole body. Takes as long as reading all of them.",
}


class Options(usage.Options):
    """What can be said after ``twistd glancecache``. ``settings`` are there when it has been parsed."""

    synopsis = "[options]"
    optFlags = [[name, None, text] for name, text in _CHECKS.items()]
    optParameters = [[flag(name).removeprefix("--"), None, None, opt.help] for name, opt in OPTIONS.items()]

    settings: Settings

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self._files: list[str] = []

    def opt_config_file(self, path: str) -> None:
        """Take settings from this file."""
        self._files.append(path)

    def opt_version(self) -> None:
        """Show the version."""
        print(f"txglancecache {__version__}")
        sys.exit(0)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse, or leave with one line on stderr where twistd would show the whole of its help."""
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]  # so it is in Twisted
            if self["check"] or self["check-digests"]:
                sys.exit(not check(self.settings, digests=self["check-digests"]))
        except (usage.UsageError, GlanceCacheError) as error:
            refuse(error)

    def postOptions(self) -> None:
        given = {name: self[flag(name).removeprefix("--")] for name in OPTIONS}
        self.settings = load(self._files, {name: text for name, text in given.items() if text is not None})

    def getUsage(self, width: int | None = None) -> str:
        """The text of ``--help`` below the synopsis."""
        return "\n".join(_help(width or 100))


def refuse(error: Exception) -> None:
    """Leave, with one line on stderr."""
    message = " ".join(str(error).split())
    raise SystemExit(f"twistd glancecache: {message}") from None


def _help(width: int) -> Iterator[str]:
    yield from textwrap.wrap(_INTRODUCTION, width)
    yield ""
    yield _EXAMPLE
    for section in SECTIONS:
        yield f"{section.title}:"
        for opt in section.options:
            yield from _flag_help(f"{flag(opt.dest)} {opt.metavar}", _with_default(opt), width)
        yield ""
    yield "From files and about itself:"
    files = (
        f"An INI file with these options, as in max_size = 10GiB, in a section [{GROUP.name}]. May be given "
        "more than once, later files before earlier ones; flags come before files."
    )
    yield from _flag_help("--config-file FILE", files, width)
    for name, text in _CHECKS.items():
        yield from _flag_help(f"--{name}", text, width)
    yield from _flag_help("--version", "Show the version.", width)
    yield from _flag_help("--help", "Show this text.", width)


def _flag_help(head: str, text: str, width: int) -> Iterator[str]:
    yield f"  {head}"
    yield from textwrap.wrap(text, width, initial_indent=" " * 8, subsequent_indent=" " * 8)


def _with_default(opt: cfg.Opt) -> str:
    if opt.default is None or opt.default == []:
        return str(opt.help)
    default = {True: "yes", False: "no"}[opt.default] if isinstance(opt.default, bool) else opt.default
    return f"{opt.help} [{default}]"

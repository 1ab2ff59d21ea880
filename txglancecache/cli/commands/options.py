"""Arguments that several commands take."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError

from txglancecache.sizes import parse_size

_ID = "an image's id, or its beginning; - reads ids from stdin"


def ids(parser: ArgumentParser) -> None:
    parser.add_argument("ids", nargs="+", metavar="ID", help=_ID)


def ids_or_all(parser: ArgumentParser, everything: str) -> None:
    parser.add_argument("ids", nargs="*", metavar="ID", help=_ID)
    parser.add_argument("--all", action="store_true", help=everything)


def yes(parser: ArgumentParser) -> None:
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask")


def wait(parser: ArgumentParser) -> None:
    parser.add_argument("--wait", "-w", action="store_true", help="until it is done, with a progress bar")


def size(text: str) -> int:
    """A size, for argparse."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """A number of things, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)

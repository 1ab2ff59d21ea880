"""Room on the disk: pruning, cleaning, quarantine."""

from __future__ import annotations

from argparse import ArgumentParser

from txglancecache.cli.command import Command, Context
from txglancecache.cli.commands import options
from txglancecache.cli.outcome import Exit
from txglancecache.cli.tables import Column
from txglancecache.cli.values import QuarantinedFile
from txglancecache.cli.wording import NONE, count, moment
from txglancecache.sizes import format_size

_QUARANTINE = "/cache/quarantine"
_COLUMNS: list[Column[QuarantinedFile]] = [
    Column("FILE", lambda file: file.name),
    Column("IMAGE", lambda file: file.image_id or NONE, spare=1),
    Column("SIZE", lambda file: format_size(file.size), right=True),
    Column("SINCE", lambda file: moment(file.time)),
]


def _tell(context: Context, freed: dict[str, int]) -> Exit:
    if context.screen.as_json:
        context.screen.document(freed)
    else:
        context.screen.line(f"freed {format_size(freed['bytes'])} in {count(freed['files'], 'file')}")
    return Exit.OK


def _prune(context: Context) -> Exit:
    target = context.arguments.to
    body = {} if target is None else {"target": target}
    return _tell(context, context.node.call("POST", "/cache/prune", body))


def _configure_prune(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--to",
        type=options.size,
        metavar="SIZE",
        help="until the cache is no larger than this, such as 100GiB",
    )


def _clean(context: Context) -> Exit:
    return _tell(context, context.node.call("POST", "/cache/clean"))


def _quarantine(context: Context) -> Exit:
    screen, values = context.screen, context.node.get(_QUARANTINE)["files"]
    if screen.as_json:
        screen.document({"files": values})
    elif values:
        screen.table(_COLUMNS, [QuarantinedFile.of(value) for value in values])
    elif screen.is_terminal:
        screen.remark("nothing is in quarantine")
    return Exit.OK


def _clear(context: Context) -> Exit:
    if not context.arguments.yes:
        files = context.node.get(_QUARANTINE)["files"]
        if files and not context.confirm(f"Remove {count(len(files), 'file')} from quarantine for good?"):
            context.screen.remark("nothing was removed")
            return Exit.FAILED
    return _tell(context, context.node.call("DELETE", _QUARANTINE))


COMMANDS = (
    Command(
        "prune",
        "evict images until the cache is small enough",
        _prune,
        "Evicts the images that are least worth keeping, until the cache is within its limits or within "
        "--to. Pinned images, and those that are being read or fetched, stay.",
        ("prune", "prune --to 100GiB"),
        _configure_prune,
    ),
    Command(
        "clean",
        "remove what is of no use: abandoned parts, stray files",
        _clean,
        "Removes partial images that nobody fetches or reads, and files that belong to no image.",
        ("clean",),
    ),
    Command(
        "quarantine",
        "bodies that were not what they should be",
        _quarantine,
        "Lists the bodies that failed verification. They are kept for you to look at, and are never served.",
        ("quarantine", "quarantine clear --yes"),
        children=(
            Command("list", "the files", _quarantine, examples=("quarantine list",)),
            Command(
                "clear",
                "remove the files",
                _clear,
                examples=("quarantine clear", "quarantine clear --yes"),
                configure=options.yes,
            ),
        ),
    ),
)

"""Images in the cache: listing, showing, purging, pinning."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from itertools import islice

from txglancecache.cli.client import segment
from txglancecache.cli.command import Command, Context, Tally
from txglancecache.cli.commands import options
from txglancecache.cli.listing import pages
from txglancecache.cli.naming import cached, named, one
from txglancecache.cli.outcome import Exit, UsageError
from txglancecache.cli.tables import Column
from txglancecache.cli.values import Image
from txglancecache.cli.wording import NONE, ago, count, moment, percent, rate, strip
from txglancecache.sizes import format_size

_COLOURS = {"complete": "green", "filling": "cyan", "partial": "yellow"}
_STRIP = 60
_FIELDS = ("id", "size", "bytes_on_disk", "hits", "created", "last_access", "readers", "rate")


def path(image_id: str) -> str:
    """Where the API has an image."""
    return f"/cache/images/{segment(image_id)}"


def _state(image: Image) -> str:
    return image.state if image.complete else f"{image.state} {percent(image.held, image.size)}"


def _columns(now: float) -> list[Column[Image]]:
    return [
        Column("ID", lambda image: image.id),
        Column("STATE", _state, colour=lambda image: _COLOURS[image.state]),
        Column("SIZE", lambda image: format_size(image.size), right=True),
        Column("HITS", lambda image: str(image.hits), right=True, spare=1),
        Column("LAST USED", lambda image: ago(image.last_access, now), spare=2),
        Column("READERS", lambda image: str(image.readers or NONE), right=True, spare=3),
        Column("PINNED", lambda image: "pinned" if image.pinned else NONE, spare=1),
    ]


def _list(context: Context) -> Exit:
    arguments, screen = context.arguments, context.screen
    pinned = {True: "true", False: "false", None: None}[arguments.pinned]
    listed = pages(
        context.node, "images", q=arguments.query, state=arguments.state, pinned=pinned, sort=arguments.sort
    )
    found = list(islice(listed, arguments.limit))
    if screen.as_json:
        screen.document({"images": found})
        return Exit.OK
    images = [Image.of(value) for value in found]
    if arguments.quiet:
        screen.lines(image.id for image in images)
    elif images:
        screen.table(_columns(context.time.now()), images)
    elif screen.is_terminal:
        screen.remark("no such images" if arguments.query or arguments.state else "nothing is cached yet")
    return Exit.OK


def _order(text: str) -> str:
    """What to sort by, for argparse."""
    if text.removesuffix(":asc").removesuffix(":desc") not in _FIELDS:
        raise ArgumentTypeError(f"{text!r} is none of {', '.join(_FIELDS)}, with :desc or without")
    return text


def _configure_list(parser: ArgumentParser) -> None:
    parser.add_argument("query", nargs="?", metavar="TEXT", help="only images with this in their ids")
    parser.add_argument("--state", choices=("complete", "partial", "filling"), help="only these")
    parser.add_argument("--pinned", action="store_true", default=None, help="only pinned ones")
    parser.add_argument("--unpinned", action="store_false", dest="pinned", help="only those that are not")
    parser.add_argument("--sort", type=_order, metavar="FIELD[:desc]", help=f"by {', '.join(_FIELDS)}")
    parser.add_argument("--limit", type=options.positive, metavar="N", help="no more than so many")
    parser.add_argument("--quiet", "-q", action="store_true", help="ids only, one to a line")


def _show(context: Context) -> Exit:
    screen = context.screen
    shown = [context.node.get(path(one(context, word))) for word in context.arguments.ids]
    if screen.as_json:
        screen.document(shown[0] if len(shown) == 1 else {"images": shown})
        return Exit.OK
    for index, value in enumerate(shown):
        if index:
            screen.line()
        screen.pairs(_details(context, Image.of(value)))
    return Exit.OK


def _details(context: Context, image: Image) -> list[tuple[str, str]]:
    screen, now = context.screen, context.time.now()
    room = min((screen.width or 80) - 12, _STRIP)
    values = [
        ("id", image.id),
        ("state", screen.paint(_state(image), _COLOURS[image.state])),
        ("size", f"{format_size(image.size)} ({image.size} bytes)"),
    ]
    if not image.complete:
        values += [
            ("on disk", f"{format_size(image.held)} in {count(len(image.extents), 'extent')}"),
            ("", strip(image.extents, image.size, max(room, 10), unicode=screen.unicode)),
        ]
    if image.filling:
        values.append(("origin", f"{rate(image.rate)} for {count(image.sources, 'client')}"))
    values += [
        ("digest", image.digest or NONE),
        ("created", _when(image.created, now)),
        ("last used", _when(image.last_access, now)),
        ("hits", str(image.hits)),
        ("pinned", "yes" if image.pinned else "no"),
        ("readers", str(image.readers)),
    ]
    for reader in image.downloads:
        at = percent(reader.position - reader.start, reader.stop - reader.start)
        part = "" if (reader.start, reader.stop) == (0, image.size) else f" of {reader.start}-{reader.stop}"
        values.append(("", f"at {at}{part}"))
    return values


def _when(when: float | None, now: float) -> str:
    return "never" if when is None else f"{moment(when)} ({ago(when, now)})"


def _on_each(method: str, suffix: str, past: str) -> Callable[[Context], Exit]:
    """A command that does one thing with each of its images."""

    def run(context: Context) -> Exit:
        tally = Tally(context.screen)
        names = named(context, tally, cached, context.arguments.ids)
        tally.each(names, lambda name: context.node.call(method, path(name) + suffix), past)
        if context.screen.as_json:
            context.screen.document({past: tally.done, "failed": tally.failures()})
        return tally.exit

    return run


def _purge(context: Context) -> Exit:
    if not context.arguments.all:
        if not context.arguments.ids:
            raise UsageError("which images? Give their ids, or --all")
        return _on_each("DELETE", "", "purged")(context)
    if context.arguments.ids:
        raise UsageError("--all and ids exclude each other")
    state = context.node.get("/cache")
    if not context.confirm(f"Purge all of {count(state['entries'], 'image')} from {state['node']}?"):
        context.screen.remark("nothing was purged")
        return Exit.FAILED
    purged = context.node.call("DELETE", "/cache/images")
    if context.screen.as_json:
        context.screen.document(purged)
    else:
        context.screen.line(f"purged {count(purged['purged'], 'image')}")
    return Exit.OK


def _configure_purge(parser: ArgumentParser) -> None:
    options.ids_or_all(parser, "every image of this node")
    options.yes(parser)


COMMANDS = (
    Command(
        "list",
        "images in the cache",
        _list,
        "Lists the images that are in the cache, whole or in part.",
        (
            "list",
            "list --state filling",
            "list --sort last_access:desc --limit 10",
            "list -q --state partial | txglancecache purge -",
            "list --format json | jq -r '.images[] | select(.hits == 0) | .id'",
        ),
        _configure_list,
    ),
    Command(
        "show",
        "one image: which parts are there, who reads it, how fast it comes",
        _show,
        "Shows all that the node knows about an image.",
        ("show 3f2a", "show 3f2a9c1e-5b1c-4e7f-9a51-0c8d6f3b2a10 --format json"),
        lambda parser: parser.add_argument(
            "ids", nargs="+", metavar="ID", help="an image's id, or its beginning"
        ),
    ),
    Command(
        "purge",
        "drop images from the cache",
        _purge,
        "Drops images from this node's cache. Downloads that go on come to their end; the next one fetches "
        "the image again. Glance's image is not touched.",
        ("purge 3f2a 77b0", "purge --all", "purge --all --yes"),
        _configure_purge,
    ),
    Command(
        "pin",
        "keep images whatever else wants the room",
        _on_each("PUT", "/pin", "pinned"),
        "A pinned image is never evicted. Purging it, and deleting it from Glance, still works.",
        ("pin 3f2a", "list -q --state complete | txglancecache pin -"),
        options.ids,
    ),
    Command(
        "unpin",
        "let them be evicted again",
        _on_each("DELETE", "/pin", "unpinned"),
        "The opposite of pin.",
        ("unpin 3f2a", "list -q --pinned | txglancecache unpin -"),
        options.ids,
    ),
)

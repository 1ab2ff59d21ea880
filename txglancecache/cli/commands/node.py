"""The node itself: its state, and what happens on it."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from itertools import islice

from txglancecache.cli.command import Command, Context
from txglancecache.cli.commands import options
from txglancecache.cli.outcome import CommandError, Exit, Unavailable, Unreachable
from txglancecache.cli.tables import Column
from txglancecache.cli.values import Event, Node, Readiness
from txglancecache.cli.wording import NONE, bar, clean, count, duration, moment, percent
from txglancecache.sizes import format_size

_BAR = 30
_PAUSES = (0.5, 1.0, 2.0, 5.0)
_COLOURS = {
    "verified": "green",
    "fill-finished": "green",
    "job-done": "green",
    "fill-started": "cyan",
    "job-started": "cyan",
    "verification-failed": "red",
    "disk-failed": "red",
    "job-failed": "red",
    "missed": "red",
}
_KIND_WIDTH = max(map(len, _COLOURS))
_ID_WIDTH = 36


def _status(context: Context) -> Exit:
    screen, answer = context.screen, context.node.get("/cache")
    ready = context.node.call("GET", "/cache/ready", accept=(503,))
    if screen.as_json:
        screen.document({**answer, "ready": ready})
    else:
        screen.pairs(_summary(context, Node.of(answer), Readiness.of(ready)))
    return Exit.NOT_READY if context.arguments.check and not ready["ready"] else Exit.OK


def _summary(context: Context, node: Node, readiness: Readiness) -> list[tuple[str, str]]:
    screen, sizes, counters = context.screen, node.sizes, node.counters
    used, most = sizes["bytes_on_disk"] + sizes.get("reserved", 0), sizes["max_size"]
    served = counters.get("bytes_served", 0)
    fetched = counters.get("bytes_from_origin", 0) + counters.get("bytes_passed_through", 0)
    return [
        ("node", f"{node.name}, txglancecache {node.version}, up {duration(node.uptime)}"),
        ("origin", node.origin),
        *([("access", _access(node.auth))] if node.auth else []),
        *_checks(context, readiness),
        ("cache", f"{format_size(used)} of {format_size(most)} in {count(node.entries, 'image')}"),
        ("", f"{bar(used / most if most else 0, _BAR, unicode=screen.unicode)} {percent(used, most)}"),
        (
            "disk",
            f"{format_size(sizes['disk_free'])} free, {format_size(sizes['min_free'])} of it to stay so",
        ),
        *([("quarantine", format_size(sizes["quarantined"]))] if sizes.get("quarantined") else []),
        ("downloads", _downloads(node)),
        ("sent", f"{format_size(served)}, {format_size(fetched)} fetched from the origin"),
        ("queue", f"{node.running} running, {node.queued} queued"),
    ]


def _access(auth: str) -> str:
    return {
        "none": "everybody who reaches it",
        "keystone": "Keystone",
        "certificate": "client certificate",
    }.get(auth, auth)


def _checks(context: Context, readiness: Readiness) -> Iterator[tuple[str, str]]:
    if readiness.ready:
        yield "ready", context.screen.paint("yes", "green")
        return
    yield "ready", context.screen.paint("no", "red")
    for check in readiness.checks:
        if not check.ok:
            yield "", clean(f"{check.name}: {check.detail or 'failed'}")


def _downloads(node: Node) -> str:
    hits, misses = node.counters.get("hits", 0), node.counters.get("misses", 0)
    collapsed = node.counters.get("collapsed", 0)
    every = hits + misses + collapsed
    if not every:
        return "none yet"
    saved = percent(hits + collapsed, every)
    return f"{every}: {hits} hits, {collapsed} shared a fetch, {misses} misses ({saved} saved)"


def _configure_status(parser: ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="end with 6 when the node is not ready")


def _event_columns() -> list[Column[Event]]:
    return [
        Column("TIME", lambda event: moment(event.time)),
        Column("EVENT", lambda event: event.kind, colour=lambda event: _COLOURS.get(event.kind)),
        Column("IMAGE", lambda event: event.image_id or NONE),
        Column("DETAIL", lambda event: event.detail),
    ]


def _events(context: Context) -> Exit:
    screen, values = context.screen, context.node.get("/cache/events")["events"]
    if screen.as_json:
        screen.document({"events": values})
    elif values:
        screen.table(_event_columns(), [Event.of(value) for value in values])
    elif screen.is_terminal:
        screen.remark("nothing has happened yet")
    return Exit.OK


def _watch(context: Context) -> Exit:
    screen, arguments = context.screen, context.arguments
    wanted = (data for data in _stream(context) if arguments.kind in (None, data["kind"]))
    for data in islice(wanted, arguments.limit):
        screen.line(json.dumps(data) if screen.as_json else _event_line(context, Event.of(data)))
        screen.flush()
    return Exit.OK


def _stream(context: Context) -> Iterator[dict[str, object]]:
    """Events for ever; a connection that breaks is made again, from the last event on."""
    last: str | None = context.arguments.since
    connected, failures = False, 0
    while True:
        try:
            for message in context.node.stream("/cache/events", last, context.screen.expect_reader):
                connected, failures = True, 0
                last = message.id or last
                if message.data is not None:
                    yield json.loads(message.data)
            connected = True
            reason = "the node has ended the stream"
        except ValueError:
            raise CommandError("an event that is not JSON") from None
        except (Unreachable, Unavailable) as error:
            # The first time it says that there is no such node; later it may be that it is restarted.
            if not connected:
                raise
            reason = str(error)
        if not failures:
            context.screen.remark(f"{reason}; trying again")
        context.time.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
        failures += 1


def _event_line(context: Context, event: Event) -> str:
    screen, colour = context.screen, _COLOURS.get(event.kind)
    kind = clean(event.kind).ljust(_KIND_WIDTH)
    painted = kind if colour is None else screen.paint(kind, colour)
    image_id = clean(event.image_id or NONE).ljust(_ID_WIDTH)
    return f"{moment(event.time)}  {painted}  {image_id}  {clean(event.detail)}".rstrip()


def _configure_watch(parser: ArgumentParser) -> None:
    parser.add_argument("--kind", metavar="KIND", help="only these, such as fill-finished")
    parser.add_argument(
        "--since",
        metavar="ID",
        help="also what came after the event with this id; all there is, if the node does not know it",
    )
    parser.add_argument("--limit", type=options.positive, metavar="N", help="end after so many")


COMMANDS = (
    Command(
        "status",
        "the node at a glance: room, hits, queue, readiness",
        _status,
        "Shows how the node is. Where it is not ready it says why: Glance is away, a disk cannot be written, "
        "there is no room. No restart mends any of these.",
        (
            "status",
            "status --check || mail-the-operator",
            "status --format json | jq .counters.hits",
        ),
        _configure_status,
    ),
    Command(
        "events",
        "what happened lately",
        _events,
        "Lists the latest events.",
        ("events", "events --format json | jq -r '.events[-1].id'"),
    ),
    Command(
        "watch",
        "events as they happen",
        _watch,
        "Shows events as they happen, until Ctrl-C. With --format json each is a line. Where the node goes "
        "away it is asked again until it is back, and no event in between is lost that the node still has.",
        (
            "watch",
            "watch --kind verification-failed --limit 1 && mail-the-operator",
            "watch --format json | jq .",
        ),
        _configure_watch,
    ),
)

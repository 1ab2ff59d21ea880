"""The arguments: the commands, what they share, and a help that shows how."""

from __future__ import annotations

import textwrap
from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter, _SubParsersAction
from collections.abc import Mapping, Sequence

from txglancecache import __version__
from txglancecache.cli.address import DEFAULT_URL
from txglancecache.cli.command import Command
from txglancecache.cli.commands import images, jobs, node, upkeep
from txglancecache.cli.credentials import OPTIONS
from txglancecache.cli.outcome import MEANINGS
from txglancecache.cli.screen import PROGRAM

_BY_NAME = {
    command.name: command for command in (*node.COMMANDS, *images.COMMANDS, *jobs.COMMANDS, *upkeep.COMMANDS)
}
#: In the order that help lists them in.
COMMANDS = tuple(
    _BY_NAME[name]
    for name in (
        *("status", "list", "show", "prefetch", "queue"),
        *("purge", "pin", "unpin", "verify"),
        *("prune", "clean", "quarantine"),
        *("events", "watch"),
    )
)

_INTRODUCTION = """\
Looks at one txglancecache node and manages what it caches, through the node's management site.
"""
_WHO = """\
Needed where the node asks for a Keystone token, and for prefetch where it has no
credentials of its own; prefetch uses them wherever they are given. As for openstack:
from these, OS_* variables and clouds.yaml."""
_EXAMPLES = (
    "status",
    "list --sort size:desc",
    "prefetch 3f2a9c1e-5b1c-4e7f-9a51-0c8d6f3b2a10 --wait",
    "--url https://edge-7:9394 --os-cloud ops purge 3f2a",
)
_MORE = "txglancecache COMMAND --help shows a command's options and examples."


def parser(environ: Mapping[str, str]) -> ArgumentParser:
    """The parser of the command line."""
    top = _Parser(
        prog=PROGRAM,
        usage="%(prog)s [OPTION…] COMMAND …",
        description=_INTRODUCTION,
        epilog="\n\n".join((_shown(_EXAMPLES), _environment(), _statuses(), _MORE)),
    )
    top.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = top.add_subparsers(prog=PROGRAM, metavar="COMMAND", title="commands", required=True)
    _common(top, environ)
    _add(commands, COMMANDS)
    return top


def _add(parsers: _SubParsersAction[_Parser], commands: Sequence[Command]) -> None:
    for command in commands:
        child = parsers.add_parser(
            command.name,
            help=command.summary,
            description=textwrap.fill(command.description or command.summary.capitalize() + ".", 79),
            epilog=_shown(command.examples) + "\n\nWhat all commands take: txglancecache --help",
        )
        child.set_defaults(run=command.run)
        command.configure(child)
        _common(child, None)
        if command.children:
            below = child.add_subparsers(prog=child.prog, metavar="COMMAND", title="commands")
            _add(below, command.children)


def _common(parser: ArgumentParser, environ: Mapping[str, str] | None) -> None:
    """What goes before a command and after it. After it there are no defaults, which would win over what was
    said before."""

    def add(group: ArgumentParser | object, flag: str, default: object, text: str, **how: object) -> None:
        assert hasattr(group, "add_argument")
        told = text if environ is not None else SUPPRESS
        group.add_argument(flag, default=default if environ is not None else SUPPRESS, help=told, **how)

    given = environ or {}

    def variable(name: str) -> str | None:
        return given.get(f"TXGLANCECACHE_{name}") or None

    add(parser, "--format", "table", "tables for people, json for scripts", choices=("table", "json"))
    where = parser.add_argument_group("the node")
    url = f"its management site, also as unix:/path/to/socket [{DEFAULT_URL}]"
    add(where, "--url", variable("URL") or DEFAULT_URL, url, metavar="URL")
    add(where, "--timeout", 30.0, "how long an answer may take [30]", metavar="SECONDS", type=_seconds)
    add(
        where, "--cacert", variable("CACERT"), "certificates that an https node is trusted by", metavar="FILE"
    )
    add(where, "--cert", variable("CERT"), "certificate that the node knows you by", metavar="FILE")
    add(where, "--key", variable("KEY"), "the certificate's key, if it is in another file", metavar="FILE")
    add(where, "--insecure", False, "trust whatever node answers", action="store_true")
    who = parser.add_argument_group(
        "who you are",
        _WHO if environ is not None else None,
    )
    for name, text in OPTIONS.items():
        add(who, f"--{name}", None, text, metavar=name.rpartition("-")[2].upper())


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 1e6:
        raise ValueError
    return seconds


def _shown(examples: Sequence[str]) -> str:
    return "\n".join(["examples:", *(f"  {PROGRAM} {example}" for example in examples)])


def _environment() -> str:
    return textwrap.dedent("""\
        environment:
          TXGLANCECACHE_URL     the default of --url; likewise _CACERT, _CERT and _KEY
          OS_*                  who you are, as for openstack
          NO_COLOR              no colours (there are none either where no terminal is)""")


def _statuses() -> str:
    rows = (f"  {int(status):3}  {meaning}" for status, meaning in MEANINGS.items())
    return "\n".join(["exit status:", *rows])


class _Parser(ArgumentParser):
    """A parser whose help keeps its lines and whose options are written out in full."""

    def __init__(self, **how: object) -> None:
        how.setdefault("formatter_class", RawDescriptionHelpFormatter)
        how.setdefault("allow_abbrev", False)
        super().__init__(**how)  # type: ignore[arg-type]  # handed on as they came

"""The entry point: puts a command together with a node and a terminal, and tells how it ended."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

from txglancecache.cli.address import Address, Certificates
from txglancecache.cli.arguments import parser
from txglancecache.cli.client import NodeClient
from txglancecache.cli.command import Context
from txglancecache.cli.credentials import Credentials
from txglancecache.cli.outcome import CommandError, Exit
from txglancecache.cli.screen import Screen
from txglancecache.cli.waiting import Time


def main() -> int:
    """What the console script calls; its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    code = run(sys.argv[1:], os.environ, sys.stdin, sys.stdout, sys.stderr)
    return int(code)


def run(
    words: Sequence[str],
    environ: Mapping[str, str],
    stdin: TextIO,
    stdout: TextIO,
    stderr: TextIO,
    clock: Time | None = None,
) -> Exit:
    """Run one command line.

    :raises SystemExit: for ``--help``, and where the arguments are wrong.
    """
    arguments = parser(environ).parse_args(words)
    screen = Screen(environ, stdin, stdout, stderr, as_json=arguments.format == "json")
    try:
        certificates = Certificates(arguments.cacert, arguments.cert, arguments.key, arguments.insecure)
        node = NodeClient(
            Address.parse(arguments.url), Credentials(arguments, environ), certificates, arguments.timeout
        )
        context = Context(node, screen, arguments, clock or Time(time.time, time.sleep))
        code: Exit = arguments.run(context)
        screen.flush()
    except CommandError as error:
        screen.remark(str(error))
        return error.exit
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever reads has read enough. What is still buffered must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        return Exit.FAILED
    return code

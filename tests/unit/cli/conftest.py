"""A node, and the command line that looks at it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import define, field

from tests.unit.cli.node import FakeNode, Hours, running
from txglancecache.cli.main import run
from txglancecache.cli.waiting import Time


class Tty(io.StringIO):
    """A stream that takes itself for a terminal, as wide as COLUMNS says."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Pipe(io.StringIO):
    encoding = "utf-8"


@define
class Done:
    """What came of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@define(eq=False)
class Shell:
    """Runs commands against a node."""

    node: FakeNode
    environ: dict[str, str] = field(factory=lambda: {"TERM": "xterm", "COLUMNS": "160", "NO_COLOR": "1"})
    time: Hours = field(factory=Hours)
    streams: tuple[Any, Any] = ()  # type: ignore[assignment]  # set by each command

    def run(self, *words: str, stdin: str | None = None, tty: bool = False) -> Done:
        """Run it; `tty`: in a terminal."""
        kind: Callable[[], io.StringIO] = Tty if tty else Pipe
        out, err = kind(), kind()
        self.streams = out, err
        source = (Tty if tty else Pipe)(stdin or "")
        environ = {"TXGLANCECACHE_URL": self.node.url, **self.environ}
        clock = Time(lambda: self.time.now, self.time.sleep)
        try:
            code = int(run(words, environ, source, out, err, clock))
        except SystemExit as error:
            code = int(error.code or 0)
        return Done(code, out.getvalue(), err.getvalue())

    def ok(self, *words: str, **how: Any) -> str:
        """The output of a command that has to work."""
        done = self.run(*words, **how)
        assert (done.code, done.err) == (0, "")
        return done.out


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with running(FakeNode()) as node:
        yield node


@pytest.fixture
def shell(node: FakeNode) -> Shell:
    return Shell(node)


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on whose shell it was started from."""
    import os

    for name in [name for name in os.environ if name.startswith(("OS_", "TXGLANCECACHE_"))]:
        monkeypatch.delenv(name)

"""What a command is, and what it gets to work with."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence

from attrs import define, field, frozen

from txglancecache.cli.client import NodeClient
from txglancecache.cli.outcome import CommandError, Exit, NotAllowed, Unreachable, UsageError
from txglancecache.cli.screen import Screen
from txglancecache.cli.waiting import Time


@define(eq=False)
class Context:
    """The node, the terminal and what was asked for."""

    node: NodeClient
    screen: Screen
    arguments: Namespace
    time: Time

    def confirm(self, question: str) -> bool:
        """Whether to go on with what cannot be undone.

        :raises UsageError: where there is nobody to ask.
        """
        if self.arguments.yes:
            return True
        answer = self.screen.ask(question)
        if answer is None:
            raise UsageError("nobody is there to confirm this: give --yes")
        return answer


def _no_arguments(parser: ArgumentParser) -> None:
    """A command that takes none."""


@frozen
class Command:
    """One command: how it is called, what its help says, and what it does."""

    name: str
    summary: str
    run: Callable[[Context], Exit]
    description: str = ""
    examples: Sequence[str] = ()
    configure: Callable[[ArgumentParser], object] = _no_arguments
    children: Sequence[Command] = ()
    """Commands below this one, which itself is run where none of them is named."""


@define(eq=False)
class Tally:
    """What became of each of several things that were asked for."""

    _screen: Screen
    done: list[str] = field(factory=list)
    failed: list[tuple[str, CommandError]] = field(factory=list)

    def succeeded(self, name: str, text: str) -> None:
        self.done.append(name)
        if not self._screen.as_json:
            self._screen.line(text)

    def went_wrong(self, name: str, error: CommandError) -> None:
        self.failed.append((name, error))
        self._screen.remark(f"{name}: {error}")

    def each(self, names: Iterable[str], act: Callable[[str], object], past: str) -> None:
        """Do it to each of them; one that fails does not keep the others from it."""
        for name in names:
            try:
                act(name)
            except (Unreachable, NotAllowed):
                raise  # it would be the same with the others
            except CommandError as error:
                self.went_wrong(name, error)
            else:
                self.succeeded(name, f"{past} {name}")

    def failures(self) -> list[dict[str, str]]:
        """The failures as JSON."""
        return [{"id": name, "error": str(error)} for name, error in self.failed]

    @property
    def exit(self) -> Exit:
        """The exit status: of the first failure."""
        return self.failed[0][1].exit if self.failed else Exit.OK

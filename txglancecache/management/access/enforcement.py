"""Whether the policy lets a caller do something.

The rules are read, checked and put together as a whole, at the start and when the operator's file has
changed since; a request is then decided in memory. A file that is wrong does not start, and does not replace
one that was right.
"""

from __future__ import annotations

import logging
import os
from importlib.metadata import entry_points
from pathlib import Path

from attrs import define, field
from oslo_config import cfg
from oslo_policy.policy import Enforcer, InvalidDefinitionError, Rules, parse_file_contents
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from txglancecache.errors import ConfigurationError
from txglancecache.management.access.authenticate import Caller
from txglancecache.management.access.policy import RULES
from txglancecache.waiting import InThread

_log = Logger()

#: Seconds between two looks at the file.
_INTERVAL = 10.0
# What oslo.policy logs about a wrong file is said here too, in one line; without any handler it would go to
# stderr with a traceback.
logging.getLogger("oslo_policy").addHandler(logging.NullHandler())

_WORDS = frozenset({"and", "or", "not", "@", "!"})


@define(eq=False)
class PolicyFile:
    """The built-in rules, and an operator's file that overrides some of them.

    :raises ConfigurationError: the file cannot be used.
    """

    _path: Path | None
    _clock: IReactorTime
    _in_thread: InThread
    _enforcer: Enforcer = field(init=False)
    _seen: tuple[int, ...] | None = field(default=None, init=False)
    _watch: LoopingCall | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self._path is None:
            self._enforcer = compile_rules("")
        else:
            self._seen = _stamp(self._path)
            self._enforcer = _load(self._path)

    def allows(self, rule: str, caller: Caller) -> bool:
        return bool(self._enforcer.enforce(rule, {}, caller.credentials()))

    def start(self) -> None:
        """Look at the file from time to time."""
        if self._path is not None:
            self._watch = LoopingCall(self.refresh)
            self._watch.clock = self._clock
            self._watch.start(_INTERVAL, now=False).addErrback(
                lambda failure: _log.failure("The policy's file is watched no more", failure)
            )

    def stop(self) -> None:
        """Look no more."""
        if self._watch is not None and self._watch.running:
            self._watch.stop()

    async def refresh(self) -> None:
        """Take over what the file says by now; keep the rules that there are if it is no good."""
        assert self._path is not None
        stamp = await self._in_thread(_stamp, self._path)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._enforcer = await self._in_thread(_load, self._path)
        except ConfigurationError as error:
            _log.error("The policy stays as it was: {error}", error=str(error))
        else:
            _log.info("The policy is what {path} says now", path=str(self._path))


def compile_rules(text: str) -> Enforcer:
    """The built-in rules with those of a policy file in place of some of them.

    :raises ValueError: the text is no policy, or one that could not be enforced.
    """
    overrides = parse_file_contents(text)
    if not isinstance(overrides, dict):
        raise ValueError("it is no mapping of rules")
    external = frozenset(point.name for point in entry_points(group="oslo.policy.rule_checks"))
    for name, check in overrides.items():
        _refuse_nonsense(name, check, external)
    rules = Rules.from_dict({str(name): check for name, check in overrides.items()})
    for default in RULES:
        rules.setdefault(default.name, default.check)
    conf = cfg.ConfigOpts()
    conf(args=[], default_config_files=[], default_config_dirs=[])
    # It is never to look for files itself: this runs on the reactor.
    enforcer = Enforcer(conf, rules=rules, use_conf=False)
    enforcer.register_defaults(RULES)
    try:
        enforcer.check_rules(raise_on_violation=True)
    except InvalidDefinitionError as error:
        raise ValueError(f"a rule refers to one that is not there, or to itself: {error}") from None
    for name, check in overrides.items():
        _try(enforcer, name, check)
    return enforcer


def _refuse_nonsense(name: object, check: object, external: frozenset[str]) -> None:
    """What oslo.policy would take for a rule that nobody satisfies, and what would make the reactor wait."""
    if not isinstance(check, str):
        raise ValueError(f"rule {name} is not text")
    for word in _words(check):
        kind, colon, _ = word.partition(":")
        if colon and kind in external:
            raise ValueError(f"rule {name} would ask another server: {word}")
        if not colon and word.lower() not in _WORDS:
            raise ValueError(f"rule {name} has {word} in it, which is no check")
    if check.strip() != "!" and str(Rules.from_dict({"it": check})["it"]) == "!":
        raise ValueError(f"rule {name} makes no sense: {check}")


def _try(enforcer: Enforcer, name: object, check: str) -> None:
    """Each part for itself: oslo.policy looks at some of what they say only when it enforces them."""
    for word in _words(check):
        try:
            enforcer.enforce(Rules.from_dict({"it": word})["it"], {}, {"roles": ["nobody"]})
        except Exception:
            raise ValueError(f"rule {name} has {word} in it, which cannot be checked") from None


def _words(check: str) -> list[str]:
    return check.replace("(", " ").replace(")", " ").split()


def _load(path: Path) -> Enforcer:
    try:
        return compile_rules(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigurationError(f"cannot use {path}: {' '.join(str(error).split())}") from None


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes when the file does."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns

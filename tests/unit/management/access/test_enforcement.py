"""What the policy allows, and which policies are refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from txglancecache.errors import ConfigurationError
from txglancecache.management.access.allowing import AllowAll
from txglancecache.management.access.authenticate import Anonymous, Certificate, KeystoneUser
from txglancecache.management.access.enforcement import PolicyFile, compile_rules
from txglancecache.management.access.policy import RULES


def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
    return maybeDeferred(function, *args, **kwargs)


def user(*roles: str, **attributes: object) -> KeystoneUser:
    return KeystoneUser(user="alice", project="demo", roles=roles, expires=0.0, attributes=attributes)


def policy(path: Path | None = None, clock: Clock | None = None) -> PolicyFile:
    return PolicyFile(path, clock or Clock(), in_thread)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    return path


def refused(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        policy(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_defaults(rule: str) -> None:
    """Without a file everything is for admins of a project, and for nobody else."""
    built_in = policy()
    assert built_in.allows(rule, user("member", "Admin"))
    assert not built_in.allows(rule, user("member", "reader"))
    assert not built_in.allows(rule, user())
    assert not built_in.allows(rule, user("admin", system_scope="all"))
    assert not built_in.allows(rule, user("admin", domain_id="default"))
    assert not built_in.allows(rule, Anonymous())
    assert built_in.allows(rule, Certificate(subject="CN=a", common_name="a", roles=("admin",)))
    assert not built_in.allows(rule, Certificate(subject="CN=a", common_name="a", roles=()))


def test_unknown_rule() -> None:
    """A rule that is not there lets nobody pass."""
    assert not policy().allows("cache_nonsense", user("admin"))


def test_override(tmp_path: Path) -> None:
    """A file replaces the rules that it names, also for those that refer to them; the others stay."""
    rules = '"operator": "role:operator or user_id:42"\n"cache_image": "rule:operator"\ncache_clean: "!"\n'
    own = policy(written(tmp_path, rules))
    assert own.allows("cache_image", user("operator"))
    assert own.allows("cache_pin", user("operator"))
    assert own.allows("cache_pin", user(user_id="42"))
    assert not own.allows("cache_image", user("admin"))
    assert not own.allows("cache_quarantine", user("admin"))
    assert own.allows("cache_delete", user("admin"))


def test_certificates(tmp_path: Path) -> None:
    """A rule may name the holder of a certificate."""
    own = policy(written(tmp_path, '"cache_metrics": "role:admin or common_name:prometheus"\n'))
    prometheus = Certificate(subject="CN=prometheus,O=Example", common_name="prometheus", roles=())
    assert own.allows("cache_metrics", prometheus)
    assert not own.allows("cache_list", prometheus)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", '"cache_list": ""\n', '{"cache_list": "@"}\n'])
def test_hardly_any_rules(tmp_path: Path, text: str) -> None:
    """A file may be empty, or in JSON; an empty rule is for everybody whose name is known."""
    own = policy(written(tmp_path, text))
    assert own.allows("cache_image", user("admin"))
    assert own.allows("cache_list", user()) is ("cache_list" in text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"cache_list: role:admin\n', "cannot use"),
        ("- cache_list\n", "it is no mapping of rules"),
        ("just text\n", "it is no mapping of rules"),
        ('"cache_list": 1\n', "rule cache_list is not text"),
        ('"cache_list": ["role:admin"]\n', "rule cache_list is not text"),
        ('"cache_list": "admin"\n', "rule cache_list has admin in it, which is no check"),
        ('"cache_list": "role:admin or member"\n', "rule cache_list has member in it, which is no check"),
        ('"cache_list": "role:admin or"\n', "rule cache_list makes no sense: role:admin or"),
        ('"cache_list": "(role:admin"\n', "rule cache_list makes no sense: (role:admin"),
        ('"cache_list": "rule:nobody"\n', "cache_list"),
        ('"cache_list": "role:admin or 0a:b"\n', "rule cache_list has 0a:b in it, which cannot be checked"),
        ('"cache_list": "role:admin or role:50%"\n', "role:50% in it, which cannot be checked"),
        ('"a": "rule:b"\n"b": "rule:a"\n', "or to itself"),
        ('"cache_list": "http://policy.example/"\n', "would ask another server: http://policy.example/"),
        ('"cache_list": "not (https://policy.example/)"\n', "would ask another server"),
    ],
)
def test_wrong(tmp_path: Path, text: str, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A policy that means nothing, or that would have to be waited for, is refused in one line."""
    assert said in refused(written(tmp_path, text))
    assert capfd.readouterr() == ("", "")


def test_unreadable(tmp_path: Path) -> None:
    """A file that is not there, or no text, is refused."""
    assert refused(tmp_path / "absent").endswith("No such file or directory")
    path = tmp_path / "binary"
    path.write_bytes(b"\xff\xfe")
    refused(path)


def test_reload(tmp_path: Path) -> None:
    """What the file says counts soon after it has changed."""
    clock = Clock()
    path = written(tmp_path, '"cache_list": "role:reader"\n')
    own = policy(path, clock)
    own.start()
    assert own.allows("cache_list", user("reader"))
    path.write_text('"cache_list": "role:auditor"\n')
    assert own.allows("cache_list", user("reader"))
    clock.advance(10)
    assert not own.allows("cache_list", user("reader"))
    assert own.allows("cache_list", user("auditor"))
    own.stop()
    assert not clock.getDelayedCalls()
    own.stop()


def test_reload_of_what_is_wrong(tmp_path: Path) -> None:
    """A file that is no good, or gone, changes nothing, and is complained about once."""
    clock = Clock()
    path = written(tmp_path, '"cache_list": "role:reader"\n')
    own = policy(path, clock)
    own.start()
    for change in (lambda: path.write_text("cache_list: (("), lambda: os.unlink(path)):
        with capturedLogs() as events:
            change()
            clock.pump([10, 10, 10])
        assert len(events) == 1
        assert own.allows("cache_list", user("reader"))
    path.write_text('"cache_list": "!"\n')
    clock.advance(10)
    assert not own.allows("cache_list", user("reader"))


def test_no_file() -> None:
    """Without a file there is nothing to watch."""
    clock = Clock()
    built_in = policy(None, clock)
    built_in.start()
    assert not clock.getDelayedCalls()
    built_in.stop()


def test_allow_all() -> None:
    """Where nobody is asked who they are, everybody may."""
    assert AllowAll().allows("cache_delete", Anonymous())


@given(st.dictionaries(st.sampled_from(["cache_list", "x"]), st.text()))
def test_any_text(rules: dict[str, str]) -> None:
    """Whatever is written into a rule, it is refused, or decides."""
    try:
        enforcer = compile_rules("\n".join(f"{name}: {text!r}" for name, text in rules.items()))
    except ValueError:
        return
    for roles in (["admin"], []):
        assert enforcer.enforce("cache_list", {}, {"roles": roles}) in (True, False)

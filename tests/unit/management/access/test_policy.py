"""The built-in rules, as operators see them."""

from __future__ import annotations

import re
from pathlib import Path

from txglancecache.management.access.policy import RULES, list_rules

SAMPLE = Path(__file__).parents[4] / "etc" / "txglancecache.policy.yaml.sample"


def test_sample() -> None:
    """The sample has every rule, its default and its operations. If this fails, run ``make sample``."""
    text = SAMPLE.read_text(encoding="utf-8")
    assert re.findall(r'^#"(\w+)": "(.+)"$', text, re.MULTILINE) == [
        (rule.name, rule.check_str) for rule in RULES
    ]
    assert re.findall(r"^# ([A-Z]+)  (/\S+)$", text, re.MULTILINE) == [
        (operation["method"], operation["path"]) for rule in RULES for operation in rule.operations
    ]


def test_glance() -> None:
    """What Glance has rules for goes by its names and defaults."""
    defaults = {rule.name: rule.check_str for rule in list_rules()}
    glance = (
        "cache_list",
        "cache_image",
        "cache_delete",
        "cache_clean",
        "cache_prune",
        "list_cached_nodes",
        "manage_image_cache",
    )
    assert {defaults[name] for name in glance} == {"role:admin"}
    own = {name: check for name, check in defaults.items() if name not in glance}
    assert all(check.removeprefix("rule:") in glance for check in own.values())

"""The command line of `twistd glancecache`."""

from __future__ import annotations

from pathlib import Path

import pytest

from txglancecache.service.command import Options
from txglancecache.service.options import OPTIONS, SECTIONS, flag

NEEDED = ["--origin", "http://glance:9292", "--cache-dir", "/var/cache/glance"]


def parsed(*words: str) -> Options:
    options = Options()
    options.parseOptions(words)
    return options


def refused(*words: str) -> str:
    """What is said about a wrong command line: one line, as the exit status that ends up on stderr."""
    with pytest.raises(SystemExit) as caught:
        parsed(*words)
    message = caught.value.code
    assert isinstance(message, str)
    assert "\n" not in message
    assert message.startswith("twistd glancecache: ")
    return message.removeprefix("twistd glancecache: ")


def test_flags() -> None:
    """There is a flag for every option, and the last one of a kind counts."""
    others = {"origin", "trusted_proxies", "manage_auth", "keystone_url", "manage_subjects"}
    others |= {"cache_api_on_data_site", "digest_check", "max_line_size", "max_head_size", "max_head_fields"}
    words = [f"{flag(name)}=1" for name in OPTIONS if name not in others]
    settings = parsed(*NEEDED, *words, "--trusted-proxies=10.0.0.1", "--max-size=2KiB").settings
    assert (settings.fill_retries, settings.finish_fills, settings.shutdown_grace) == (1, True, 1.0)
    assert (settings.trusted_proxies, settings.max_size) == (("10.0.0.1/32",), 2048)


def test_files(tmp_path: Path) -> None:
    """Files are read in the order in which they are named, wherever the flags stand."""
    for name, retries, entries in (("one", 1, 1), ("two", 2, 2)):
        (tmp_path / name).write_text(f"[glancecache]\nfill_retries = {retries}\nmax_entries = {entries}\n")
    files = [f"--config-file={tmp_path / 'one'}", "--max-entries=3", f"--config-file={tmp_path / 'two'}"]
    settings = parsed(*NEEDED, *files).settings
    assert (settings.fill_retries, settings.max_entries) == (2, 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nonsense"], "option --nonsense not recognized"),
        (["--max-size"], "option --max-size requires argument"),
        ([*NEEDED, "--max-size=12 parsecs"], "--max-size: '12 parsecs' has no known unit"),
        (["--origin", "http://glance"], "cache_dir is not set: give --cache-dir DIR"),
        ([*NEEDED, "more"], "Wrong number of arguments."),
        (["--config-file", "/nonexistent"], "cannot read /nonexistent: No such file or directory"),
    ],
)
def test_wrong(words: list[str], said: str) -> None:
    """What is wrong is said in one line, without the help."""
    assert refused(*words).startswith(said)


@pytest.mark.parametrize("width", [60, 100, 200])
def test_help(width: int) -> None:
    """The help names every option once, in its section, and keeps to the width."""
    text = Options().getUsage(width)
    lines = text.splitlines()
    for section in SECTIONS:
        assert f"{section.title}:" in lines
        assert [lines.count(f"  {flag(opt.dest)} {opt.metavar}") for opt in section.options] == [
            1 for _ in section.options
        ]
    assert all(len(line) <= width for line in lines if line.startswith("        "))
    assert all(f"[{opt.default}]" in text for opt in OPTIONS.values() if isinstance(opt.default, str))
    assert "[yes]" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is this package's, not Twisted's."""
    with pytest.raises(SystemExit) as caught:
        parsed("--version")
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("txglancecache ")

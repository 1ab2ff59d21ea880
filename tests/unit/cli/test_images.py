"""`list`, `show`, `purge`, `pin` and `unpin`, against a node over HTTP."""

from __future__ import annotations

import pytest

from tests.unit.cli.conftest import Shell
from tests.unit.cli.node import GIB, UNKNOWN, A, B, C, image


@pytest.fixture(autouse=True)
def _images(shell: Shell) -> None:
    shell.node.images = {
        A: image(A, 3 * GIB, last_access=9_880.0),
        B: image(B, 4 * GIB, GIB, filling=True, state="filling", sources=1, rate=5e6, readers=2),
        C: image(C, GIB, GIB // 2, last_access=None, hits=0, pinned=True),
    }


def test_list(shell: Shell) -> None:
    """A table of the images on all pages, numbers to the right."""
    assert shell.ok("list").splitlines() == [
        "ID                                    STATE          SIZE  HITS  LAST USED  READERS  PINNED",
        f"{A}  complete      3 GiB     7  2 min ago        -  -",
        f"{B}  filling 25 %  4 GiB     7  2 h ago          2  -",
        f"{C}  partial 50 %  1 GiB     0  never            -  pinned",
    ]


def test_list_on_a_narrow_terminal(shell: Shell) -> None:
    """What matters least is left out where there is no room for it."""
    shell.environ["COLUMNS"] = "71"
    lines = shell.ok("list", tty=True).splitlines()
    assert lines[0] == "ID                                    STATE          SIZE  HITS  PINNED"
    assert max(map(len, lines)) <= 71
    shell.environ["COLUMNS"] = "40"
    assert max(map(len, shell.ok("list", tty=True).splitlines())) <= 36 + 2 + 12 + 2 + 5


def test_colours(shell: Shell) -> None:
    """There are colours on a terminal, and none elsewhere, with NO_COLOR or on a dumb terminal."""
    assert "\x1b" not in shell.ok("list", tty=True)
    del shell.environ["NO_COLOR"]
    assert "\x1b[32mcomplete" in shell.ok("list", tty=True)
    assert "\x1b" not in shell.ok("list")
    shell.environ["TERM"] = "dumb"
    assert "\x1b" not in shell.ok("list", tty=True)


def test_list_as_json(shell: Shell) -> None:
    """One document, with what the node says; the option goes before the command or after it."""
    expected = {"images": list(shell.node.images.values())}
    assert shell.run("list", "--format", "json").json == expected
    assert shell.run("--format", "json", "list").json == expected


def test_list_ids(shell: Shell) -> None:
    """`-q` lists ids and nothing else."""
    assert shell.ok("list", "-q") == f"{A}\n{B}\n{C}\n"
    assert shell.ok("list", "-q", "--limit", "1") == f"{A}\n"


def test_filters(shell: Shell) -> None:
    """Filters and order are the node's business."""
    assert (
        shell.ok("list", "-q", "--state", "filling", "3f2", "--sort", "size:desc", "--unpinned") == f"{B}\n"
    )
    assert shell.node.asked == [
        ("GET", "/cache/images?limit=1000&q=3f2&state=filling&pinned=false&sort=size%3Adesc")
    ]
    assert shell.ok("list", "-q", "--pinned") == f"{C}\n"


def test_nothing_to_list(shell: Shell) -> None:
    """A person is told that there is nothing; a script gets nothing."""
    shell.node.images.clear()
    assert shell.ok("list") == ""
    assert shell.run("list", tty=True).err == "txglancecache: nothing is cached yet\n"
    assert shell.run("list", "xy", tty=True).err == "txglancecache: no such images\n"


def test_show(shell: Shell) -> None:
    """All about an image: where bytes are, who gets them."""
    shell.node.images[B] |= {
        "extents": [[0, GIB // 2], [2 * GIB, 2 * GIB + GIB // 2]],
        "readers_list": [
            {"position": GIB, "start": 0, "stop": 4 * GIB, "whole": True},
            {"position": 150, "start": 100, "stop": 200, "whole": False},
        ],
    }
    shown = shell.ok("show", "3f2b")
    assert f"id         {B}\nstate      filling 25 %\nsize       4 GiB (4294967296 bytes)\n" in shown
    assert "on disk    1 GiB in 2 extents\n" in shown
    assert f"           {'█' * 7}▒{'░' * 22}{'█' * 7}▒{'░' * 22}\n" in shown
    assert "origin     4.8 MiB/s for 1 client\n" in shown
    assert "readers    2\n           at 25 %\n           at 50 % of 100-200\n" in shown


def test_show_several(shell: Shell) -> None:
    """Several at once, with a line between; one in JSON is the image itself."""
    assert shell.ok("show", A, C).count("\n\nid ") == 1
    assert shell.run("show", "77", "--format", "json").json == shell.node.images[C]
    assert len(shell.run("show", "77", A, "--format", "json").json["images"]) == 2


def test_show_unknown(shell: Shell) -> None:
    """An image that is not there is 3, one of several 2."""
    for text in (UNKNOWN, "dead"):
        done = shell.run("show", text)
        assert (done.code, done.out) == (3, "")
        assert "no such image in this cache" in done.err
    done = shell.run("show", "3f2")
    assert (done.code, done.err) == (2, f"txglancecache: 3f2 begins 2 ids: {A}, {B}\n")


def test_several_ids(shell: Shell) -> None:
    """One that cannot be does not keep the others from it, and is told in the exit status."""
    done = shell.run("pin", A, UNKNOWN, "3f2", "77b")
    assert done.out == f"pinned {A}\npinned {C}\n"
    assert done.err.splitlines() == [
        f"txglancecache: 3f2: 3f2 begins 2 ids: {A}, {B}",
        f"txglancecache: {UNKNOWN}: no such image in this cache",
    ]
    assert done.code == 2
    assert shell.node.images[A]["pinned"]


def test_each_as_json(shell: Shell) -> None:
    """What was done and what was not, in one document."""
    done = shell.run("unpin", "77b", UNKNOWN, "--format", "json")
    assert done.code == 3
    assert done.json == {
        "unpinned": [C],
        "failed": [{"id": UNKNOWN, "error": "no such image in this cache"}],
    }
    assert not shell.node.images[C]["pinned"]


def test_ids_from_stdin(shell: Shell) -> None:
    """`-` stands for the ids that stdin lists; one that is there twice is taken once."""
    assert shell.ok("purge", "-", A, stdin=f"{A}\n77b\n") == f"purged {A}\npurged {C}\n"
    assert list(shell.node.images) == [B]


def test_purge_all(shell: Shell) -> None:
    """A person confirms it; without one, it takes `--yes`."""
    done = shell.run("purge", "--all")
    assert (done.code, done.err) == (2, "txglancecache: nobody is there to confirm this: give --yes\n")
    done = shell.run("purge", "--all", tty=True, stdin="n\n")
    assert (done.code, done.out) == (1, "")
    assert done.err == "Purge all of 3 images from edge-7? [y/N] txglancecache: nothing was purged\n"
    assert len(shell.node.images) == 3
    done = shell.run("purge", "--all", tty=True, stdin="y\n")
    assert (done.code, done.out) == (0, "purged 3 images\n")
    assert shell.run("purge", "--all", "--yes", "--format=json").json == {"purged": 0}


@pytest.mark.parametrize("words", [("purge",), ("purge", "--all", A)])
def test_what_to_purge(shell: Shell, words: tuple[str, ...]) -> None:
    """Either ids or all."""
    assert shell.run(*words).code == 2
    assert len(shell.node.images) == 3


def test_orders_for_the_terminal(shell: Shell) -> None:
    """What a node says cannot move the cursor."""
    shell.node.images = {"\x1b[2J": image("\x1b[2J")}
    assert "\x1b" not in shell.ok("list", tty=True)

"""The store as a state machine: whatever is done, and wherever the process dies, nothing wrong is served.

Every blocking call of the cache goes through one door. The machine shuts that door before the n-th call,
which is what ``kill -9`` between two steps does, and starts again on what is then on disk. If the power is
cut as well, what had not been synced is lost.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.cache.power import Disk
from tests.unit.cache.world import Origin, StillWaiting, World, drain
from txglancecache.cache.reader import Reader
from txglancecache.errors import EntryDropped, NoRoom
from txglancecache.extents import Extents

KIB = 1 << 10
BODIES = {
    name: hashlib.shake_256(name.encode()).digest(size * KIB)
    for name, size in {"a": 300, "b": 500, "c": 200, "d": 700}.items()
}
MAX_SIZE = 1200 * KIB

_names = st.sampled_from(sorted(BODIES))


class Crashes(RuleBasedStateMachine):
    """Clients, an origin, an operator, and the power switch."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.disk = Disk(self.root / "cache" / "bodies")
        self.world = World(self.root / "cache", max_size=MAX_SIZE)
        self.origins = {name: Origin(body) for name, body in BODIES.items()}
        self.readers: list[tuple[str, Reader, int]] = []

    def teardown(self) -> None:
        self.world.crash()
        self.disk.release()
        shutil.rmtree(self.root)

    @rule(name=_names, start=st.integers(0, 150), length=st.integers(1, 100), whole=st.booleans())
    def read(self, name: str, start: int, length: int, whole: bool) -> None:
        origin = self.origins[name]
        interval = (0, None) if whole else (start * KIB, (start + length) * KIB)
        try:
            reader = self.world.read(origin, *interval, image=origin.image(name))
        except (NoRoom, EntryDropped):
            return
        except StillWaiting:
            # A call into a dead machine never returns; a live one answers at once.
            if not self.world.machine.dead:
                raise
            return
        self.readers.append((name, reader, reader.position))

    @rule(name=_names, count=st.integers(1, 400))
    def give(self, name: str, count: int) -> None:
        for transmission in self.origins[name].sent:
            if not transmission.over and not self.world.machine.dead:
                transmission.give(count * KIB)

    @rule(name=_names)
    def break_off(self, name: str) -> None:
        for transmission in self.origins[name].sent:
            if not transmission.over and not self.world.machine.dead:
                transmission.break_off()

    @rule(seconds=st.floats(0.1, 5))
    def wait(self, seconds: float) -> None:
        self.world.clock.pump([0.1] * int(seconds * 10))

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.readers) - 1))
        self.readers.pop(place)[1].close()

    @rule(name=_names)
    def purge(self, name: str) -> None:
        entry = self.world.cache.find(name)
        if entry is not None and not self.world.machine.dead:
            self.world.cache.drop(entry, "purged")

    @rule(calls=st.integers(0, 12))
    def arm(self, calls: int) -> None:
        machine = self.world.machine
        if machine.dies_before is None:
            machine.dies_before = machine.calls + calls

    @rule(power=st.sampled_from(["stays", "cut", "cut, and what was removed returns"]))
    def crash(self, power: str) -> None:
        recorded = self._recorded()
        for origin in self.origins.values():
            origin.sent.clear()
        self.readers.clear()
        self.world.die()
        if power != "stays":
            self.disk.cut_power(removed_return=power != "cut")
        self.world = self.world.again()
        self._nothing_lost(recorded)
        self._nothing_left_over()

    @rule(order=st.permutations(sorted(BODIES)))
    def restart(self, order: list[str]) -> None:
        if self.world.machine.dies_before is not None:
            return
        for _, reader, _ in self.readers:
            reader.close()
        self.readers.clear()
        before = {entry.image_id: Extents(entry.extents) for entry in self.world.steward.entries()}
        for origin in self.origins.values():
            origin.sent.clear()
        self.world = self.world.restart()
        self._nothing_lost(before)
        self._nothing_left_over()

    @invariant()
    def nobody_reads_a_wrong_byte(self) -> None:
        for name, reader, begun in self.readers:
            if self.world.machine.dead or reader.failed:
                continue
            at = reader.position
            assert drain(reader) == BODIES[name][at : reader.position], (name, begun)

    @invariant()
    def the_limits_hold(self) -> None:
        if not self.world.machine.dead:
            status = self.world.steward.status()
            assert status.bytes_on_disk + status.reserved <= MAX_SIZE
            allocated = sum(file.allocated for file in self.world.directory.bodies())
            assert allocated <= MAX_SIZE + 8 * KIB * len(BODIES)

    def _recorded(self) -> dict[str, Extents]:
        database = sqlite3.connect(self.world.directory.index_path)
        try:
            rows = database.execute("SELECT image_id, extents, body FROM entries").fetchall()
        finally:
            database.close()
        files = {file.name for file in self.world.directory.bodies()}
        return {image_id: Extents.decode(text) for image_id, text, body in rows if body in files}

    def _nothing_lost(self, recorded: dict[str, Extents]) -> None:
        """What the index had, and still has a file, is there, with the right bytes."""
        names = {file.name for file in self.world.directory.bodies()}
        for image_id, extents in recorded.items():
            if not extents:
                continue
            entry = self.world.cache.find(image_id)
            assert entry is not None
            assert entry.body.name in names
            assert not extents.difference(entry.extents)
        for entry_status in self.world.steward.entries():
            entry = self.world.cache.find(entry_status.image_id)
            assert entry is not None
            body = self.world.directory.body_path(entry.body.name).read_bytes()
            for start, stop in entry.extents:
                assert body[start:stop] == BODIES[entry_status.image_id][start:stop]

    def _nothing_left_over(self) -> None:
        """Every file has an entry, every entry a file."""
        files = {file.name for file in self.world.directory.bodies()}
        entries = {self.world.cache.find(status.image_id) for status in self.world.steward.entries()}
        assert files == {entry.body.name for entry in entries if entry is not None}


TestCrashes = Crashes.TestCase
TestCrashes.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

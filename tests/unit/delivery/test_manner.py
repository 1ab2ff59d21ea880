"""Which way of handing over a body is found to be the cheaper one."""

from __future__ import annotations

import random
from collections import Counter

from txglancecache.delivery.manner import CORKED, FLUSHED, Manner, Preference

MIB = 1 << 20


def _send(
    preference: Preference, mebibytes: int, costs: dict[Manner, float], speeds: random.Random | None = None
) -> Counter[Manner]:
    """Send in shares of 4 MiB at so many seconds for each; the bytes sent in each manner."""
    sent: Counter[Manner] = Counter()
    speed = 1.0
    for _ in range(mebibytes // 4):
        if speeds is not None:
            speed = min(2.0, max(0.5, speed * speeds.uniform(0.9, 1.1)))
        manner = preference.manner
        preference.spent(costs[manner] * speed, 4 * MIB)
        sent[manner] += 4 * MIB
    return sent


def test_the_cheaper_one_is_found_and_kept() -> None:
    """Whichever it is, within the first gibibyte; the other gets no more than a sixteenth of what follows."""
    for cheap, dear in ((CORKED, FLUSHED), (FLUSHED, CORKED)):
        preference, costs = Preference(), {cheap: 1.0, dear: 1.3}
        _send(preference, 1024, costs)
        sent = _send(preference, 64 * 1024, costs)
        assert 0 < sent[dear] <= sent.total() / 16


def test_it_may_change() -> None:
    """Both are tried for as long as bodies are sent."""
    preference = Preference()
    _send(preference, 4096, {CORKED: 1.0, FLUSHED: 1.3})
    _send(preference, 16 * 1024, {CORKED: 1.3, FLUSHED: 1.0})
    sent = _send(preference, 4096, {CORKED: 1.3, FLUSHED: 1.0})
    assert sent[FLUSHED] > 0.9 * sent.total()


def test_a_machine_whose_speed_changes_favours_neither() -> None:
    """A difference of a fifth is found while the processor is now twice as fast, now half as fast."""
    for seed in range(20):
        preference, costs = Preference(), {CORKED: 1.0, FLUSHED: 1.2}
        _send(preference, 1024, costs, random.Random(seed))
        sent = _send(preference, 64 * 1024, costs, random.Random(seed + 100))
        assert sent[CORKED] > 0.75 * sent.total()


def test_a_clock_that_stands_still_decides_nothing() -> None:
    """Where sending takes no time that could be seen, both go on to be tried."""
    sent = _send(Preference(), 4096, {CORKED: 0.0, FLUSHED: 0.0})
    assert sent[CORKED] == sent[FLUSHED]

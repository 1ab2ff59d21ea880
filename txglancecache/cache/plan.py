"""Which transfers an entry needs next: a pure function of what is on disk and what is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen

from txglancecache.extents import Extents

#: How far ahead of a running transfer a byte may lie and still be waited for, in bytes.
PATIENCE = 4 << 20

#: Transfers that one entry may have under way at once.
MAX_TRANSFERS = 4


@frozen
class Claim:
    """Bytes that a running transfer is going to bring: it is at ``position`` and goes on to ``stop``."""

    position: int
    stop: int


@frozen
class Start:
    """Begin a transfer of ``[start, stop)``.

    ``split`` is the place, among the claims, of a running transfer that would otherwise reach these
    bytes: it has to stop at ``start``.
    """

    start: int
    stop: int
    split: int | None = None


def plan(
    extents: Extents,
    claims: Sequence[Claim],
    demands: Iterable[tuple[int, int]],
    *,
    size: int,
    ranged: bool,
    limit: int = MAX_TRANSFERS,
) -> list[Start]:
    """The transfers to begin now, so that every demand will be met.

    No byte is ever claimed twice: bytes on disk stay as they are, since they may have been sent and
    hashed.

    :param extents: what is on disk.
    :param claims: the transfers under way; disjoint.
    :param demands: what is wanted, as ``[start, stop)`` in order of importance.
    :param size: the length of the body in bytes.
    :param ranged: whether the origin serves ranges; where it does not, one transfer from the start
        brings everything.
    :param limit: the most transfers to have under way.
    """
    if not ranged:
        missing = any(extents.gaps(start, stop) for start, stop in demands)
        return [Start(0, size)] if missing and not claims else []
    running = list(claims)
    starts: list[Start] = []
    for start, stop in demands:
        if len(running) >= limit:
            break
        gap = next(iter(extents.gaps(start, stop)), None)
        if gap is None:
            continue
        first, last = gap
        last = min([last, *(claim.position for claim in running if claim.position > first)])
        holder = next((n for n, claim in enumerate(running) if claim.position <= first < claim.stop), None)
        if holder is None:
            starts.append(Start(first, last))
            running.append(Claim(first, last))
        elif first - running[holder].position > PATIENCE:
            last = min(last, running[holder].stop)
            if holder < len(claims):
                starts.append(Start(first, last, holder))
            elif starts[holder - len(claims)].split is None:
                starts[holder - len(claims)] = Start(running[holder].position, first)
                starts.append(Start(first, last))
            else:
                # Where this one begins is not certain before it has.
                continue
            running[holder] = Claim(running[holder].position, first)
            running.append(Claim(first, last))
    return starts

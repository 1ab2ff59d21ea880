"""Byte counts as people write and read them: ``10GiB``, ``512 MB``, ``1.5 GiB``.

Owns the spelling only; which sizes make sense for a setting is decided where that setting is read.
"""

from __future__ import annotations

import re
from fractions import Fraction

_BINARY = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_DECIMAL = ("kB", "MB", "GB", "TB", "PB", "EB")

_FACTORS = {
    "": 1,
    "b": 1,
    **{unit.lower(): 1024**power for power, unit in enumerate(_BINARY, start=1)},
    **{unit.lower(): 1000**power for power, unit in enumerate(_DECIMAL, start=1)},
}

_LARGEST = 2**63 - 1  # what a file offset, and SQLite, can hold

# The number of digits is limited so that no text, however long, costs more than a look at it.
_SIZE = re.compile(r"(\d{1,20}(?:\.\d{1,20})?)\s*([a-z]*)", re.ASCII | re.IGNORECASE)


def parse_size(text: str) -> int:
    """The number of bytes that ``text`` names, rounded down to a whole one.

    ``KiB`` to ``EiB`` are powers of 1024, ``kB`` to ``EB`` powers of 1000; no unit, or ``B``, is bytes. Case
    and space around the unit do not matter. A bare ``10G`` is refused, since tools disagree on what it is.

    :raises ValueError: with one line that tells an operator what to write instead.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{_shown(text)} is not a size: write a number and a unit, such as 512MiB or 10GB")
    number, unit = match.groups()
    factor = _FACTORS.get(unit.lower())
    if factor is None:
        raise ValueError(f"{_shown(text)} has no known unit: use {_advice(unit)}")
    count = int(Fraction(number) * factor)
    if count > _LARGEST:
        raise ValueError(f"{_shown(text)} is too large: the most is {_LARGEST} bytes")
    return count


def format_size(count: int) -> str:
    """``count`` bytes in the largest binary unit that keeps it at 1 or more, to at most one decimal place."""
    value, unit = float(count), "B"
    for larger in _BINARY:
        # Compare what would be shown, so that it never says "1024 KiB".
        if round(value, 1) < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"


def _advice(unit: str) -> str:
    for binary, decimal in zip(_BINARY, _DECIMAL, strict=True):
        if unit.lower() == binary[0].lower():
            return f"{binary} (1024-based) or {decimal} (1000-based)"
    return ", ".join(("B", *_BINARY, *_DECIMAL))


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")

"""Durations, sizes and counts: parsed from options, and formatted for people.

A parser raises `ValueError` with a text that quotes the value; the caller names the option.
"""

import re

MAX_SECONDS = 1_000_000_000
"""The maximum duration in seconds, about 31 years; system calls accept little more."""

MAX_QUOTED = 200
"""Maximum number of characters of an invalid value that an error quotes."""

_DURATION = re.compile(r"(\+?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(ms|s|m|h|d)?", re.ASCII)
_SECONDS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MAX_DIGITS = 18
_SIZES = ("B", "kB", "MB", "GB", "TB")
_THOUSAND = 1000
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def quoted(text: str) -> str:
    """Return invalid text, quoted and shortened for an error."""
    return f"{text[:MAX_QUOTED]!r}..." if len(text) > MAX_QUOTED else repr(text)


def parse_duration(text: str) -> float:
    """Return the seconds of ``30``, ``30s``, ``500ms``, ``5m``, ``2h`` or ``1d``."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"{quoted(text)} is not a number of seconds, or a duration such as 30s, 5m or 1h"
        )
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds > MAX_SECONDS:
        raise ValueError(f"{quoted(text)} is more than {MAX_SECONDS} seconds")
    return seconds


def parse_positive_duration(text: str) -> float:
    """Return the seconds of a duration that is not 0."""
    seconds = parse_duration(text)
    if not seconds:
        raise ValueError(f"{quoted(text)} is not a positive number of seconds")
    return seconds


def parse_count(text: str, least: int = 0) -> int:
    """Return a whole number that is not less than `least`."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _MAX_DIGITS):
        raise ValueError(f"{quoted(text)} is not a whole number")
    if int(digits) < least:
        raise ValueError(f"{quoted(text)} is less than {least}")
    return int(digits)


def format_duration(seconds: float | None) -> str:
    """Return a duration in tenths of seconds below 10, else in whole units; ``-`` for None."""
    if seconds is None:
        return "-"
    if seconds < 10:  # noqa: PLR2004 -- below, a tenth is worth showing
        return f"{seconds:.1f} s"
    for limit, unit, name in (2 * _MINUTE, 1, "s"), (2 * _HOUR, _MINUTE, "min"):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    unit, name = (_HOUR, "h") if seconds < 2 * _DAY else (_DAY, "days")
    return f"{seconds / unit:.0f} {name}"


def format_size(size: float | None) -> str:
    """Return a number of bytes in about three figures, ``-`` for None."""
    if size is None:
        return "-"
    for unit in _SIZES:
        if size < _THOUSAND or unit == _SIZES[-1]:
            break
        size /= _THOUSAND
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"  # noqa: PLR2004


def format_count(number: int, noun: str) -> str:
    """Return ``1 thing`` or ``2 things``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

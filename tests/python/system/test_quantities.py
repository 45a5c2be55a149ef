"""Durations, sizes and counts as users write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zc.zrs.system.quantities import (
    MAX_SECONDS,
    format_count,
    format_duration,
    format_size,
    parse_count,
    parse_duration,
    parse_positive_duration,
)

UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SHOWN = {"s": "s", "min": "m", "h": "h", "days": "d"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("30s", 30),
        ("500ms", 0.5),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86400),
        ("0.5", 0.5),
        (".5m", 30),
        ("1e3", 1000),
        (" 7 ", 7),
        ("+7", 7),
        ("0", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "x", "-1", "nan", "inf", "1w", "1 h 2 m", "5M", "s", "1e", ".", "\u0661", "1_0"],
)
def test_other_text_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"^'.*' is not a number of seconds, or a duration"):
        parse_duration(text)


def test_too_long_a_duration() -> None:
    assert parse_duration(str(MAX_SECONDS)) == MAX_SECONDS
    for text in "1e10", "20000d", "1e999", "9" * 199:
        with pytest.raises(ValueError, match=f"^'{text}' is more than 1000000000 seconds$"):
            parse_duration(text)


def test_no_duration() -> None:
    assert parse_positive_duration("1ms") == 0.001
    with pytest.raises(ValueError, match=r"^'0h' is not a positive number of seconds$"):
        parse_positive_duration("0h")


def test_errors_quote_200_characters() -> None:
    with pytest.raises(ValueError, match=r"^'x{200}'[.]{3} is not a number"):
        parse_duration("x" * 10_000)


@given(st.floats(0, MAX_SECONDS), st.sampled_from(sorted(UNITS)))
def test_a_duration_is_what_is_written(number: float, unit: str) -> None:
    seconds = number * UNITS[unit]
    if seconds <= MAX_SECONDS:
        assert parse_duration(f"{number!r}{unit}") == seconds


@given(st.floats(0, MAX_SECONDS))
def test_a_formatted_duration_is_rounded_to_its_unit(seconds: float) -> None:
    number, unit = format_duration(seconds).split()
    error = abs(parse_duration(number + SHOWN[unit]) - seconds)
    half = 0.05 if "." in number else UNITS[SHOWN[unit]] / 2
    assert error <= half * (1 + 1e-9)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0.0 s"), (9.94, "9.9 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"),
     (172_800, "2 days")],
)  # fmt: skip
def test_formatted_durations(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456, "123 kB"),
     (5e6, "5.0 MB"), (5e15, "5000 TB")],
)  # fmt: skip
def test_formatted_sizes(size: float | None, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 10**18 - 1))
def test_counts(number: int) -> None:
    assert parse_count(str(number)) == number


@pytest.mark.parametrize("text", ["", "-1", "1.0", "x", "\u0661", "1_0", "9" * 19])
def test_other_text_is_not_a_count(text: str) -> None:
    with pytest.raises(ValueError, match=f"^'{text}' is not a whole number$"):
        parse_count(text)


def test_too_small_a_count() -> None:
    assert parse_count("1", least=1) == 1
    with pytest.raises(ValueError, match=r"^'0' is less than 1$"):
        parse_count("0", least=1)


def test_formatted_counts() -> None:
    assert [format_count(number, "byte") for number in (0, 1, 2)] == [
        "0 bytes", "1 byte", "2 bytes",
    ]  # fmt: skip

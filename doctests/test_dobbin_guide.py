"""The unchanged guide to dobbin holds for this package."""

from __future__ import annotations

import doctest
import os
from typing import TYPE_CHECKING

import pytest
from doctests.originals.document import GUIDE, OriginalsMissingError, directory, examples
from doctests.originals.guide import GuideChecker
from doctests.originals.runner import run_guide

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TIMES = 20


@pytest.fixture(autouse=True)
def originals() -> None:
    try:
        directory()
    except OriginalsMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


def test_the_guide_is_true(tmp_path: Path, report_count: Callable[[str], None]) -> None:
    for time in range(TIMES):
        (tmp_path / str(time)).mkdir()
        report = run_guide(GUIDE.name, GUIDE.text(), tmp_path / str(time))
        assert not report.failures, str(report)
        assert len(report.outcomes) == GUIDE.examples
    report_count(
        f"{GUIDE.name}: {len(report.outcomes)} of {GUIDE.examples} examples run, "
        f"{len(report.failures)} failures, {TIMES} times"
    )


def test_every_example_counts() -> None:
    found = examples(GUIDE.text(), GUIDE.name).examples
    assert len(found) == GUIDE.examples
    assert not any(doctest.SKIP in example.options for example in found)


def output_lines(text: str) -> list[int]:
    """Return the numbers of the lines that examples are expected to print."""
    lines = text.splitlines()
    return [
        number
        for example in doctest.DocTestParser().get_examples(text)
        for number in range(
            example.lineno + example.source.count("\n"),
            example.lineno + example.source.count("\n") + example.want.count("\n"),
        )
        # doctest ignores lines between the first and the last line of a traceback.
        if lines[number].strip() not in {"...", "Traceback (most recent call last):"}
    ]


def changed(text: str, number: int) -> str:
    """Return the text with a letter inserted at the beginning of a line."""
    lines = text.splitlines(keepends=True)
    lines[number] = "x" + lines[number]
    return "".join(lines)


def test_every_line_counts(tmp_path: Path) -> None:
    """Real output would fail if any expected line were changed."""
    report = run_guide(GUIDE.name, GUIDE.text(), tmp_path)
    checker, options = GuideChecker(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    printed = [outcome for outcome in report.outcomes if outcome.want]
    assert len(printed) > GUIDE.examples // 3
    for outcome in printed:
        if "Traceback" not in outcome.want:
            for number in range(len(outcome.want.splitlines())):
                wrong = changed(outcome.want, number)
                assert not checker.check_output(wrong, outcome.got, options), wrong


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_a_changed_line_fails(place: int, tmp_path: Path) -> None:
    text = GUIDE.text()
    lines = output_lines(text)
    number = lines[place * len(lines) // 100]
    report = run_guide(GUIDE.name, changed(text, number), tmp_path)
    first = report.failures[0]
    assert first.line <= number + 1 <= first.line + (first.source + first.want).count("\n")

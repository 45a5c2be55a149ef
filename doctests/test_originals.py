"""The unchanged documents of 2007 hold for this package."""

from __future__ import annotations

import doctest
import importlib
import os
from typing import TYPE_CHECKING, Any

import pytest
from doctests.originals.checker import Checker
from doctests.originals.document import (
    ORIGINALS,
    Original,
    OriginalsMissingError,
    directory,
    examples,
    golden_directory,
)
from doctests.originals.mutations import Mutation, digits, next_digit, sample
from doctests.originals.runner import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Replacements for ZODB.FileStorage.FileStorage in a document.
FILE_STORAGES = {
    "ZODB": "ZODB.FileStorage.FileStorage:FileStorage",
    "zrs": "zc.zrs.filestorage:FileStorage",
}

MAGIC_LENGTH = 4
SAMPLES = 4  # of each kind of mutation


def missing(error: OriginalsMissingError) -> None:
    if os.environ.get("CI"):
        pytest.fail(str(error))
    pytest.skip(str(error))


@pytest.fixture(autouse=True)
def originals() -> None:
    try:
        directory()
    except OriginalsMissingError as error:
        missing(error)


@pytest.fixture(params=FILE_STORAGES)
def file_storage(request: pytest.FixtureRequest) -> Callable[..., Any]:
    module, _, name = FILE_STORAGES[request.param].partition(":")
    storage: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return storage


def by_name(original: Original) -> str:
    return original.name


@pytest.mark.parametrize("original", ORIGINALS, ids=by_name)
def test_document_is_true(
    original: Original,
    file_storage: Callable[..., Any],
    tmp_path: Path,
    report_count: Callable[[str], None],
    record_property: Callable[[str, object], None],
) -> None:
    report = run(original.name, original.text(), tmp_path, file_storage)

    storage = file_storage.__module__
    report_count(
        f"{original.name} ({storage}): {len(report.outcomes)} of {original.examples} "
        f"examples run, {len(report.failures)} failures"
    )
    record_property("examples", len(report.outcomes))
    record_property("failures", len(report.failures))
    assert not report.failures, str(report)
    assert len(report.outcomes) == original.examples


@pytest.mark.parametrize("original", ORIGINALS, ids=by_name)
def test_every_example_counts(original: Original) -> None:
    found = examples(original.text(), original.name).examples
    assert len(found) == original.examples
    assert not any(doctest.SKIP in example.options for example in found)


@pytest.mark.parametrize(
    ("original", "golden", "written"),
    [
        (ORIGINALS[0], "doc2007-primary.fs", ["Data.fs"]),
        (ORIGINALS[1], "doc2007-secondary.fs", ["primary.fs", "Data.fs"]),
    ],
    ids=["primary", "secondary"],
)
def test_files_are_those_of_the_original_software(
    original: Original,
    golden: str,
    written: list[str],
    file_storage: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """The records are those that ZODB wrote in 2007, and equal on both sides."""
    try:
        expected = (golden_directory() / golden).read_bytes()
    except OriginalsMissingError as error:
        missing(error)
    run(original.name, original.text(), tmp_path, file_storage)
    for name in written:
        found = (tmp_path / name).read_bytes()
        assert found[MAGIC_LENGTH:] == expected[MAGIC_LENGTH:], name


def sampled_mutations() -> list[Any]:
    """Return some mutations of each kind; none if the originals are missing."""
    try:
        return [
            pytest.param(original, mutation, id=f"{original.name}-{mutation}")
            for original in ORIGINALS
            for mutation in sample(original.text(), SAMPLES)
        ]
    except OriginalsMissingError:
        return [pytest.param(None, None, id="missing")]


@pytest.mark.parametrize(("original", "mutation"), sampled_mutations())
def test_changed_digit_fails(
    original: Original, mutation: Mutation, file_storage: Callable[..., Any], tmp_path: Path
) -> None:
    changed = tmp_path / original.name
    changed.write_text(mutation.apply(original.text()), "ascii")

    report = run(original.name, changed.read_text("ascii"), tmp_path, file_storage)

    first, *others = report.failures
    assert not others
    assert first.line <= mutation.line + 1 <= first.line + lines_of(first)


def lines_of(outcome: Any) -> int:
    return int((outcome.source + outcome.want).count("\n"))


@pytest.mark.parametrize("original", ORIGINALS, ids=by_name)
def test_every_digit_counts(
    original: Original, file_storage: Callable[..., Any], tmp_path: Path
) -> None:
    """Real output would fail if any expected digit were changed."""
    report = run(original.name, original.text(), tmp_path, file_storage)
    checker = Checker()
    checked = 0
    for outcome in report.outcomes:
        for column in digits(outcome.want):
            changed = next_digit(outcome.want, column)
            assert not checker.check_output(changed, outcome.got, outcome.options), changed
            checked += 1
    assert checked > original.examples


def test_changed_document_is_not_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ORIGINALS[0]
    for name in (original.name, "SHA256SUMS"):
        (tmp_path / name).write_bytes((directory() / name).read_bytes())
    monkeypatch.setenv("ZRS_ORIGINALS", str(tmp_path))
    assert original.text()

    (tmp_path / original.name).write_text(original.text() + " ", "ascii")
    with pytest.raises(ValueError, match="not the original"):
        original.text()

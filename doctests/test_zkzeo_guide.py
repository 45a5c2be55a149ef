"""The unchanged guide to ZEO with ZooKeeper holds for this package."""

from __future__ import annotations

import doctest
import functools
import os
from typing import TYPE_CHECKING

import pytest
from doctests.guide.checker import Checker
from doctests.guide.runner import CAPTURES, GUIDE, run
from doctests.originals.document import OriginalsMissingError, directory

from zookeeper.servers import make_chroot, standalone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zookeeper.servers import ZooKeeperServer


# The guide's last commands.
END = """
    >>> zk.close()
    >>> stop().exception
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    with standalone(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture
def text() -> str:
    try:
        directory()
    except OriginalsMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    return GUIDE.text()


def test_guide_is_true(
    text: str, server: ZooKeeperServer, tmp_path: Path, report_count: Callable[[str], None]
) -> None:
    report = run(text, tmp_path, make_chroot(server))
    report_count(
        f"{GUIDE.name}: {report.examples} of {GUIDE.examples} examples run, "
        f"{len(report.failures)} failures"
    )
    assert not report.failures, "\n".join(report.failures)
    assert (report.examples, report.captures) == (GUIDE.examples, CAPTURES)


def test_a_changed_line_fails(text: str, server: ZooKeeperServer, tmp_path: Path) -> None:
    beginning = text.partition("Defining ZEO clients")[0] + END
    changed = beginning.replace("/127.0.0.1:56824", "/127.0.0.2:56824")
    assert changed != beginning
    report = run(changed, tmp_path, make_chroot(server))
    (failure,) = report.failures
    assert "127.0.0.2:56824" in failure


@pytest.mark.skipif("ZRS_ZOOKEEPER" not in os.environ, reason="slow: make zookeeper")
def test_every_expected_line_counts(text: str, server: ZooKeeperServer, tmp_path: Path) -> None:
    examples = doctest.DocTestParser().get_examples(text)
    lines = text.splitlines()
    changed = 0
    for example in examples:
        if example.want:
            lines[example.lineno + example.source.count("\n")] += "?"
            changed += 1
    report = run("\n".join(lines) + "\n", tmp_path, make_chroot(server))
    assert len(report.failures) == changed


def test_differences_that_the_checker_allows() -> None:
    check = functools.partial(Checker().check_output, optionflags=0)
    assert check("pid = 1\nu'127.0.0.1:5'\n", "pid = 22\n'127.0.0.1:66'\n")
    assert not check("pid = 1\n", "pid = x\n")
    assert not check("127.0.0.1:5\n", "127.0.0.1\n")
    assert not check("127.0.0.1:5\n", "127.0.0.2:5\n")
    assert not check("'x'\n", "b'x'\n")
    assert not check("{'x': 1}\n", "{'x': 2}\n")

"""Run the guide's examples with manuel, in the environment that the guide expects."""

from __future__ import annotations

import contextlib
import doctest
import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

import kazoo.client
import manuel
import manuel.capture
import manuel.doctest
import transaction
from doctests.guide.checker import Checker
from doctests.originals.document import Original, translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GUIDE = Original(
    name="zkzeo-guide.txt",
    sha256="4b90c9167f93e85f7615f4c01c25034065a7dda3c7f7366f29a89a2570356ddb",
    examples=59,
)
CAPTURES = 3  # captures of blocks of the text, such as `.. -> name`

PUBLISHED = "zookeeper.example.com:2181"
TREE = ("/databases", "/databases/demo")

PATIENCE = 60.0  # seconds
SETTLE = 0.1  # seconds

_PRINT_END = re.compile(r", end=' '\)")


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait for a condition that other threads fulfil, and a moment longer."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "timeout"
        time.sleep(0.01)
    time.sleep(SETTLE)


class Parser(doctest.DocTestParser):
    """Finds examples, and translates them from Python 2."""

    def parse(self, string: str, name: str = "<string>") -> list[Any]:
        """Return prose and examples, in turn."""
        parts = super().parse(string, name)
        for part in parts:
            if isinstance(part, doctest.Example):
                # After text that ends with a newline, Python 2's `print text,` writes no space.
                part.source = _PRINT_END.sub(", end='')", translate(part.source))
        return list(parts)


@dataclass
class Report:
    """The number of examples and captures that ran, and the failures."""

    examples: int = 0
    captures: int = 0
    failures: list[str] = field(default_factory=list)


def run(text: str, directory: Path, hosts: str) -> Report:
    """Run a document in an empty directory, with an empty ZooKeeper tree at `hosts`."""
    document = manuel.Document(text, GUIDE.name)
    tests = manuel.doctest.Manuel(parser=Parser(), checker=Checker())
    tests += manuel.capture.Manuel()
    with world(directory, hosts):
        document.process_with(tests, globs={"wait_until": wait_until})
    report = Report()
    for region in document:
        report.captures += isinstance(region.parsed, manuel.capture.Capture)
        report.examples += isinstance(region.evaluated, manuel.doctest.DocTestResult)
        if region.formatted:
            report.failures.append(f"line {region.lineno}: {region.formatted}")
    return report


@contextlib.contextmanager
def world(directory: Path, hosts: str) -> Iterator[None]:
    """Set up the guide's environment during a run."""
    real_client = kazoo.client.KazooClient

    def connect(named: str, *args: Any, **options: Any) -> Any:
        return real_client(hosts if named == PUBLISHED else named, *args, **options)

    client = real_client(hosts)
    client.start()
    for path in TREE:
        client.create(path)
    client.stop()
    client.close()
    before = os.getcwd()  # noqa: PTH109 -- it need not exist any more when we go back
    os.chdir(directory)
    transaction.abort()
    try:
        with mock.patch.object(kazoo.client, "KazooClient", connect):
            yield
    finally:
        transaction.abort()
        os.chdir(before)

"""Runs one suite in this process, and prints a line of JSON for each of its tests.

Usage: ``child.py SUITE``. Lines have the test's `name`, its `outcome` (passed, failed, skipped) and `detail`.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import sys
import time
import unittest
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# The longest tests take a minute on a slow machine. One that hangs ends its suite.
TEST_DEADLINE = 300


class Recorder(unittest.TestResult):
    """Prints each test's outcome when the test has ended."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self._output = output
        self._seen: Counter[str] = Counter()
        self._layer = ""
        self._outcome, self._detail = "passed", ""
        self._started = 0.0

    def enter(self, layer: Any) -> None:
        """Take note of the layer that the following tests run in."""
        self._layer = getattr(layer, "__name__", "")

    def name(self, test: Any) -> str:
        """Return a name for a test, different for each of a suite and the same each time."""
        name = f"{self._layer}/{test.id()}" if self._layer else str(test.id())
        self._seen[name] += 1
        return f"{name}#{self._seen[name]}" if self._seen[name] > 1 else name

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self._outcome, self._detail = "passed", ""
        self._started = time.monotonic()
        faulthandler.dump_traceback_later(TEST_DEADLINE, exit=True)

    def stopTest(self, test: Any) -> None:
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)
        self._print(self.name(test))

    def _print(self, name: str) -> None:
        line = {
            "name": name,
            "outcome": self._outcome,
            "detail": self._detail,
            "seconds": round(time.monotonic() - self._started, 2),
        }
        print(json.dumps(line), file=self._output, flush=True)

    def _fail(self, test: Any, error: Any) -> None:
        self._outcome = "failed"
        self._detail += self._exc_info_to_string(error, test)  # type: ignore[attr-defined]

    def addError(self, test: Any, err: Any) -> None:
        self._fail(test, err)
        if not isinstance(test, unittest.TestCase):
            # The setting up of a class or a module; its tests are not run.
            self._print(self.name(test))

    def addFailure(self, test: Any, err: Any) -> None:
        self._fail(test, err)

    def addSubTest(self, test: Any, _subtest: Any, err: Any) -> None:
        if err is not None:
            self._fail(test, err)

    def addSkip(self, _test: Any, reason: str) -> None:
        self._outcome, self._detail = "skipped", reason

    def addUnexpectedSuccess(self, _test: Any) -> None:
        self._outcome, self._detail = "failed", "passed though it is expected to fail"


def load(suite: str) -> unittest.TestSuite:
    """Return the tests of a module, or with ``module:Class`` of a class of it."""
    # Some of ZODB's test modules rely on others having imported this one.
    importlib.import_module("ZODB.tests.util")
    module_name, _, class_name = suite.partition(":")
    module = importlib.import_module(module_name)
    if not class_name and hasattr(module, "test_suite"):
        return unittest.TestSuite([module.test_suite()])
    if not class_name:
        return unittest.defaultTestLoader.loadTestsFromModule(module)
    tests = unittest.TestSuite()
    # ZEO's classes name tests the old way too.
    for prefix in "test", "check":
        loader = unittest.TestLoader()
        loader.testMethodPrefix = prefix
        tests.addTest(loader.loadTestsFromTestCase(getattr(module, class_name)))
    return tests


def by_layer(tests: Any, layer: Any = None) -> Iterator[tuple[Any, unittest.TestSuite]]:
    """Yield the suite in parts of one layer: what zope.testrunner sets up around tests."""
    layer = getattr(tests, "layer", layer)
    if isinstance(tests, unittest.TestSuite):
        for part in tests:
            yield from by_layer(part, layer)
    else:
        yield layer, unittest.TestSuite([tests])


def run(tests: unittest.TestSuite, result: Recorder) -> None:
    """Run all tests, with each layer set up before its first and torn down after its last."""
    parts: dict[int, tuple[Any, unittest.TestSuite]] = {}
    for layer, part in by_layer(tests):
        _, together = parts.setdefault(id(layer), (layer, unittest.TestSuite()))
        together.addTests(part)
    for layer, together in parts.values():
        result.enter(layer)
        if layer is not None:
            layer.setUp()
        try:
            together.run(result)
        finally:
            if layer is not None:
                layer.tearDown()


def main() -> None:
    """Run the suite that the command line names."""
    # Tests print to standard output, and ZEO's look at standard error.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    run(load(sys.argv[1]), Recorder(output))
    # Some tests leave threads that do not end.
    output.close()
    os._exit(0)


if __name__ == "__main__":
    main()

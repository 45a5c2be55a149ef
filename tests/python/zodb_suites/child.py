"""Run one suite in this process, and print a line of JSON for each of its tests.

Usage: ``child.py SUITE [NAME ...]``; with names it runs only these tests. Lines have the test's
`name`, its `outcome` (passed, failed, skipped) and `detail`.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import sys
import tempfile
import time
import unittest
from collections import Counter
from typing import TYPE_CHECKING, Any

import ZODB.FileStorage
import ZODB.MappingStorage

from zodb_suites.suites import ON_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

# The longest tests take a minute on a slow machine. A test that hangs ends its suite.
TEST_DEADLINE = 300


class StorageOnFile(ZODB.FileStorage.FileStorage):  # type: ignore[misc]
    """Replaces ZODB's MappingStorage; the data are in a new file."""

    def __init__(self, name: str = "MappingStorage") -> None:
        super().__init__(os.path.join(tempfile.mkdtemp(), "Data.fs"))  # noqa: PTH118
        self.__name__ = name


class Recorder(unittest.TestResult):
    """Prints each test's outcome when the test has ended."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self._output = output
        self._names: dict[int, str] = {}
        self._outcome, self._detail = "passed", ""
        self._started = 0.0

    def expect(self, tests: dict[str, Any]) -> None:
        """Record the names of the following tests."""
        self._names |= {id(test): name for name, test in tests.items()}

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self._outcome, self._detail = "passed", ""
        self._started = time.monotonic()
        faulthandler.dump_traceback_later(TEST_DEADLINE, exit=True)

    def stopTest(self, test: Any) -> None:
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)
        self._print(self._names[id(test)])

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
            # The set-up of a class or a module failed; its tests are not run.
            self._print(str(test.id()))

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
    """Return the tests of a module, or of a class given as ``module:Class``."""
    if suite.endswith(ON_FILE):
        ZODB.MappingStorage.MappingStorage = StorageOnFile
    # Some of ZODB's test modules rely on others having imported this one.
    importlib.import_module("ZODB.tests.util")
    suite = suite.removesuffix(ON_FILE)
    module_name, _, class_name = suite.partition(":")
    module = importlib.import_module(module_name)
    if not class_name and hasattr(module, "test_suite"):
        return unittest.TestSuite([module.test_suite()])
    if not class_name:
        return unittest.defaultTestLoader.loadTestsFromModule(module)
    tests = unittest.TestSuite()
    # ZEO's classes use old names of tests too.
    for prefix in "test", "check":
        loader = unittest.TestLoader()
        loader.testMethodPrefix = prefix
        tests.addTest(loader.loadTestsFromTestCase(getattr(module, class_name)))
    return tests


def by_layer(tests: Any, layer: Any = None) -> Iterator[tuple[Any, Any]]:
    """Yield each test with its layer, which zope.testrunner sets up around tests."""
    layer = getattr(tests, "layer", layer)
    if isinstance(tests, unittest.TestSuite):
        for part in tests:
            yield from by_layer(part, layer)
    else:
        yield layer, tests


def name_tests(tests: unittest.TestSuite) -> Iterator[tuple[Any, str, Any]]:
    """Yield layer, name and test; names are unique within a suite and reproducible."""
    seen: Counter[str] = Counter()
    for layer, test in by_layer(tests):
        name = str(test.id()) if layer is None else f"{layer.__name__}/{test.id()}"
        seen[name] += 1
        yield layer, f"{name}#{seen[name]}" if seen[name] > 1 else name, test


def run(tests: unittest.TestSuite, result: Recorder, only: set[str]) -> None:
    """Run all tests, with each layer set up before its first and torn down after its last.

    If `only` has names, run only these.
    """
    parts: dict[int, tuple[Any, dict[str, Any]]] = {}
    for layer, name, test in name_tests(tests):
        if name in only or not only:
            parts.setdefault(id(layer), (layer, {}))[1][name] = test
    for layer, named in parts.values():
        result.expect(named)
        if layer is not None:
            layer.setUp()
        try:
            unittest.TestSuite(named.values()).run(result)
        finally:
            if layer is not None:
                layer.tearDown()


def main() -> None:
    """Run the suite that the command line names."""
    # Tests print to standard output, and ZEO's tests check standard error.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    run(load(sys.argv[1]), Recorder(output), set(sys.argv[2:]))
    # Some tests leave threads that do not end.
    output.close()
    os._exit(0)


if __name__ == "__main__":
    main()

"""Run a document's examples."""

from __future__ import annotations

import doctest
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from doctests.originals.checker import Checker, today
from doctests.originals.document import examples
from doctests.originals.guide import GUIDE_OPTIONS, GuideChecker, bytes_joined, guide_world
from doctests.originals.world import world

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """An example's output, with the document's expected output."""

    line: int
    source: str
    want: str
    got: str
    options: int
    passed: bool

    def __str__(self) -> str:
        return f"line {self.line}:\n{self.source}expected:\n{self.want}got:\n{today(self.got)}"


@dataclass
class Report:
    """The outcomes of a document's examples, in order."""

    name: str
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def failures(self) -> list[Outcome]:
        """The examples that failed."""
        return [outcome for outcome in self.outcomes if not outcome.passed]

    def __str__(self) -> str:
        count = f"{self.name}: {len(self.outcomes)} examples, {len(self.failures)} failures"
        return "\n\n".join([count, *map(str, self.failures)])


class Runner(doctest.DocTestRunner):
    """Records the outcome of every example."""

    def __init__(self, report: Report, checker: Checker, options: int = 0) -> None:
        super().__init__(checker=checker, verbose=False, optionflags=options)
        self._report = report

    def report_start(self, out: Any, test: Any, example: Any) -> None:
        pass

    def report_success(self, out: Any, test: Any, example: Any, got: str) -> None:  # noqa: ARG002
        self._keep(example, got, passed=True)

    def report_failure(self, out: Any, test: Any, example: Any, got: str) -> None:  # noqa: ARG002
        self._keep(example, got, passed=False)

    def report_unexpected_exception(
        self,
        out: Any,  # noqa: ARG002
        test: Any,  # noqa: ARG002
        example: Any,
        exc_info: Any,
    ) -> None:
        self._keep(example, "".join(traceback.format_exception(*exc_info)), passed=False)

    def _keep(self, example: doctest.Example, got: str, *, passed: bool) -> None:
        options = 0
        for flag, on in example.options.items():
            options |= flag if on else 0
        self._report.outcomes.append(
            Outcome(
                line=example.lineno + 1,
                source=example.source,
                want=example.want,
                got=got,
                options=options,
                passed=passed,
            )
        )


def run(name: str, text: str, directory: Path, file_storage: Callable[..., Any]) -> Report:
    """Run a document in an empty directory, with this file storage class."""
    report = Report(name)
    test = examples(text, name)
    with world(directory, file_storage) as names:
        test.globs.update(names)
        Runner(report, Checker()).run(test, out=lambda _: None, clear_globs=False)
    test.globs.clear()
    return report


def run_guide(name: str, text: str, directory: Path) -> Report:
    """Run the guide to dobbin with its files in an empty directory."""
    report = Report(name)
    test = examples(text, name)
    for example in test.examples:
        example.source = bytes_joined(example.source)
    with guide_world(directory) as names:
        test.globs.update(names)
        runner = Runner(report, GuideChecker(), GUIDE_OPTIONS)
        runner.run(test, out=lambda _: None, clear_globs=False)
    test.globs.clear()
    return report

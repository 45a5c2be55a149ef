"""Documents with one changed digit, to check that the runner notices."""

from __future__ import annotations

import doctest
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ADDRESS = re.compile(r"at 0x[0-9a-f]+")
_DIGEST = re.compile(r"\('C', \('.*',\)\)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}")
_TID = re.compile(r"'(?:\\x[0-9a-f]{2}|\w)+'")
_QUEUE = re.compile(r"\[<\d+ \d+ \w+ \(\) {}>\]")


@dataclass(frozen=True)
class Mutation:
    """A digit in an example's expected output."""

    kind: str
    line: int
    column: int

    def apply(self, text: str) -> str:
        """Return the document with this digit incremented."""
        lines = text.splitlines(keepends=True)
        lines[self.line] = next_digit(lines[self.line], self.column)
        return "".join(lines)

    def __str__(self) -> str:
        return f"{self.kind}-{self.line + 1}-{self.column}"


def next_digit(line: str, column: int) -> str:
    """Return a line with one digit incremented."""
    digit = str((int(line[column]) + 1) % 10)
    return line[:column] + digit + line[column + 1 :]


def digits(line: str) -> Iterator[int]:
    """Yield the columns of a line's digits, except those of addresses, which vary."""
    addresses = [range(*match.span()) for match in _ADDRESS.finditer(line)]
    for column, character in enumerate(line):
        if character in "0123456789" and not any(column in span for span in addresses):
            yield column


def mutations(text: str) -> Iterator[Mutation]:
    """Yield a mutation for every digit in the expected output of a document."""
    lines = text.splitlines(keepends=True)
    for example in doctest.DocTestParser().get_examples(text):
        start = example.lineno + example.source.count("\n")
        logged = False
        for number in range(start, start + example.want.count("\n")):
            line = lines[number]
            logged = logged or (" zc.zrs." in line and line.rstrip().endswith(":"))
            for column in digits(line):
                yield Mutation(_kind(line, column, logged=logged), number, column)


def _kind(line: str, column: int, *, logged: bool) -> str:
    if logged:
        return "log"
    for kind, pattern in (
        ("digest", _DIGEST),
        ("date", _DATE),
        ("queue", _QUEUE),
        ("tid", _TID),
    ):
        if any(column in range(*match.span()) for match in pattern.finditer(line)):
            return kind
    return "length"


def sample(text: str, count: int) -> list[Mutation]:
    """Return the first, the last and evenly distributed mutations of each kind."""
    by_kind: dict[str, list[Mutation]] = {}
    for mutation in mutations(text):
        by_kind.setdefault(mutation.kind, []).append(mutation)
    chosen = []
    for found in by_kind.values():
        last = len(found) - 1
        places = sorted({last * i // max(1, count - 1) for i in range(count)})
        chosen += [found[place] for place in places]
    return chosen

"""The pages, and the fenced blocks in them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"

_FENCE = re.compile(r"```(\{\w+\} .*|\S*)")
_NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
_INSTEAD = re.compile(r"<!-- run instead: (.+) -->")
_FILE = re.compile(r"# (?P<path>/\S+)(?: on (?P<machine>\w+))?\n")


class PageError(Exception):
    """A page has a wrong form; the argument has the place and the error."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the number of its first line, its language, and its text.

    `not_run` is the reason in a comment above it, empty if the block is run; `instead` is a
    command that is run in its place, because machines are only directories.
    """

    page: str
    line: int
    language: str
    text: str
    not_run: str = ""
    instead: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> tuple[str, str] | None:
        """The path and machine of the block's file, from its first line."""
        found = _FILE.match(self.text)
        return found and (found["path"], found["machine"] or "")


def pages() -> list[Path]:
    """Return all pages, including README.md."""
    return [CHECKOUT / "README.md", *sorted(DOCS.rglob("*.md"))]


def name_of(page: Path) -> str:
    """Return the path of a page relative to the checkout."""
    return page.relative_to(CHECKOUT).as_posix()


def blocks(text: str, page: str) -> list[Block]:
    """Return the blocks of a page in order."""
    found: list[Block] = []
    lines = text.split("\n")
    number = 0
    reason = instead = ""
    while number < len(lines):
        line = lines[number]
        if line.startswith("```"):
            block, number = _fenced(lines, number, page)
            # Fences with directives, such as {toctree}, belong to Sphinx.
            if not block.language.startswith("{"):
                found.append(replace(block, not_run=reason, instead=instead))
            reason = instead = ""
            continue
        if "```" in line:
            raise PageError(f"{page}:{number + 1}: a fence that is not at the line's beginning")
        if line.startswith("    ") and not lines[number - 1].strip():
            raise PageError(f"{page}:{number + 1}: an indented block, which says no language")
        if comment := _NOT_RUN.fullmatch(line):
            reason = comment[1]
        elif comment := _INSTEAD.fullmatch(line):
            instead = comment[1]
        elif line.strip():
            reason = instead = ""
        number += 1
    return found


def _fenced(lines: list[str], start: int, page: str) -> tuple[Block, int]:
    """Return the block that begins at a line, and the number of the line after it."""
    opening = _FENCE.fullmatch(lines[start])
    if opening is None or not opening[1]:
        raise PageError(f"{page}:{start + 1}: a block without a language")
    try:
        end = lines.index("```", start + 1)
    except ValueError:
        raise PageError(f"{page}:{start + 1}: a block without an end") from None
    text = "".join(f"{line}\n" for line in lines[start + 1 : end])
    return Block(page, start + 2, opening[1], text), end + 1

"""Measures our FileStorage and ZODB's side by side, through Python, and prints the ratios.

Usage: ``python benches/filestorage.py [--quick] [--append] [FIGURE ...]``. Every figure is
taken on both in turn, several times; what counts is the ratio of the medians. `--append`
adds the table to benches/RESULTS.md.
"""

# ruff: noqa: T201 (printing is what a command does)

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import figures

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).with_name("RESULTS.md")
ROW = "| {:<44} | {:>11} | {:>11} | {:>7} | {:>8} |"


@dataclass(frozen=True)
class Result:
    """The medians of a figure, in its unit, and how many times ours is better."""

    figure: figures.Figure
    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        """Ours to ZODB's, so that more is better."""
        return (
            self.ours / self.theirs if self.figure.more_is_better else self.theirs / self.ours
        )

    def row(self) -> str:
        """Return the figure's line of the table."""
        target = f"{self.figure.target}x" if self.figure.target else ""
        numbers = (f"{number:,.4g}" for number in (self.ours, self.theirs))
        return ROW.format(self.figure.title, *numbers, f"{self.ratio:.2f}x", target)


def measure(figure: figures.Figure, place: figures.Place, rounds: int) -> Result:
    """Take a figure on both storages in turn."""
    numbers: dict[str, list[float]] = {"ours": [], "theirs": []}
    for turn in range(rounds):
        # Who is first may find warmer caches or a cooler processor.
        for side in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
            numbers[side].append(figure.take(place, figures.CLASSES[side]))
    return Result(figure, *(statistics.median(numbers[side]) for side in ("ours", "theirs")))


def main(arguments: Sequence[str]) -> None:
    """Take the figures that the command line names, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small files, to try it")
    parser.add_argument("--append", action="store_true", help="add to RESULTS.md")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="beginning of a title")
    options = parser.parse_args(arguments)
    chosen = [
        figure
        for figure in figures.FIGURES
        if not options.figures or figure.title.startswith(tuple(options.figures))
    ]
    lines = [
        ROW.format("figure", "zrs", "ZODB", "ratio", "at least"),
        "|-|-:|-:|-:|-:|",
    ]
    print(*lines, sep="\n", flush=True)
    with tempfile.TemporaryDirectory(dir=figures.MEMORY) as directory:
        place = figures.Place(Path(directory), quick=options.quick)
        for figure in chosen:
            lines.append(measure(figure, place, options.rounds).row())
            print(lines[-1], flush=True)
    if options.append:
        append(arguments, place, lines)


def append(arguments: Sequence[str], place: figures.Place, lines: list[str]) -> None:
    """Add a table to the page of results, with what it was measured on."""
    command = " ".join(["python benches/filestorage.py", *arguments])
    with RESULTS.open("a", encoding="utf-8") as page:
        page.write(
            f"\n## {time.strftime('%Y-%m-%d %H:%M')}\n\n"
            f"`{command}`: Python {platform.python_version()}, ZODB {version('ZODB')}, "
            f"{place.transactions} transactions of {figures.RECORDS} records of "
            f"{figures.RECORD_LENGTH} bytes.\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main(sys.argv[1:])

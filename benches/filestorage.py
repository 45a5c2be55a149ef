"""Compare our FileStorage with ZODB's, through Python, and print the ratios.

Usage: ``python benches/filestorage.py [--quick] [--append] [FIGURE ...]``. Every figure is
measured for both in turn, several times. The result is the best round of each, because other
load on the machine only makes rounds slower, or the median if the disk determines the time.
Times are processor times, except for loads in threads and synced commits, which use the wall
clock. `--append` adds the table to benches/RESULTS.md.
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
from records import RECORD_LENGTH

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).with_name("RESULTS.md")
ROW = "| {:<58} | {:>11} | {:>11} | {:>7} | {:>8} |"


@dataclass(frozen=True)
class Result:
    """A figure in its unit, and how many times better ours is."""

    figure: figures.Figure
    ours: float
    theirs: float | None

    def row(self) -> str:
        """Return the figure's line of the table."""
        ours, theirs = f"{self.ours:,.4g}", "" if self.theirs is None else f"{self.theirs:,.4g}"
        return ROW.format(self.figure.title, ours, theirs, self._ratio(), self.figure.target)

    def _ratio(self) -> str:
        if self.theirs is None:
            return ""
        ratio = self.ours / self.theirs
        return f"{ratio if self.figure.more_is_better else 1 / ratio:.2f}x"


def measure(figure: figures.Figure, place: figures.Place, rounds: int) -> Result:
    """Measure a figure for both storages in turn."""
    if figure.alone:
        return Result(figure, figure.take(place, figures.CLASSES["ours"]), None)
    numbers: dict[str, list[float]] = {"ours": [], "theirs": []}
    for turn in range(rounds * (3 if figure.waits_for_disk else 1)):
        # The first one may find warmer caches or a cooler processor.
        for side in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
            numbers[side].append(figure.take(place, figures.CLASSES[side]))
    best = max if figure.more_is_better else min
    choose = statistics.median if figure.waits_for_disk else best
    return Result(figure, choose(numbers["ours"]), choose(numbers["theirs"]))


def main(arguments: Sequence[str]) -> None:
    """Measure the figures on the command line, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small files, to try it")
    parser.add_argument("--append", action="store_true", help="add to RESULTS.md")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="beginning of a title")
    options = parser.parse_args(arguments)
    chosen = [
        figure
        for figure in figures.FIGURES
        if figure.title.startswith(tuple(options.figures) or ("",))
        and not (options.quick and figure.alone)
    ]
    lines = [
        ROW.format("figure", "zrs", "ZODB", "ratio", "target"),
        "|-|-:|-:|-:|-:|",
    ]
    print(*lines, sep="\n", flush=True)
    temporary = tempfile.TemporaryDirectory
    with temporary() as disk, temporary(dir=figures.MEMORY) as memory:
        place = figures.Place(Path(disk), Path(memory), quick=options.quick)
        for figure in chosen:
            lines.append(measure(figure, place, options.rounds).row())
            print(lines[-1], flush=True)
    if options.append:
        append(arguments, place, lines)


def append(arguments: Sequence[str], place: figures.Place, lines: list[str]) -> None:
    """Add a table to the page of results, with the machine and versions."""
    command = " ".join(["python benches/filestorage.py", *arguments])
    with RESULTS.open("a", encoding="utf-8") as page:
        page.write(
            f"\n## {time.strftime('%Y-%m-%d %H:%M')}\n\n"
            f"`{command}`: Python {platform.python_version()}, ZODB {version('ZODB')}, "
            f"{place.transactions} transactions of {figures.RECORDS} records of "
            f"{RECORD_LENGTH} bytes.\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main(sys.argv[1:])

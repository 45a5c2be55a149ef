"""Measures dobbin, ZODB and, where it is at hand, dobbin 0.3 side by side; prints a table.

Usage: ``python benches/dobbin.py [--quick] [--append] [FIGURE ...]``. Each figure is taken
in a process of its own, on all sides in turn, several times; what counts is the ratio of the
medians. `make .peers/dobbin03.made` installs dobbin 0.3 where there is a Python 2.7.
`--append` adds the table to benches/RESULTS.md.
"""

# ruff: noqa: T201 (printing is what a command does)

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

WORKER = Path(__file__).with_name("dobbin_worker.py")
OLD = Path(__file__).parents[1] / ".peers/dobbin03/bin/python"
RESULTS = Path(__file__).with_name("RESULTS.md")
ROW = "| {:<44} | {:>12} | {:>12} | {:>12} | {:>7} | {:>7} |"
MEMORY = "/dev/shm"  # noqa: S108 -- the directory in it has a name nobody can guess
SIDES = ("dobbin", "ZODB", "dobbin 0.3")

# Name, title, unit's sense (more is better), where, how many.
FIGURES: list[tuple[str, str, bool, str, int]] = [
    ("commits", "commits of 1 object, no sync, 1/s", True, MEMORY, 3000),
    ("commits100", "commits of 100 objects, no sync, 1/s", True, MEMORY, 200),
    ("commits", "commits of 1 object, on disk, synced, 1/s", True, "", 400),
    ("commits100", "commits of 100 objects, on disk, synced, 1/s", True, "", 80),
    ("reads", "attribute reads of a shared object, 1/s", True, MEMORY, 2_000_000),
    ("plain", "  the same of a plain Python object, 1/s", True, MEMORY, 2_000_000),
    ("changes", "checkout and change of loaded objects, 1/s", True, MEMORY, 20_000),
    ("opening", "open with 10 thousand transactions, s", False, MEMORY, 10_000),
    ("opening", "open with 100 thousand transactions, s", False, MEMORY, 100_000),
    ("opening", "open with 1 million transactions, s", False, MEMORY, 1_000_000),
    ("scanning", "open with 100 thousand, without index, s", False, MEMORY, 100_000),
    ("following", "catch-up of a second instance, transactions/s", True, MEMORY, 3000),
    ("stream_write", "stream written, MB/s", True, MEMORY, 256),
    ("stream_read", "stream read, MB/s", True, MEMORY, 256),
    ("memory", "memory per loaded object, bytes", False, MEMORY, 50_000),
]
LARGE = 1_000_000
FILLED = ("opening", "scanning")
# To make a file of a million transactions takes the others too long.
LARGEST = {"dobbin 0.3": 100_000, "ZODB": 100_000}


def take(python: str, side: str, figure: str, where: str, count: int) -> float | None:
    """Take a figure once, in a process of its own; None if the side has no such thing."""
    with tempfile.TemporaryDirectory(dir=where or ".") as directory:
        command = [python, str(WORKER), side, figure, directory, str(count)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 -- ours
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    return None if found is None else float(found)


def measure(
    pythons: dict[str, str], figure: tuple[str, str, bool, str, int], rounds: int, scale: int
) -> str:
    """Take a figure on all sides in turn; return the line of the table."""
    name, title, more, where, count = figure
    count //= scale
    taken: dict[str, list[float]] = {side: [] for side in pythons}
    for turn in range(1 if count >= LARGE and name == "opening" else rounds):
        sides = list(pythons) if turn % 2 else list(pythons)[::-1]
        for side in sides:
            if name not in FILLED or count <= LARGEST.get(side, count):
                found = take(pythons[side], side, name, where, count)
                if found is not None:
                    taken[side].append(found)
    medians = {side: statistics.median(found) for side, found in taken.items() if found}
    ours = medians["dobbin"]
    cells = [f"{medians[side]:,.5g}" if side in medians else "" for side in SIDES]
    for side in SIDES[1:]:
        other = medians.get(side)
        ratio = None if other is None else ours / other if more else other / ours
        cells.append("" if ratio is None else f"{ratio:.2f}x")
    return ROW.format(title, *cells)


def main(arguments: list[str]) -> None:
    """Take the figures that the command line names, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--append", action="store_true", help="add to RESULTS.md")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="beginning of a title")
    options = parser.parse_args(arguments)
    pythons = {"dobbin": sys.executable, "ZODB": sys.executable}
    if OLD.exists():
        pythons["dobbin 0.3"] = str(OLD)
    chosen = [
        figure
        for figure in FIGURES
        if not options.figures or figure[1].strip().startswith(tuple(options.figures))
    ]
    lines = [ROW.format("figure", *SIDES, "to ZODB", "to 0.3"), "|-|-:|-:|-:|-:|-:|"]
    print(*lines, sep="\n", flush=True)
    for figure in chosen:
        lines.append(measure(pythons, figure, options.rounds, 10 if options.quick else 1))
        print(lines[-1], flush=True)
    if options.append:
        command = " ".join(["python benches/dobbin.py", *arguments])
        with RESULTS.open("a", encoding="utf-8") as page:
            page.write(
                f"\n## dobbin, {time.strftime('%Y-%m-%d %H:%M')}\n\n`{command}`: Python "
                f"{platform.python_version()}, ZODB {version('ZODB')}; ratios over 1 are in "
                "our favour.\n\n" + "\n".join(lines) + "\n"
            )


if __name__ == "__main__":
    main(sys.argv[1:])

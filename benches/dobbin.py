"""Compare dobbin with ZODB and, if installed, with dobbin 0.3; print a table.

Usage: ``python benches/dobbin.py [--quick] [--append] [FIGURE ...]``. Each figure is measured
in a separate process, for all sides in turn, several times; the result is the ratio of the
medians. Commits alternate in short turns, so that other load on the machine affects all sides;
the result is the median of the turns' ratios. A file is filled once and opened several times,
each time by a new process. `make .peers/dobbin03.made` installs dobbin 0.3 if Python 2.7 is
available. `--append` adds the table to benches/RESULTS.md.
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
from typing import IO, cast

WORKER = Path(__file__).with_name("dobbin_worker.py")
OLD = Path(__file__).parents[1] / ".peers/dobbin03/bin/python"
RESULTS = Path(__file__).with_name("RESULTS.md")
ROW = "| {:<44} | {:>12} | {:>12} | {:>12} | {:>7} | {:>7} |"
MEMORY = "/dev/shm"  # noqa: S108 -- the directory in it has a name nobody can guess
SIDES = ("dobbin", "ZODB", "dobbin 0.3")

# Name, title, whether more is better, place, count.
FIGURES: list[tuple[str, str, bool, str, int]] = [
    ("commits", "commits of 1 object, no sync, 1/s", True, MEMORY, 3000),
    ("commits100", "commits of 100 objects, no sync, 1/s", True, MEMORY, 200),
    ("root_commits", "commits through `db.root`, no sync, 1/s", True, MEMORY, 3000),
    ("commits", "commits of 1 object, on disk, synced, 1/s", True, "", 400),
    ("commits100", "commits of 100 objects, on disk, synced, 1/s", True, "", 160),
    ("reads", "attribute reads of a shared object, 1/s", True, MEMORY, 2_000_000),
    ("plain", "  the same of a plain Python object, 1/s", True, MEMORY, 2_000_000),
    ("changes", "checkout and change of loaded objects, 1/s", True, MEMORY, 3000),
    ("opening", "open with 10 thousand transactions, s", False, MEMORY, 10_000),
    ("opening", "open with 100 thousand transactions, s", False, MEMORY, 100_000),
    ("opening", "open with 1 million transactions, s", False, MEMORY, 1_000_000),
    ("scanning", "open with 100 thousand, without index, s", False, MEMORY, 100_000),
    ("following", "catch-up of a second instance, transactions/s", True, MEMORY, 3000),
    ("told", "a waiting process is told of a commit, ms", False, MEMORY, 100),
    ("idle", "a waiting process takes of a processor, %", False, MEMORY, 2),
    ("stream_write", "stream written, MB/s", True, MEMORY, 128),
    ("stream_read", "stream read, MB/s", True, MEMORY, 128),
    ("memory", "memory per loaded object, bytes", False, MEMORY, 20_000),
]
PAIRED = ("commits", "commits100", "root_commits")
TURNS = 20
FILLED = ("opening", "scanning")
# The others take too long to make a file of a million transactions, and dobbin 0.3 has no
# index, so it opens files the same way with and without one.
LARGEST = {
    ("opening", "dobbin 0.3"): 100_000,
    ("opening", "ZODB"): 100_000,
    ("scanning", "dobbin 0.3"): 0,
}


def take(python: str, side: str, figure: str, where: str, count: int) -> float | None:
    """Measure a figure once, in a separate process; None if the side does not support it."""
    with tempfile.TemporaryDirectory(dir=where or ".") as directory:
        command = [python, str(WORKER), side, figure, directory, str(count)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 -- ours
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    return None if found is None else float(found)


class Committer:
    """A process that commits on request."""

    def __init__(self, python: str, side: str, figure: str, directory: str) -> None:
        command = [python, str(WORKER), side, figure, directory, "0"]
        self._process = subprocess.Popen(  # noqa: S603 -- ours
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._input = cast("IO[str]", self._process.stdin)
        self._output = cast("IO[str]", self._process.stdout)
        self._answer()

    def _answer(self) -> str:
        answer = self._output.readline()
        if not answer:
            raise SystemExit(f"{self._process.args!r} ended: {self._process.wait()}")
        return answer

    def commit(self, times: int) -> float:
        """Let it commit; return the number of commits per second."""
        self._input.write(f"{times}\n")
        self._input.flush()
        return float(self._answer())

    def end(self) -> None:
        """Stop it."""
        self._process.communicate()


def take_in_turns(
    pythons: dict[str, str], figure: str, where: str, count: int
) -> dict[str, list[float]]:
    """Measure the rate of commits of all sides, a few of each in turn."""
    with tempfile.TemporaryDirectory(dir=where or ".") as directory:
        committers = {}
        for number, (side, python) in enumerate(pythons.items()):
            own = Path(directory, str(number))
            own.mkdir()
            committers[side] = Committer(python, side, figure, str(own))
        taken: dict[str, list[float]] = {side: [] for side in pythons}
        for turn in range(TURNS):
            for side in list(pythons)[:: 1 if turn % 2 else -1]:
                taken[side].append(committers[side].commit(max(1, count // TURNS)))
        for committer in committers.values():
            committer.end()
    return taken


def measure(
    pythons: dict[str, str], figure: tuple[str, str, bool, str, int], rounds: int, scale: int
) -> str:
    """Measure a figure for all sides in turn; return the line of the table."""
    name, title, more, where, count = figure
    count = max(1, count // scale)
    if name in PAIRED:
        taken = take_in_turns(pythons, name, where, count)
    else:
        taken = {side: [] for side in pythons}
        for turn in range(1 if name in FILLED else rounds):
            for side in list(pythons)[:: 1 if turn % 2 else -1]:
                if count <= LARGEST.get((name, side), count):
                    found = take(pythons[side], side, name, where, count)
                    taken[side] += [] if found is None else [found]
    medians = {side: statistics.median(found) for side, found in taken.items() if found}
    cells = [f"{medians[side]:,.5g}" if side in medians else "" for side in SIDES]
    for side in SIDES[1:]:
        pairs = zip(taken["dobbin"], taken.get(side, ()), strict=False)
        ratios = [ours / other if more else other / ours for ours, other in pairs]
        cells.append(f"{statistics.median(ratios):.2f}x" if ratios else "")
    return ROW.format(title, *cells)


def main(arguments: list[str]) -> None:
    """Measure the figures on the command line, or all of them."""
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

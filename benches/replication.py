"""Measures replication by this project and by zc.zrs 3.1.0 side by side, and prints ratios.

Usage: ``python benches/replication.py [--quick] [--append] [FIGURE ...]``. Each system runs
as two processes on loopback, with fsync on; zc.zrs in ``.peers/zrs31``, which ``make
.peers/zrs31.made`` makes. The systems take turns; what counts is the median. `--append`
adds the table to benches/RESULTS.md, and the plot (bytes over time) goes to
benches/replication.png.
"""

# ruff: noqa: T201 (printing is what a command does)

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("RESULTS.md")
PLOT = Path(__file__).with_name("replication.png")
REPLICAS = Path(__file__).with_name("replicas.py")
MAKE_FS = CHECKOUT / "tests/python/interop/peers/make_fs.py"
PYTHONS = {
    "ours": Path(sys.executable),
    "theirs": CHECKOUT / ".peers/zrs31/bin/python",
}
ROW = "| {:<52} | {:>10} | {:>10} | {:>8} | {:>8} |"
MEGABYTE = 1e6


@dataclass(frozen=True)
class Shape:
    """So many transactions of so many records of so many bytes."""

    name: str
    transactions: int
    records: int
    size: int

    @property
    def megabytes(self) -> float:
        """The data, without headers."""
        return self.transactions * self.records * self.size / MEGABYTE


SHAPES = {
    "a": Shape("a", 100_000, 1, 200),
    "b": Shape("b", 5_000, 20, 4 << 10),
    "c": Shape("c", 100, 1, 4 << 20),
}


class Process:
    """A process of replicas.py."""

    def __init__(self, role: str, system: str, *arguments: object) -> None:
        command = [PYTHONS[system], REPLICAS, role, system, *arguments]
        self._process = subprocess.Popen(  # noqa: S603 -- our own program
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def expect(self, word: str) -> str:
        """Return the rest of the next line that begins with this word."""
        assert self._process.stdout is not None  # noqa: S101 -- it is a pipe
        for line in self._process.stdout:
            first, _, rest = line.partition(" ")
            if first.strip() == word:
                return rest
        raise RuntimeError(f"{self._process.args!r}: ended without saying {word}")

    def ask(self, word: str) -> dict[str, Any]:
        """Tell it to do something; return what it says then."""
        self.tell(word)
        answer: dict[str, Any] = json.loads(self.expect("DONE"))
        return answer

    def tell(self, word: str) -> None:
        """Tell it to do something."""
        assert self._process.stdin is not None  # noqa: S101 -- it is a pipe
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in self._process.stdin, self._process.stdout:
            if pipe is not None:
                pipe.close()


@contextmanager
def running(role: str, system: str, *arguments: object) -> Iterator[Process]:
    """Run a process of replicas.py, and end it."""
    process = Process(role, system, *arguments)
    try:
        yield process
    finally:
        process.end()


def free_address() -> str:
    """Return an address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@dataclass
class Place:
    """A directory with the files to replicate, each made once."""

    directory: Path
    quick: bool
    made: dict[str, tuple[Path, str]] = field(default_factory=dict)
    samples: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    def file(self, shape: Shape) -> tuple[Path, str]:
        """Return a file of this shape, and its last transaction."""
        if shape.name not in self.made:
            path = self.directory / f"{shape.name}.fs"
            numbers = [shape.transactions, shape.records, shape.size]
            command = [sys.executable, MAKE_FS, path, *numbers]
            done = subprocess.run(  # noqa: S603 -- our own program
                list(map(str, command)), check=True, capture_output=True, text=True
            )
            self.made[shape.name] = path, json.loads(done.stdout)["last_tid"]
        return self.made[shape.name]

    def shape(self, name: str) -> Shape:
        """Return a shape, a small one of the kind if it has to be quick."""
        shape = SHAPES[name]
        if not self.quick:
            return shape
        return Shape(name, max(shape.transactions // 20, 5), shape.records, shape.size)

    def empty(self, system: str) -> Path:
        """Return the path of a file that is not there."""
        for old in self.directory.glob(f"{system}-*"):
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink()
        return self.directory / f"{system}-secondary.fs"


def catch_up(place: Place, shape: Shape, system: str, engine: str) -> dict[str, Any]:
    """Replicate a file into an empty one; return what the secondary says."""
    source, last = place.file(shape)
    address, target = free_address(), place.empty(system)
    with running("primary", system, source, address, "--engine", engine) as primary:
        primary.expect("READY")
        arguments = [target, address, "--engine", engine, "--until", last]
        with running("secondary", system, *arguments) as secondary:
            done: dict[str, Any] = json.loads(secondary.expect("DONE"))
            done["primary_memory"] = primary.ask("memory")["memory"]
    equal = subprocess.run(["cmp", source, target], check=False).returncode == 0  # noqa: S603, S607
    if not equal:
        raise RuntimeError(f"{system}: {target} differs from {source}")
    return done


def md5_rate() -> float:
    """Return how many megabytes a second hashlib's MD5 does, on one core."""
    block = b"x" * (1 << 20)
    digest = hashlib.md5()  # noqa: S324 -- the protocol's checksum
    start = time.perf_counter()
    for _ in range(200):
        digest.update(block)
    return 200 * len(block) / MEGABYTE / (time.perf_counter() - start)


def lags(place: Place, system: str, engine: str, rate: int) -> list[float]:
    """Return the seconds from a commit's return until the secondary shows it, ascending."""
    count = rate * (1 if place.quick else 5)
    target = place.empty(system)
    source = place.directory / f"{system}-primary.fs"
    address = free_address()
    options = [address, "--engine", engine]
    with running("primary", system, source, *options, "--rate", rate) as primary:
        primary.expect("READY")
        first = primary.ask("commit 1")["commits"][0][0]
        with running("secondary", system, target, *options, "--moments") as secondary:
            secondary.expect("BEGUN")
            time.sleep(2)
            done = primary.ask(f"commit {count}")
            secondary.tell(f"until {done['commits'][-1][0]}")
            shown = sorted(json.loads(secondary.expect("DONE"))["moments"])
    if shown[0][0] > first:
        raise RuntimeError(f"{system}: not connected when the commits began")
    found = []
    position = 0
    for tid, returned in done["commits"]:
        while shown[position][0] < tid:
            position += 1
        found.append(max(shown[position][1] - returned, 0.0))
    return sorted(found)


@dataclass(frozen=True)
class Row:
    """A line of the table: medians of both systems, and their ratio."""

    title: str
    ours: float
    theirs: float
    target: str
    more_is_better: bool = True

    def text(self) -> str:
        """Return it as the table shows it."""
        ratio = self.ours / self.theirs if self.more_is_better else self.theirs / self.ours
        numbers = f"{self.ours:,.4g}", f"{self.theirs:,.4g}", f"{ratio:.2f}x"
        return ROW.format(self.title, *numbers, self.target)


def alternate(rounds: int, take: Callable[[str], Any]) -> dict[str, list[Any]]:
    """Take a figure of both systems in turn."""
    found: dict[str, list[Any]] = {"ours": [], "theirs": []}
    for turn in range(rounds):
        for system in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
            found[system].append(take(system))
    return found


def median(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def measure_catch_up(place: Place, name: str, engine: str, rounds: int) -> list[Row]:
    """Measure catching up with a file of a shape."""
    shape = place.shape(name)
    rates = []

    def take(system: str) -> dict[str, Any]:
        rates.append(md5_rate())
        done = catch_up(place, shape, system, engine)
        place.samples.setdefault(f"{system}, {name}, {engine}", done["samples"])
        return done

    found = alternate(rounds, take)
    seconds = {
        system: median([done["seconds"] for done in dones]) for system, dones in found.items()
    }
    speed = {system: shape.megabytes / taken for system, taken in seconds.items()}
    storage = "FileStorage of ours" if engine == "rust" else "ZODB's FileStorage"
    title = f"({name}) {shape.transactions} x {shape.records} x {shape.size} B, {storage}"
    targets = {
        ("a", "rust"): "40x",
        ("b", "rust"): "5x",
        ("c", "rust"): "1.5x",
        ("a", "python"): "2x",
        ("b", "python"): "2x",
        ("c", "python"): "1x",
    }
    rows = [Row(f"{title}: MB/s", speed["ours"], speed["theirs"], targets[name, engine])]
    if name == "a":
        per_second = {system: shape.transactions / taken for system, taken in seconds.items()}
        rows.append(Row("   transactions/s", per_second["ours"], per_second["theirs"], ""))
    share = {"b": "0.55", "c": "0.70"}.get(name, "") if engine == "rust" else ""
    rate = median(rates)
    rows.append(Row(f"   of the MD5 rate ({rate:.0f} MB/s)", speed["ours"] / rate, 1, share))
    for side in ("memory", "primary_memory"):
        memory = {
            system: max(done[side] for done in dones) / MEGABYTE
            for system, dones in found.items()
        }
        who = "secondary" if side == "memory" else "primary"
        title = f"   peak memory of the {who} (MB)"
        rows.append(Row(title, memory["ours"], memory["theirs"], "", more_is_better=False))
    return rows


def measure_lag(place: Place, rate: int, rounds: int) -> list[Row]:
    """Measure how long a commit takes to be seen on the secondary."""

    def take(system: str) -> list[float]:
        return lags(place, system, "rust", rate)

    found = alternate(rounds, take)
    rows = []
    for name, share in ("p50", 0.5), ("p99", 0.99):
        milliseconds = {
            system: median([1000 * run[int(len(run) * share)] for run in runs])
            for system, runs in found.items()
        }
        title = f"lag at {rate} commits/s, {name} (ms)"
        numbers = milliseconds["ours"], milliseconds["theirs"]
        rows.append(Row(title, *numbers, "2x", more_is_better=False))
    return rows


def plot(place: Place) -> None:
    """Draw the bytes over time of both systems, if matplotlib is there."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 -- only this benchmark has use for it
    except ImportError:
        print("no plot: matplotlib is missing (pip install -r requirements/bench.txt)")
        return
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 -- as above

    names = sorted({label.partition(", ")[2] for label in place.samples})
    figure, axes = plt.subplots(1, len(names), figsize=(5 * len(names), 4), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for system in PYTHONS:
            samples = place.samples.get(f"{system}, {name}", [])
            label = "this project" if system == "ours" else "zc.zrs 3.1.0"
            times = [moment for moment, _ in samples]
            axis.plot(times, [size / MEGABYTE for _, size in samples], label=label)
        axis.set(title=name, xlabel="seconds", ylabel="MB on the secondary")
        axis.legend()
    figure.tight_layout()
    figure.savefig(PLOT)


def main(arguments: Sequence[str]) -> None:
    """Take the figures that the command line names, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small files, to try it")
    parser.add_argument("--append", action="store_true", help="add to RESULTS.md")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "figures", nargs="*", metavar="FIGURE", help="a b c a-python lag-100 ..."
    )
    options = parser.parse_args(arguments)
    if not PYTHONS["theirs"].exists():
        sys.exit("there is no zc.zrs to compare with: make .peers/zrs31.made")
    figures: dict[str, Callable[[Place], list[Row]]] = {}
    for name in SHAPES:
        for engine, suffix in ("rust", ""), ("python", "-python"):
            figures[name + suffix] = functools.partial(
                measure_catch_up, name=name, engine=engine, rounds=options.rounds
            )
    for rate in 100, 1000:
        figures[f"lag-{rate}"] = functools.partial(
            measure_lag, rate=rate, rounds=options.rounds
        )
    lines = [ROW.format("figure", "zrs", "zc.zrs", "ratio", "at least"), "|-|-:|-:|-:|-:|"]
    print(*lines, sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        place = Place(Path(directory), quick=options.quick)
        for name in options.figures or figures:
            for row in figures[name](place):
                lines.append(row.text())
                print(lines[-1], flush=True)
        plot(place)
    if options.append:
        append(arguments, lines)


def append(arguments: Sequence[str], lines: list[str]) -> None:
    """Add a table to the page of results, with what it was measured on."""
    command = " ".join(["python benches/replication.py", *arguments])
    with RESULTS.open("a", encoding="utf-8") as page:
        page.write(
            f"\n## {time.strftime('%Y-%m-%d %H:%M')}\n\n"
            f"`{command}`: Python {platform.python_version()}, ZODB {version('ZODB')}; "
            "two processes on loopback, fsync on.\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main(sys.argv[1:])

"""Compare replication by this project with zc.zrs 3.1.0, and print the ratios.

Usage: ``python benches/replication.py [--quick] [--append] [FIGURE ...]``. Each system runs
as two processes on loopback, with fsync on; zc.zrs in ``.peers/zrs31``, which ``make
.peers/zrs31.made`` makes. The systems are measured in turn; the result is the median. The
figures of memory and of the first bytes of 5 GB require 11 GB of disk, in TMPDIR or /tmp. `--append`
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
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replica_runs import (
    MEGABYTE,
    PYTHONS,
    ROW,
    SHAPES,
    Place,
    Row,
    Shape,
    alternate,
    catch_up,
    free_address,
    median,
    running,
)
from replication_load import measure_attached, measure_first_byte, measure_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RESULTS = Path(__file__).with_name("RESULTS.md")
PLOT = Path(__file__).with_name("replication.png")


def md5_rate() -> float:
    """Return the throughput of hashlib's MD5 on one core in megabytes per second."""
    block = b"x" * (1 << 20)
    digest = hashlib.md5()  # noqa: S324 -- the protocol's checksum
    start = time.perf_counter()
    for _ in range(200):
        digest.update(block)
    return 200 * len(block) / MEGABYTE / (time.perf_counter() - start)


def lags(place: Place, system: str, engine: str, rate: int) -> list[float]:
    """Return the seconds from commits to their visibility on the secondary, sorted."""
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


def storage_alone(place: Place, shape: Shape) -> float:
    """Return the seconds that ZODB's storage needs for the same transactions as a secondary."""
    source, _ = place.file(shape)
    arguments = [place.empty("ours"), free_address(), "--engine", "python", "--source", source]
    with running("storage", "ours", *arguments) as storage:
        seconds: float = json.loads(storage.expect("DONE"))["seconds"]
    return seconds


def measure_catch_up(place: Place, name: str, engine: str, rounds: int) -> list[Row]:
    """Measure the time to catch up with a file of a shape."""
    shape = place.scaled(SHAPES[name])
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
    if engine == "python":
        alone = median([storage_alone(place, shape) for _ in range(rounds)])
        title = "   that storage by itself, from memory: MB/s"
        rows.append(Row(title, shape.megabytes / alone, speed["theirs"], ""))
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
    """Measure how long a commit takes to become visible on the secondary."""

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


def described(name: str) -> str:
    """Return the title of a plot from the names of a shape and an engine."""
    letter, _, engine = name.partition(", ")
    shape = SHAPES[letter]
    storage = "" if engine == "rust" else "\non ZODB's FileStorage"
    return f"{shape.transactions:,} transactions of {shape.records} x {shape.size:,} B{storage}"


def plot(place: Place) -> None:
    """Plot the bytes over time of both systems, if matplotlib is installed."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 -- only this benchmark has use for it
    except ImportError:
        print("no plot: matplotlib is missing (uv sync --inexact --group bench)")
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
        axis.set(title=described(name), xlabel="seconds", ylabel="MB on the secondary")
        axis.legend()
    figure.tight_layout()
    figure.savefig(PLOT)


def main(arguments: Sequence[str]) -> None:
    """Measure the figures on the command line, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small files, to try it")
    parser.add_argument("--append", action="store_true", help="add to RESULTS.md")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "figures",
        nargs="*",
        metavar="FIGURE",
        help="a b c a-python lag-100 attached memory ...",
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
    figures["attached"] = functools.partial(measure_attached, rounds=options.rounds)
    figures["memory"] = measure_memory
    figures["first-byte"] = measure_first_byte
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
        if place.samples:
            plot(place)
    if options.append:
        append(arguments, lines)


def append(arguments: Sequence[str], lines: list[str]) -> None:
    """Add a table to the page of results, with the machine and versions."""
    command = " ".join(["python benches/replication.py", *arguments])
    with RESULTS.open("a", encoding="utf-8") as page:
        page.write(
            f"\n## {time.strftime('%Y-%m-%d %H:%M')}\n\n"
            f"`{command}`: Python {platform.python_version()}, ZODB {version('ZODB')}; "
            "two processes on loopback, fsync on.\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main(sys.argv[1:])

"""Shared parts of replication.py's figures: processes, files, rows of the table."""

from __future__ import annotations

import json
import math
import shutil
import socket
import statistics
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHECKOUT = Path(__file__).resolve().parents[1]
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
    """Numbers of transactions, of records in each, and of bytes in each record."""

    name: str
    transactions: int
    records: int
    size: int

    @property
    def megabytes(self) -> float:
        """The length of the data without headers."""
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
        """Return the rest of the next line with this first word."""
        assert self._process.stdout is not None  # noqa: S101 -- it is a pipe
        for line in self._process.stdout:
            first, _, rest = line.partition(" ")
            if first.strip() == word:
                return rest
        raise RuntimeError(f"{self._process.args!r}: ended without saying {word}")

    def ask(self, word: str) -> dict[str, Any]:
        """Send a command; return the answer."""
        self.tell(word)
        answer: dict[str, Any] = json.loads(self.expect("DONE"))
        return answer

    def tell(self, word: str) -> None:
        """Send a command."""
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
    """Run a process of replicas.py during the block."""
    process = Process(role, system, *arguments)
    try:
        yield process
    finally:
        process.end()


def free_address() -> str:
    """Return a free address."""
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

    def forget(self, shape: Shape) -> None:
        """Remove the file of a shape."""
        path, _ = self.made.pop(shape.name)
        for kept in path.parent.glob(f"{path.name}*"):
            kept.unlink()

    def scaled(self, shape: Shape) -> Shape:
        """Return a shape, or a small one of its kind for quick runs."""
        if not self.quick:
            return shape
        return replace(shape, transactions=max(shape.transactions // 20, 5))

    def empty(self, system: str) -> Path:
        """Return the path of a file that does not exist."""
        for old in self.directory.glob(f"{system}-*"):
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink()
        return self.directory / f"{system}-secondary.fs"


def catch_up(place: Place, shape: Shape, system: str, engine: str) -> dict[str, Any]:
    """Replicate a file into an empty one; return the secondary's answer."""
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


@dataclass(frozen=True)
class Row:
    """A line of the table: medians of both systems, and their ratio."""

    title: str
    ours: float
    theirs: float
    target: str
    more_is_better: bool = True
    ratio: bool = True

    def text(self) -> str:
        """Return it as a line of the table."""
        ratio = self.ours / self.theirs if self.more_is_better else self.theirs / self.ours
        measured = self.ratio and not math.isnan(self.theirs)
        theirs = "" if math.isnan(self.theirs) else f"{self.theirs:,.4g}"
        numbers = f"{self.ours:,.4g}", theirs, f"{ratio:.2f}x" if measured else ""
        return ROW.format(self.title, *numbers, self.target)


def alternate(rounds: int, take: Callable[[str], Any]) -> dict[str, list[Any]]:
    """Measure a figure of both systems in turn."""
    found: dict[str, list[Any]] = {"ours": [], "theirs": []}
    for turn in range(rounds):
        for system in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
            found[system].append(take(system))
    return found


def median(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)

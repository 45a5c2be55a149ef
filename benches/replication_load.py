"""Cost of secondaries for a primary, memory of both sides, and time to the first byte.

Figures of replication.py.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from replica_runs import (
    MEGABYTE,
    Place,
    Row,
    Shape,
    alternate,
    catch_up,
    free_address,
    median,
    running,
)
from ZODB.FileStorage.FileStorage import FileIterator

if TYPE_CHECKING:
    from pathlib import Path

GIGABYTE = Shape("1GB", 12_500, 20, 4 << 10)
FIVE_GIGABYTES = Shape("5GB", 62_500, 20, 4 << 10)
LONG_RECORD = Shape("200MiB", 2, 1, 200 << 20)
COMMITS = 3000
CORES = 2
"""Of the machine: CPU that others take costs a primary no more than what is not idle."""


@dataclass(frozen=True)
class Attached:
    """A number of a primary's readers, which do not read if they are stalled."""

    readers: int
    stalled: bool = False

    def __str__(self) -> str:
        """Return it as in the table."""
        return "1 that is stalled" if self.stalled else str(self.readers)


def commit_rate(place: Place, attached: Attached, system: str) -> tuple[float, float]:
    """Return commits per second, and the CPU seconds of the readers and the primary."""
    source = place.empty(system)
    address = free_address()
    count = COMMITS // (10 if place.quick else 1)
    with ExitStack() as stack:
        primary = stack.enter_context(running("primary", system, source, address))
        primary.expect("READY")
        primary.ask("commit 1")
        readers = None
        if attached.readers:
            options = ["--readers", attached.readers, *(["--stalled"] * attached.stalled)]
            readers = stack.enter_context(running("readers", "ours", source, address, *options))
            readers.expect("READY")
            time.sleep(0.5)
        done = primary.ask(f"commit {count}")
        cpu = done["cpu"] + (readers.ask("end")["cpu"] if readers else 0)
    return count / done["seconds"], cpu / count


def measure_attached(place: Place, rounds: int) -> list[Row]:
    """Measure the commits of a primary with secondaries attached, and with none.

    The CPU time of the readers and their share of the primary's are subtracted, as if they ran
    on another core.
    """
    settings = [Attached(0), Attached(1), Attached(10), Attached(1, stalled=True)]
    found = {
        setting: alternate(rounds, functools.partial(commit_rate, place, setting))
        for setting in settings
    }
    rows = []
    alone: dict[str, tuple[float, float]] = {}
    for setting, systems in found.items():
        rate, cpu = (
            {system: median([run[part] for run in runs]) for system, runs in systems.items()}
            for part in (0, 1)
        )
        title = f"commits/s with {setting} attached, fsync on"
        rows.append(Row(title, rate["ours"], rate["theirs"], ""))
        if not setting.readers:
            alone = {system: (rate[system], cpu[system]) for system in rate}
            continue
        lost = {}
        for system, (free, least) in alone.items():
            taken = (cpu[system] - least) / CORES
            lost[system] = 100 * (1 - rate[system] / free)
            lost[system + " beyond CPU"] = 100 * (1 - free_of(rate[system], taken) / free)
        for part, least_loss in ("", ""), (" beyond CPU", "<10"):
            title = f"   loss{part} (%)"
            ours, theirs = lost["ours" + part], lost["theirs" + part]
            rows.append(Row(title, ours, theirs, least_loss, ratio=False))
    return rows


def free_of(rate: float, seconds: float) -> float:
    """Return the rate if each commit had taken this many seconds less."""
    return 1 / max(1 / rate - seconds, 1e-9)


def measure_memory(place: Place) -> list[Row]:
    """Measure our peak memory on both sides, and that of zc.zrs for the smallest file."""
    rows = []
    for shape in map(place.scaled, (GIGABYTE, FIVE_GIGABYTES, LONG_RECORD)):
        done = {"ours": catch_up(place, shape, "ours", "rust")}
        if shape.name == GIGABYTE.name:
            done["theirs"] = catch_up(place, shape, "theirs", "python")
        for key, who in ("memory", "secondary"), ("primary_memory", "primary"):
            peak = {system: said[key] / MEGABYTE for system, said in done.items()}
            title = f"peak memory of the {who}, {shape.name} (MB)"
            theirs = peak.get("theirs", float("nan"))
            rows.append(Row(title, peak["ours"], theirs, "", more_is_better=False))
        if shape.name != FIVE_GIGABYTES.name:
            place.forget(shape)
        place.empty("ours")
    return rows


def connected(host: str, port: int) -> socket.socket:
    """Return a connection; retry, because zc.zrs begins to listen late."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection((host, port))
        time.sleep(0.1)
    return socket.create_connection((host, port))


def first_byte(address: str, start: str) -> float:
    """Return the seconds from the request to the first byte after a transaction."""
    host, _, port = address.partition(":")
    with connected(host, int(port)) as connection:
        begun = time.perf_counter()
        for message in b"zrs2.1", bytes.fromhex(start):
            connection.sendall(len(message).to_bytes(4, "big") + message)
        if not connection.recv(1):
            raise RuntimeError("the primary has closed the connection")
        return time.perf_counter() - begun


def start_tids(path: Path) -> dict[str, str]:
    """Return tids near the end, in the middle and near the start of a file."""
    tids = [transaction.tid.hex() for transaction in FileIterator(str(path))]
    return {"end": tids[-4], "middle": tids[len(tids) // 2], "start": tids[2]}


def measure_first_byte(place: Place) -> list[Row]:
    """Measure first bytes at three places of a 5 GB file, of both kinds of storage."""
    shape = place.scaled(FIVE_GIGABYTES)
    source, _ = place.file(shape)
    tids = start_tids(source)
    seconds: dict[tuple[str, str], dict[str, float]] = {}
    for system, engine in ("ours", "rust"), ("ours", "python"), ("theirs", "python"):
        address = free_address()
        with running("primary", system, source, address, "--engine", engine) as primary:
            primary.expect("READY")
            seconds[system, engine] = {
                name: median([first_byte(address, tid) for _ in range(5)])
                for name, tid in tids.items()
            }
    rows = []
    for engine, storage in ("rust", "FileStorage of ours"), ("python", "ZODB's FileStorage"):
        ours, theirs = seconds["ours", engine], seconds["theirs", "python"]
        rows += [
            Row(
                f"first byte, {name} of {shape.name}, {storage} (ms)",
                1000 * ours[name],
                1000 * theirs[name],
                "",
                more_is_better=False,
            )
            for name in ours
        ]
        title = "   the middle, in times of the end"
        rows.append(
            Row(
                title,
                ours["middle"] / ours["end"],
                theirs["middle"] / theirs["end"],
                "<10",
                ratio=False,
            )
        )
    return rows

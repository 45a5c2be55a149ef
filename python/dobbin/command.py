"""The ``dobbin`` command: inspect, compact and recover database files."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import importlib.metadata
import itertools
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

from dobbin.exc import IntegrityError
from zc.zrs import _zrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

GOOD, PROBLEMS, UNREADABLE = 0, 1, 2
IDENTITY = 16  # bytes

DESCRIPTION = "Inspect, compact and recover dobbin database files."
EPILOG = """
Exit status: 0 if no problems were found, 1 if the database has problems, 2 if it cannot be
read. `check` and `dump` change nothing and can run while the database is in use.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except IntegrityError as error:
        sys.stderr.write(f"dobbin: {error}\n")
        return UNREADABLE
    except BrokenPipeError:
        # The reader has closed the pipe. Python would report that again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return GOOD
    except OSError as error:
        text = error if error.filename is None else f"{error.filename}: {error.strerror}"
        sys.stderr.write(f"dobbin: {text}\n")
        return UNREADABLE
    except KeyboardInterrupt:
        return 128 + 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dobbin", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument(
        "--version", action="version", version=f"dobbin {importlib.metadata.version('zrs')}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("check", check, "check a database for damage"),
        ("dump", dump, "print transactions and records, oldest first"),
        ("compact", compact, "rewrite a database without old states"),
        (
            "recover",
            recover,
            "make a database usable after its end was lost; keep a copy of the file",
        ),
    ):
        command = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=EPILOG
        )
        command.add_argument("path", help="the database file")
        command.set_defaults(run=run)
    commands.choices["compact"].add_argument(
        "--drop-unreachable",
        action="store_true",
        help="also remove objects that are not reachable from the root",
    )
    return parser


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _transactions(dump: _zrs.LogDump) -> Iterator[_zrs.LoggedTransaction]:
    while (transaction := dump.next()) is not None:
        yield transaction


def check(arguments: argparse.Namespace) -> int:
    """Print problems and counts; return the exit status."""
    reader = _zrs.LogDump(arguments.path)
    counts = dict.fromkeys(("transactions", "failed", "records"), 0)
    objects: set[int] = set()
    undecided: list[_zrs.LoggedTransaction] = []
    problems = _print_shortened(reader)
    for transaction in _transactions(reader):
        counts["transactions"] += 1
        counts["failed"] += transaction.committed is False
        counts["records"] += len(transaction.records)
        objects.update(row[0] for row in transaction.records if row[1] != "stream")
        if transaction.problems:
            undecided.append(transaction)
        # A later transaction shows whether this one was durable, or was never finished.
        while undecided and undecided[0].start < reader.durable:
            problems += _print_problems(undecided.pop(0))
    if undecided:
        start = undecided[0].start
        length = reader.progress[1] - start
        _print(f"offset {start}: {length} bytes of an unfinished transaction")
    problems += _print_dangling(reader)
    _print(
        f"{counts['transactions']} transactions ({counts['failed']} failed), "
        f"{counts['records']} records, {len(objects)} objects: {problems or 'no'} problems"
    )
    return PROBLEMS if problems else GOOD


def _print_shortened(reader: _zrs.LogDump) -> int:
    if reader.shortened is None:
        return 0
    _print(reader.shortened)
    return 1


def _print_dangling(reader: _zrs.LogDump) -> int:
    found = reader.dangling()
    for oid, position, target in found:
        place = "the root" if oid is None else f"offset {position}, object {oid}"
        _print(f"{place}: reference to object {target}, which does not exist")
    return len(found)


def _print_problems(transaction: _zrs.LoggedTransaction) -> int:
    for position, number, oids, text in transaction.problems:
        place = f"offset {position}, transaction {_or_unknown(number)}"
        if oids:
            place += ", object " + ", ".join(map(str, oids))
        _print(f"{place}: {text}")
    return len(transaction.problems)


def dump(arguments: argparse.Namespace) -> int:
    """Print all transactions with their problems; return the exit status."""
    reader = _zrs.LogDump(arguments.path)
    undecided: list[_zrs.LoggedTransaction] = []
    problems = _print_shortened(reader)
    for transaction in _transactions(reader):
        outcome = {True: "committed", False: "failed", None: "unfinished"}
        _print(
            f"transaction {_or_unknown(transaction.number)} at {transaction.start}, "
            f"{_time(transaction.microseconds)}: {outcome[transaction.committed]}"
        )
        for oid, kind, position, length, _ in transaction.records:
            _print(f"  {kind} of {oid} at {position}: {length} bytes")
        if transaction.problems:
            _print_problems(transaction)
            undecided.append(transaction)
        # As in `check`: a transaction that was never durable is unfinished, not damaged.
        while undecided and undecided[0].start < reader.durable:
            problems += len(undecided.pop(0).problems)
    return PROBLEMS if problems else GOOD


def _or_unknown(number: int | None) -> Any:
    return "unknown" if number is None else number


def _time(microseconds: int | None) -> str:
    if microseconds is None:
        return "time unknown"
    moment = dt.datetime.fromtimestamp(microseconds / 1e6, tz=dt.timezone.utc)
    return moment.isoformat(timespec="microseconds")


def compact(arguments: argparse.Namespace) -> int:
    """Replace the file of a database, which may be in use, by a smaller one."""
    log = _zrs.ObjectLog(arguments.path, identity=os.urandom(IDENTITY), existing=True)
    log.lock()
    try:
        now = int(time.time() * 1e6)
        before, after = log.compact(os.urandom(IDENTITY), now, arguments.drop_unreachable)
    finally:
        log.unlock()
    log.close()
    _print(f"{arguments.path}: compacted from {before} to {after} bytes")
    return GOOD


def _unused(path: Path) -> Path:
    """Return the path, or the path with a number appended, that is not in use."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(name for name in itertools.chain([path], numbered) if not name.exists())


def _copy(path: Path, copy: Path) -> None:
    """Copy a file with its owner and permissions, and sync the copy."""
    status = path.stat()
    descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with path.open("rb") as source, os.fdopen(descriptor, "wb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fchmod(descriptor, status.st_mode & 0o777)
            os.fsync(descriptor)
    except BaseException:
        copy.unlink()
        raise


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def recover(arguments: argparse.Namespace) -> int:
    """Make a database usable whose index shows that the end of the file is lost.

    The file is copied and its index renamed first, so that no information is lost.
    """
    reader = _zrs.LogDump(arguments.path)
    path = reader.path
    if reader.shortened is None:
        _print(f"{path}: nothing to recover: the file is not shorter than its index says")
        return GOOD
    suffix = f".lost-{reader.progress[1]}"
    index = path.with_name(f"{path.name}.index")
    file_copy = _unused(path.with_name(path.name + suffix))
    index_copy = _unused(index.with_name(index.name + suffix))
    _copy(path, file_copy)
    index.rename(index_copy)
    _sync_directory(path.parent)
    log = _zrs.ObjectLog(path, identity=os.urandom(IDENTITY), existing=True)
    last = log.number
    log.close()
    _print(reader.shortened)
    _print(f"the original files are kept as {file_copy} and {index_copy}")
    _print(f"{path} is usable again; its last transaction is {last}")
    return GOOD


if __name__ == "__main__":
    sys.exit(main())

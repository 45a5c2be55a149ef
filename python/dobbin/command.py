"""The command ``dobbin``: look at a database file, and make it smaller."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from dobbin.exc import IntegrityError
from zc.zrs import _zrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GOOD, PROBLEMS, UNREADABLE = 0, 1, 2
IDENTITY = 16  # bytes

EPILOG = """The exit status is 0 if all is well, 1 if something is wrong with the database,
2 if it cannot be read. `check` and `dump` change nothing, and may be run while the
database is in use."""


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
        # Nobody reads on. Python would say so once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return GOOD
    except OSError as error:
        sys.stderr.write(f"dobbin: {error.filename}: {error.strerror or error}\n")
        return UNREADABLE
    except KeyboardInterrupt:
        return 128 + 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dobbin", description=__doc__, epilog=EPILOG)
    parser.add_argument(
        "--version", action="version", version=f"dobbin {importlib.metadata.version('zrs')}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("check", check, "find what is wrong with a database"),
        ("dump", dump, "print transactions and records, oldest first"),
        ("compact", compact, "rewrite a database without old states"),
    ):
        command = commands.add_parser(name, help=text, description=text, epilog=EPILOG)
        command.add_argument("path", help="the database file")
        command.set_defaults(run=run)
    commands.choices["compact"].add_argument(
        "--drop-unreachable",
        action="store_true",
        help="leave out what cannot be reached from the root",
    )
    return parser


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _transactions(dump: _zrs.LogDump) -> Iterator[_zrs.LoggedTransaction]:
    while (transaction := dump.next()) is not None:
        yield transaction


def check(arguments: argparse.Namespace) -> int:
    """Print what is wrong; return whether anything is."""
    reader = _zrs.LogDump(arguments.path)
    counts = dict.fromkeys(("transactions", "failed", "records"), 0)
    objects: set[int] = set()
    unsettled: list[_zrs.LoggedTransaction] = []
    problems = 0
    for transaction in _transactions(reader):
        counts["transactions"] += 1
        counts["failed"] += transaction.committed is False
        counts["records"] += len(transaction.records)
        objects.update(row[0] for row in transaction.records if row[1] != "stream")
        if transaction.problems:
            unsettled.append(transaction)
        # A later transaction tells whether it was durable, or the end that was torn off.
        while unsettled and unsettled[0].start < reader.durable:
            problems += _say_problems(unsettled.pop(0))
    if unsettled:
        start = unsettled[0].start
        length = reader.progress[1] - start
        _say(f"offset {start}: {length} bytes of a transaction that is not finished")
    _say(
        f"{counts['transactions']} transactions ({counts['failed']} failed), "
        f"{counts['records']} records, {len(objects)} objects: {problems or 'no'} problems"
    )
    return PROBLEMS if problems else GOOD


def _say_problems(transaction: _zrs.LoggedTransaction) -> int:
    for position, number, oids, text in transaction.problems:
        words = f"offset {position}, transaction {'unknown' if number is None else number}"
        if oids:
            words += ", object " + ", ".join(map(str, oids))
        _say(f"{words}: {text}")
    return len(transaction.problems)


def dump(arguments: argparse.Namespace) -> int:
    """Print all transactions; return whether anything is wrong with them."""
    reader = _zrs.LogDump(arguments.path)
    unsettled: list[_zrs.LoggedTransaction] = []
    problems = 0
    for transaction in _transactions(reader):
        outcome = {True: "committed", False: "failed", None: "unfinished"}
        _say(
            f"transaction {_or_unknown(transaction.number)} at {transaction.start}, "
            f"{_time(transaction.microseconds)}: {outcome[transaction.committed]}"
        )
        for oid, kind, position, length, _ in transaction.records:
            _say(f"  {kind} of {oid} at {position}: {length} bytes")
        if transaction.problems:
            _say_problems(transaction)
            unsettled.append(transaction)
        # As in `check`: what was never durable is unfinished, not damaged.
        while unsettled and unsettled[0].start < reader.durable:
            problems += len(unsettled.pop(0).problems)
    return PROBLEMS if problems else GOOD


def _or_unknown(number: int | None) -> Any:
    return "unknown" if number is None else number


def _time(microseconds: int | None) -> str:
    if microseconds is None:
        return "time unknown"
    moment = dt.datetime.fromtimestamp(microseconds / 1e6, tz=dt.timezone.utc)
    return moment.isoformat(timespec="microseconds")


def compact(arguments: argparse.Namespace) -> int:
    """Put a smaller file in the place of a database, which may be in use."""
    # A log is made where there is none, but not by this.
    _zrs.LogDump(arguments.path)
    log = _zrs.ObjectLog(arguments.path, identity=os.urandom(IDENTITY))
    log.lock()
    try:
        now = int(time.time() * 1e6)
        before, after = log.compact(os.urandom(IDENTITY), now, arguments.drop_unreachable)
    finally:
        log.unlock()
    log.close()
    _say(f"{arguments.path}: {before} bytes became {after}")
    return GOOD


if __name__ == "__main__":
    sys.exit(main())

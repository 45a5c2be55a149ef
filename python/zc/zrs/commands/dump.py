"""``zrs dump``: print the transactions and data records of a database."""

import argparse
import base64
import datetime as dt
import json
import os
import re
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ZODB.FileStorage.format import CorruptedError
from ZODB.utils import oid_repr, p64, tid_repr, u64, z64

from zc.zrs import _zrs
from zc.zrs.commands.arguments import Commands, add_log_level
from zc.zrs.commands.files import check_file, naming_file
from zc.zrs.commands.output import write_line
from zc.zrs.primary import TidTooHigh

DESCRIPTION = """
Print the transactions and data records of a database, oldest first. If the file is damaged,
the output stops there, with exit status 1.
"""
RANGE_HELP = (
    "a transaction id (0x and 16 hexadecimal digits) or a UTC time, e.g. 2026-01-31T12:00"
)

MAGIC_BYTES = 4
LENGTH_BYTES = 8

_TID = re.compile(r"0x([0-9a-fA-F]{1,16})")


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "dump", help="print transactions and data records", description=DESCRIPTION
    )
    parser.set_defaults(
        run=lambda given: run_dump(
            given.path, given.start, given.stop, as_json=given.json, last=given.last
        )
    )
    parser.add_argument("path", type=Path, help="the Data.fs")
    parser.add_argument(
        "--from",
        dest="start",
        type=_tid,
        default=z64,
        metavar="TID|TIME",
        help=f"start with this transaction: {RANGE_HELP}",
    )
    parser.add_argument(
        "--to",
        dest="stop",
        type=_tid,
        default=b"\xff" * 8,
        metavar="TID|TIME",
        help="end with this transaction, in the same format",
    )
    parser.add_argument(
        "--last",
        action="store_true",
        help="print only the last transaction of a closed file, without reading the rest",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    add_log_level(parser)


def run_dump(
    path: Path, start: bytes, stop: bytes, *, as_json: bool = False, last: bool = False
) -> int:
    """Print the transactions from `start` to `stop`, both included; return the status.

    With `last`, print only the last transaction, if it is in that range.
    """
    show: Callable[[dict[str, Any]], str] = json.dumps if as_json else _text
    check_file("dump", path)
    with naming_file("dump", path):
        try:
            if last:
                start = max(start, _last_tid(path))
            for transaction in _transactions(path, start, stop):
                write_line(show(_transaction(transaction)))
                for record in transaction:
                    write_line(show(_record(record)))
        except CorruptedError as error:
            sys.stderr.write(f"zrs: {error}\n")
            return 1
    return 0


def _last_tid(path: Path) -> bytes:
    """Return the id of the last transaction from the end of the file; z64 for an empty file.

    A transaction ends with its length, which its header contains too. Raises `CorruptedError`
    for a file that does not end with a complete transaction.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == MAGIC_BYTES:
            return bytes(8)
        file.seek(max(size - LENGTH_BYTES, 0))
        length = file.read(LENGTH_BYTES)
        pos = size - LENGTH_BYTES - u64(length.rjust(LENGTH_BYTES, b"\0"))
        if pos >= MAGIC_BYTES:
            file.seek(pos)
            tid: bytes
            tid, header_length, status = struct.unpack(">8s8sc", file.read(17))
            if header_length == length and status != b"c":
                return tid
    raise CorruptedError(
        f"{path}: the file does not end with a complete transaction; a server may be"
        " committing to it, or it is damaged: run zrs check"
    )


def _transactions(path: Path, start: bytes, stop: bytes) -> Iterator[_zrs.TransactionRecord]:
    before = p64(max(u64(start) - 1, 0))
    try:
        reader = _zrs.TransactionReader(path, before)
        while (transaction := reader.next()) is not None and transaction.tid <= stop:
            yield transaction
    except TidTooHigh:
        return  # the last transaction is before the first one wanted


def _transaction(transaction: _zrs.TransactionRecord) -> dict[str, Any]:
    return {
        "type": "transaction",
        "tid": tid_repr(transaction.tid),
        "time": _zrs.tid_timestamp(transaction.tid),
        "position": transaction.pos,
        "status": transaction.status,
        "user": transaction.user.decode("utf-8", "replace"),
        "description": transaction.description.decode("utf-8", "replace"),
        "extension": base64.b64encode(transaction.extension_bytes).decode("ascii"),
    }


def _record(record: _zrs.DataRecord) -> dict[str, Any]:
    data = record.data
    cls = None if data is None else _zrs.record_class(data)
    return {
        "type": "record",
        "tid": tid_repr(record.tid),
        "oid": oid_repr(record.oid),
        "position": record.pos,
        "length": None if data is None else len(data),
        "class": cls and ".".join(cls),
        "data_tid": None if record.data_txn is None else tid_repr(record.data_txn),
    }


def _text(line: dict[str, Any]) -> str:
    if line["type"] == "transaction":
        words = f"transaction {line['tid']} of {line['time']} at {line['position']}"
        if line["status"] != " ":
            words += f" status {line['status']}"
        for name in "user", "description":
            words += f" {name} {line[name]!r}" if line[name] else ""
        length = len(base64.b64decode(line["extension"]))
        return f"{words} extension of {length} bytes" if length else words
    words = f"  object {line['oid']} at {line['position']}"
    if line["length"] is None:
        words += ": no data, its creation is undone"
    else:
        words += f": {line['class'] or '<unknown>'}, {line['length']} bytes"
    return f"{words}, the data of {line['data_tid']}" if line["data_tid"] else words


def _tid(text: str) -> bytes:
    if found := _TID.fullmatch(text):
        return bytes.fromhex(found[1].zfill(16))
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {RANGE_HELP}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.timezone.utc)
    return _zrs.tid_from_time(moment.timestamp())

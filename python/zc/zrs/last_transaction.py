"""``last-zeo-transaction``: the last transactions of the storages of ZEO servers."""

import argparse
import datetime as dt
import json
import sys
from collections.abc import Sequence

from zc.zrs.commands.arguments import add_version, address, timeout
from zc.zrs.commands.errors import CannotWrite
from zc.zrs.commands.output import any_encoding, printable, write, write_error
from zc.zrs.system.address import Address, show_address
from zc.zrs.zeo_lag.probe import DEFAULT_TIMEOUT, ProtocolError, committed, last_transactions

_NONE = bytes(8)


def main(argv: Sequence[str] | None = None) -> int:
    """Print each server's transactions.

    Return 1 if any server could not be queried, 2 if the output cannot be written.
    """
    given = _parser().parse_args(argv)
    any_encoding()
    try:
        return _print(given)
    except (CannotWrite, BrokenPipeError) as error:
        write_error(f"last-zeo-transaction: {error}")
        return CannotWrite.status


def _print(given: argparse.Namespace) -> int:
    status = 0
    for addr in given.servers:
        try:
            storages = last_transactions(addr, given.timeout)
        except (OSError, ProtocolError) as error:
            write_error(f"last-zeo-transaction: {show_address(addr)}: {error}")
            status = 1
            continue
        for name, tid in sorted(storages.items()):
            line = _as_json(addr, name, tid) if given.json else _as_text(addr, name, tid)
            write(line)
    return status


def _as_text(addr: Address, name: str, tid: bytes) -> str:
    if tid == _NONE:
        return f"{show_address(addr)} {printable(name)}: no transactions"
    time = dt.datetime.fromtimestamp(committed(tid), dt.timezone.utc)
    shown = f"{_format_tid(tid)} {time:%Y-%m-%d %H:%M:%S.%f} UTC"
    return f"{show_address(addr)} {printable(name)}: {shown}"


def _format_tid(tid: bytes) -> str:
    """Return the transaction id as ZODB shows it: in hexadecimal, without leading zero bytes."""
    return f"0x{tid.lstrip(bytes(1)).hex()}"


def _as_json(addr: Address, name: str, tid: bytes) -> str:
    return json.dumps(
        {
            "address": show_address(addr),
            "storage": name,
            "tid": None if tid == _NONE else _format_tid(tid),
            "time": None if tid == _NONE else committed(tid),
        }
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="last-zeo-transaction",
        description="Print the last transaction of each storage of ZEO servers: the server, the"
        " storage, the id of the transaction, and the time of its commit.",
    )
    add_version(parser)
    parser.add_argument(
        "servers",
        nargs="+",
        type=address,
        metavar="HOST:PORT",
        help="ZEO server; without a host, on this machine",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object per storage; times are seconds since 1970",
    )
    parser.add_argument(
        "-t",
        "--timeout",
        type=timeout,
        default=DEFAULT_TIMEOUT,
        metavar="DURATION",
        help=f"maximum time to wait for each server (default: {DEFAULT_TIMEOUT:g})",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

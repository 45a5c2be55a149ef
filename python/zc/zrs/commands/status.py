"""``zrs status``: show the status of storages."""

import argparse
import json
import os
import shutil
import sys

from zc.zrs.commands.arguments import Commands, add_log_level, argument_type, timeout
from zc.zrs.commands.output import any_encoding, printable, write
from zc.zrs.commands.status_table import colour, problems, rows, table
from zc.zrs.status.client import Found, ask_all, base_url
from zc.zrs.status.states import NO_ANSWER_MARK
from zc.zrs.system.quantities import parse_duration
from zc.zrs.system.terminal import is_screen

DESCRIPTION = """
Show the state of primaries and secondaries, of each storage at the given status addresses
(--status, or status-address). Exit status: 0 if all are ready, 1 if a secondary lags or has
not caught up since start, 2 if one has diverged, is stopped, or does not answer.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "status", help="show the state of primaries and secondaries", description=DESCRIPTION
    )
    parser.set_defaults(run=_run)
    add_servers(parser)
    add_log_level(parser)


def add_servers(parser: argparse.ArgumentParser) -> None:
    """Add the addresses of status servers and the options of requests."""
    parser.add_argument(
        "urls",
        nargs="+",
        type=argument_type(base_url),
        metavar="URL",
        help="status address: http://HOST:PORT/, https://HOST:PORT/, HOST:PORT, or :PORT for"
        " this machine",
    )
    parser.add_argument(
        "--storage",
        metavar="NAME",
        help="show only this storage (default: all storages at an address)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--lag",
        type=argument_type(_lag),
        metavar="DURATION",
        help="maximum lag of a ready secondary, e.g. 30s or 5m (default: 30s)",
    )
    parser.add_argument(
        "--timeout",
        type=timeout,
        default=5.0,
        metavar="DURATION",
        help="maximum time to wait for an answer (default: 5)",
    )


def in_colour() -> bool:
    """Return whether the output is a terminal that shows colours."""
    return is_screen(sys.stdout) and not os.environ.get("NO_COLOR")


def width() -> int | None:
    """Return the number of columns of the output, None if it is not a terminal."""
    return shutil.get_terminal_size().columns if is_screen(sys.stdout) else None


def report(found: list[Found], *, colours: bool) -> list[str]:
    """Return the lines of the report."""
    lines = [rows(one) for one in found]
    shown = iter(table([line for group in lines for line in group], width()))
    out = [next(shown)]
    for one, group in zip(found, lines, strict=True):
        own, *peers = [next(shown) for _ in group]
        out.append(colour(own, one.severity) if colours else own)
        mark = NO_ANSWER_MARK if one.severity == "bad" else "!"
        out += [f"  {mark} {printable(problem)}" for problem in problems(one)]
        out += peers
    return out


def _run(given: argparse.Namespace) -> int:
    any_encoding()
    found = ask_all(given.urls, given.timeout, given.lag, given.storage)
    if given.json:
        write(json.dumps([one.as_dict() for one in found], indent=1))
    else:
        write("\n".join(report(found, colours=in_colour())))
    return max(one.exit_status for one in found)


def _lag(text: str) -> str:
    parse_duration(text)
    return text

"""``zrs top``: show the status of storages continuously."""

import argparse
import contextlib
import itertools
import json
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import TypeAlias

from zc.zrs.commands.arguments import Commands, add_log_level, argument_type, duration
from zc.zrs.commands.output import any_encoding, printable, write
from zc.zrs.commands.status import add_servers, in_colour, report
from zc.zrs.commands.status_table import graph, lag, storage_name
from zc.zrs.status.client import Found, all_past_lags, ask_all
from zc.zrs.system.quantities import format_duration, parse_count
from zc.zrs.system.terminal import is_screen

DESCRIPTION = """
Live view of the state of primaries and secondaries, refreshed every second, with the lag of
the last minute as a graph; Ctrl-C exits. If the output is not a terminal, tables are printed
one after the other. The exit status is that of `zrs status` as of the last refresh.
"""
GRAPH_SAMPLES = 60
Lags: TypeAlias = "deque[float | None]"

_ALTERNATE_SCREEN, _NORMAL_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "top", help="live view, refreshed every second", description=DESCRIPTION
    )
    parser.set_defaults(run=_run)
    add_servers(parser)
    parser.add_argument(
        "--interval",
        type=duration,
        default=1.0,
        metavar="DURATION",
        help="time between refreshes (default: 1)",
    )
    parser.add_argument(
        "--count",
        type=argument_type(partial(parse_count, least=1)),
        metavar="N",
        help="exit after N refreshes (default: until Ctrl-C)",
    )
    add_log_level(parser)


def _run(given: argparse.Namespace) -> int:
    any_encoding()
    lags: dict[str, Lags] = {}
    numbers = itertools.count() if given.count is None else range(given.count)
    on_screen = is_screen(sys.stdout) and not given.json
    found = _ask(given)
    with (
        contextlib.suppress(KeyboardInterrupt),
        _alternate_screen() if on_screen else _plain_output(),
    ):
        for number in numbers:
            if number:
                time.sleep(given.interval)
                found = _ask(given)
            _record_lags(found, lags, given.timeout)
            if given.json:
                write(json.dumps([one.as_dict() for one in found]))
            elif on_screen:
                _draw(_lines(found, lags, colours=in_colour()))
            else:
                write("\n".join(_lines(found, lags, colours=False)))
    return max(one.exit_status for one in found)


def _ask(given: argparse.Namespace) -> list[Found]:
    return ask_all(given.urls, given.timeout, given.lag, given.storage)


def _record_lags(found: list[Found], lags: dict[str, Lags], timeout: float) -> None:
    """Append the current lags; for a new storage, fetch those of the last minutes first."""
    # A server that is given twice is recorded once.
    named = {storage_name(one): one for one in found}
    new = {name: one for name, one in named.items() if name not in lags and one.status}
    for name, past in zip(new, all_past_lags([*new.values()], timeout), strict=True):
        lags[name] = deque(past, maxlen=GRAPH_SAMPLES)
    for name, one in named.items():
        lags.setdefault(name, deque(maxlen=GRAPH_SAMPLES)).append(lag(one))


def _lines(found: list[Found], lags: dict[str, Lags], *, colours: bool) -> list[str]:
    lines = [f"zrs top  {time.strftime('%H:%M:%S')}", "", *report(found, colours=colours), ""]
    for name, of_storage in lags.items():
        known = [one for one in of_storage if one is not None]
        most = format_duration(max(known, default=None))
        lines.append(f"lag of {printable(name)}, at most {most}")
        lines.append(f"  {graph(of_storage)}")
    return lines


def _draw(lines: list[str]) -> None:
    width, height = shutil.get_terminal_size()
    fitting = [_cut(line, width) for line in lines[: height - 1]]
    sys.stdout.write(_HOME + "".join(f"{line}{_END_OF_LINE}\n" for line in fitting) + _REST)
    sys.stdout.flush()


def _cut(line: str, width: int) -> str:
    if not line.startswith("\x1b"):
        return line[:width]
    # A coloured line has escape sequences only at its ends.
    start, text = line[:5], line[5:-4]
    return f"{start}{text[:width]}\x1b[0m"


@contextlib.contextmanager
def _alternate_screen() -> Iterator[None]:
    """Use the terminal's alternate screen, and restore the terminal afterwards."""
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        sys.stdout.write(_ALTERNATE_SCREEN)
        yield
    finally:
        # A second signal must not interrupt the restoration.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.stdout.write(_NORMAL_SCREEN)
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, before)


def _terminated(*_: object) -> None:
    sys.exit(128 + signal.SIGTERM)


@contextlib.contextmanager
def _plain_output() -> Iterator[None]:
    yield

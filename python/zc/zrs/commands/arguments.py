"""Arguments that several commands take."""

import argparse
from typing import TypeAlias

from zc.zrs.address import Address, parse_address
from zc.zrs.config import seconds

# The class of what `add_subparsers` returns has no public name.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


def add_log_level(parser: argparse.ArgumentParser) -> None:
    """Take ``--log-level``."""
    parser.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        default="warning",
        help="what to log to standard error (default: warning)",
    )


def add_zeo(parser: argparse.ArgumentParser) -> None:
    """Take ``--zeo``."""
    parser.add_argument(
        "--zeo",
        type=address,
        metavar="HOST:PORT",
        help="serve ZEO clients too, as storage 1; port 0 takes any free port",
    )


def address(text: str) -> Address:
    """Return the address in an argument."""
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def duration(text: str) -> float:
    """Return the number of seconds in an argument."""
    try:
        return seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None

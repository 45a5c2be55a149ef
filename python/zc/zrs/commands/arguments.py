"""Arguments that several commands take, and the types of arguments.

The small programs load this, so it must import neither ZConfig nor the native module.
"""

import argparse
import importlib.metadata
import ipaddress
from pathlib import Path
from typing import TypeAlias

from zc.zrs.sections.datatypes import node_name, seconds, whole
from zc.zrs.system.address import Address, parse_address

# The class of what `add_subparsers` returns has no public name.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001

MAX_TIMEOUT = 24 * 3600
"""Seconds; sockets take 24 days at most."""

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


def add_version(parser: argparse.ArgumentParser) -> None:
    """Take ``--version``."""
    version = importlib.metadata.version("zrs")
    parser.add_argument("--version", action="version", version=f"{parser.prog} {version}")


def add_log_level(parser: argparse.ArgumentParser) -> None:
    """Take ``--log-level``."""
    parser.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        default="warning",
        help="minimum level of messages logged to standard error (default: warning)",
    )


def add_log_file(parser: argparse.ArgumentParser) -> None:
    """Take ``--log-file``."""
    parser.add_argument(
        "--log-file",
        type=Path,
        metavar="FILE",
        help="log to this file instead of standard error; SIGUSR2 reopens it",
    )


def whole_number(text: str) -> int:
    """Return the whole number in an argument."""
    try:
        return whole(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def network(text: str) -> str:
    """Return the address or network in an argument."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def name_of_node(text: str) -> str:
    """Return the name that a secondary gives itself, as an argument has it."""
    try:
        return node_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


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
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive_duration(text: str) -> float:
    """Return the number of seconds in an argument that cannot be none at all."""
    if (number := duration(text)) <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of seconds")
    return number


def timeout(text: str) -> float:
    """Return how long to wait for an answer, as an argument has it."""
    if (number := positive_duration(text)) > MAX_TIMEOUT:
        raise argparse.ArgumentTypeError(f"{text} is more than a day ({MAX_TIMEOUT} seconds)")
    return number

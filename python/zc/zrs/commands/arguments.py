"""Arguments that several commands take, and the types of arguments.

The small programs load this, so it must import neither ZConfig nor the native module.
"""

import argparse
import importlib.metadata
import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

from zc.zrs.sections.datatypes import node_name
from zc.zrs.system.address import parse_address
from zc.zrs.system.quantities import (
    parse_count,
    parse_duration,
    parse_positive_duration,
    quoted,
)

# The class of the result of `add_subparsers` has no public name.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001

Value = TypeVar("Value")

MAX_TIMEOUT = 24 * 3600
"""Seconds; sockets accept at most 24 days."""

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add ``--version``."""
    version = importlib.metadata.version("zrs")
    parser.add_argument("--version", action="version", version=f"{parser.prog} {version}")


def add_log_level(parser: argparse.ArgumentParser) -> None:
    """Add ``--log-level``."""
    parser.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        default="warning",
        help="minimum level of messages logged to standard error (default: warning)",
    )


def add_log_file(parser: argparse.ArgumentParser) -> None:
    """Add ``--log-file``."""
    parser.add_argument(
        "--log-file",
        type=Path,
        metavar="FILE",
        help="log to this file instead of standard error; SIGUSR2 reopens it",
    )


def argument_type(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """Return a type for argparse that reports the text of the parser's `ValueError`."""

    def parse_argument(text: str) -> Value:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_argument


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text, strict=False))


def _timeout(text: str) -> float:
    if (seconds := parse_positive_duration(text)) > MAX_TIMEOUT:
        raise ValueError(f"{quoted(text)} is more than a day ({MAX_TIMEOUT} seconds)")
    return seconds


address = argument_type(parse_address)
duration = argument_type(parse_duration)
name_of_node = argument_type(node_name)
network = argument_type(_network)
positive_duration = argument_type(parse_positive_duration)
timeout = argument_type(_timeout)
whole_number = argument_type(parse_count)

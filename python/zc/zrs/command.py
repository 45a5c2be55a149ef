"""The command ``zrs``: its arguments, and what it says when it fails."""

import argparse
import importlib.metadata
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from zc.zrs.address import Address, parse_address
from zc.zrs.config import seconds
from zc.zrs.service import CannotStart, run_primary, run_secondary

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status, 1 after a failure that was explained."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        stream=sys.stderr,
        level=arguments.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    try:
        status: int = arguments.run(arguments)
    except CannotStart as error:
        sys.stderr.write(f"zrs: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="zrs", description="Replicate ZODB databases.")
    parser.add_argument(
        "--version", action="version", version=f"zrs {importlib.metadata.version('zrs')}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_primary(commands)
    _add_secondary(commands)
    _add_demo(commands)
    return parser


def _add_primary(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "primary", help="serve a database to secondaries", description=run_primary.__doc__
    )
    parser.set_defaults(
        run=lambda given: run_primary(
            given.path,
            given.listen,
            zeo=given.zeo,
            wire_pickles=given.wire_pickles,
            close_deadline=given.close_deadline,
        )
    )
    parser.add_argument("path", type=Path, help="the Data.fs, made if there is none")
    parser.add_argument(
        "--listen",
        required=True,
        type=_address,
        metavar="HOST:PORT",
        help="where secondaries connect; port 0 takes any free port",
    )
    parser.add_argument(
        "--wire-pickles",
        choices=("python2", "python3"),
        help="how headers are written: python2 for secondaries on Python 2 alone",
    )
    parser.add_argument(
        "--close-deadline",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long secondaries may catch up at the end (default: 10)",
    )
    _add_common(parser)


def _add_secondary(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "secondary", help="follow a primary", description=run_secondary.__doc__
    )
    parser.set_defaults(
        run=lambda given: run_secondary(
            given.path,
            given.primary,
            zeo=given.zeo,
            keep_alive_delay=given.keep_alive_delay,
            reconnect_delay=given.reconnect_delay,
        )
    )
    parser.add_argument("path", type=Path, help="the copy's Data.fs, made if there is none")
    parser.add_argument(
        "--from",
        required=True,
        type=_address,
        dest="primary",
        metavar="HOST:PORT",
        help="where the primary listens",
    )
    parser.add_argument(
        "--keep-alive-delay",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="seconds between keep-alive messages (default: 0, none)",
    )
    parser.add_argument(
        "--reconnect-delay",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="seconds before trying to connect again (default: 60)",
    )
    _add_common(parser)


def _add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("demo", help="show replication between two processes")
    parser.set_defaults(run=_run_demo)
    parser.add_argument(
        "--directory", type=Path, help="where to put the databases; by default a new one"
    )
    parser.add_argument("--keep", action="store_true", help="leave the databases there")
    _add_log_level(parser)


def _run_demo(arguments: argparse.Namespace) -> int:
    # It needs the extra `zeo`, which the other commands can do without.
    try:
        from zc.zrs.demo.story import run_demo  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise CannotStart(f"the demo needs ZEO: pip install 'zrs[zeo]' ({error})") from error
    return run_demo(arguments.directory, keep=arguments.keep)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--zeo",
        type=_address,
        metavar="HOST:PORT",
        help="serve ZEO clients too, as storage 1; port 0 takes any free port",
    )
    _add_log_level(parser)


def _add_log_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        default="warning",
        help="what to log to standard error (default: warning)",
    )


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    try:
        return seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None


if __name__ == "__main__":
    sys.exit(main())

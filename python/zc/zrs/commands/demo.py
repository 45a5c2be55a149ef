"""``zrs demo``: show replication between two processes."""

import argparse
from pathlib import Path

from zc.zrs.commands.arguments import Commands, add_log_level
from zc.zrs.commands.errors import CannotStart


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("demo", help="show replication between two processes")
    parser.set_defaults(run=_run)
    parser.add_argument(
        "--directory", type=Path, help="directory for the databases (default: a new one)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the databases")
    add_log_level(parser)


def _run(given: argparse.Namespace) -> int:
    # It needs the extra `zeo`, which the other commands can do without.
    try:
        from zc.zrs.demo.story import run_demo  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise CannotStart(f"the demo requires ZEO: pip install 'zrs[zeo]' ({error})") from error
    return run_demo(given.directory, keep=given.keep)

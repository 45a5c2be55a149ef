"""``zrs demo``: show replication between two processes."""

import argparse
from pathlib import Path

from zc.zrs.commands.arguments import Commands, add_log_level
from zc.zrs.commands.errors import CannotStart

DESCRIPTION = """
Replicate a database from one process to another, kill the secondary while it receives data,
restart it, and compare the two databases.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "demo", help="show replication between two processes", description=DESCRIPTION
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "--directory", type=Path, help="directory for the databases (default: a new one)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the databases")
    add_log_level(parser)


def _run(given: argparse.Namespace) -> int:
    # Only this command requires the extra `zeo`.
    try:
        from zc.zrs.demo.story import run_demo  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise CannotStart(f"the demo requires ZEO: pip install 'zrs[zeo]' ({error})") from error
    return run_demo(given.directory, keep=given.keep)

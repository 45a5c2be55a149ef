"""``zrs secondary``: replicate from a primary."""

import argparse
from pathlib import Path

from zc.zrs.commands.arguments import (
    Commands,
    add_log_file,
    add_log_level,
    duration,
    name_of_node,
)
from zc.zrs.commands.service import run_secondary
from zc.zrs.commands.service_arguments import (
    add_blobs,
    add_commit_sync,
    add_primary,
    add_status,
    add_tls,
    add_tls_host,
    add_zeo,
    tls_files,
)


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "secondary", help="replicate from a primary", description=run_secondary.__doc__
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "path", type=Path, help="Data.fs of the copy; created if it does not exist"
    )
    add_primary(parser)
    parser.add_argument(
        "--keep-alive-delay",
        type=duration,
        default=0.0,
        metavar="DURATION",
        help="time between keep-alive messages; 0 disables them (default: 0)",
    )
    parser.add_argument(
        "--reconnect-delay",
        type=duration,
        default=60.0,
        metavar="DURATION",
        help="maximum time between attempts to connect; the first delays are shorter"
        " (default: 60)",
    )
    parser.add_argument(
        "--node-name",
        type=name_of_node,
        metavar="NAME",
        help="name of this secondary in the status and metrics of the primary: 1 to 64"
        " letters, digits, dots, hyphens and underscores (default: its address)",
    )
    add_tls(parser, "primaries")
    add_tls_host(parser)
    add_blobs(parser)
    add_commit_sync(parser)
    add_status(parser)
    add_zeo(parser)
    add_log_level(parser)
    add_log_file(parser)


def _run(given: argparse.Namespace) -> int:
    return run_secondary(
        given.path,
        given.primary,
        zeo=given.zeo,
        keep_alive_delay=given.keep_alive_delay,
        reconnect_delay=given.reconnect_delay,
        blob_dir=given.blob_dir,
        commit_sync=given.commit_sync,
        blobs=given.blobs,
        ssl=tls_files(given),
        status_address=given.status_address,
        status_names=given.status_names,
        storage_name=given.storage_name,
        node_name=given.node_name,
    )

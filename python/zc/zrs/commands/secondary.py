"""``zrs secondary``: follow a primary."""

import argparse
from pathlib import Path

from zc.zrs.commands.arguments import (
    Commands,
    add_blobs,
    add_commit_sync,
    add_log_file,
    add_log_level,
    add_primary,
    add_status,
    add_tls,
    add_tls_host,
    add_zeo,
    duration,
    name_of_node,
    tls_files,
)
from zc.zrs.commands.service import run_secondary


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "secondary", help="follow a primary", description=run_secondary.__doc__
    )
    parser.set_defaults(run=_run)
    parser.add_argument("path", type=Path, help="the copy's Data.fs, made if there is none")
    add_primary(parser)
    parser.add_argument(
        "--keep-alive-delay",
        type=duration,
        default=0.0,
        metavar="SECONDS",
        help="seconds between keep-alive messages (default: 0, none)",
    )
    parser.add_argument(
        "--reconnect-delay",
        type=duration,
        default=60.0,
        metavar="SECONDS",
        help="most seconds before trying to connect again; the first pauses are shorter (default: 60)",
    )
    parser.add_argument(
        "--node-name",
        type=name_of_node,
        metavar="NAME",
        help="the name by which the primary knows this secondary in its status and metrics: 1 to"
        " 64 letters, digits, dots, hyphens and underscores (default: its address)",
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

"""``zrs primary``: serve a database to secondaries."""

import argparse
from pathlib import Path

from zc.zrs.commands.arguments import (
    WITHOUT_HOST,
    Commands,
    add_blobs,
    add_commit_sync,
    add_log_file,
    add_log_level,
    add_status,
    add_tls,
    add_zeo,
    address,
    duration,
    network,
    positive_duration,
    tls_files,
    whole_number,
)
from zc.zrs.commands.service import run_primary


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "primary", help="serve a database to secondaries", description=run_primary.__doc__
    )
    parser.set_defaults(run=_run)
    parser.add_argument("path", type=Path, help="the Data.fs, made if there is none")
    parser.add_argument(
        "--listen",
        required=True,
        type=address,
        metavar="HOST:PORT",
        help=f"where secondaries connect; port 0 takes any free port, without a host {WITHOUT_HOST}",
    )
    parser.add_argument(
        "--wire-pickles",
        choices=("python2", "python3"),
        help="how headers are written: python2 for secondaries on Python 2 alone",
    )
    add_blobs(parser)
    add_commit_sync(parser)
    parser.add_argument(
        "--missing-blobs",
        choices=("stop", "skip"),
        default="stop",
        help="a blob whose file is missing ends the stream, or is sent as a record alone"
        " (default: stop)",
    )
    parser.add_argument(
        "--unverified-history",
        choices=("accept", "refuse"),
        default="accept",
        help="a secondary whose last transaction may have been dropped by a pack that left no"
        " list is served with a warning, or refused (default: accept)",
    )
    parser.add_argument(
        "--close-deadline",
        type=duration,
        default=10.0,
        metavar="SECONDS",
        help="how long secondaries may catch up at the end (default: 10)",
    )
    parser.add_argument(
        "--allow",
        action="append",
        type=network,
        metavar="NETWORK",
        help="an address or network that may connect, as 10.0.0.0/8; may be given more than"
        " once (default: all)",
    )
    parser.add_argument(
        "--max-connections",
        type=whole_number,
        metavar="NUMBER",
        help="how many connections are taken at once (default: 1000)",
    )
    parser.add_argument(
        "--handshake-deadline",
        type=positive_duration,
        metavar="SECONDS",
        help="how long a connection may say nothing (default: 30)",
    )
    add_tls(parser, "secondaries")
    add_status(parser)
    add_zeo(parser)
    add_log_level(parser)
    add_log_file(parser)


def _run(given: argparse.Namespace) -> int:
    return run_primary(
        given.path,
        given.listen,
        zeo=given.zeo,
        wire_pickles=given.wire_pickles,
        blob_dir=given.blob_dir,
        commit_sync=given.commit_sync,
        blobs=given.blobs,
        missing_blobs=given.missing_blobs,
        unverified_history=given.unverified_history,
        close_deadline=given.close_deadline,
        allow=given.allow,
        max_connections=given.max_connections,
        handshake_deadline=given.handshake_deadline,
        ssl=tls_files(given),
        status_address=given.status_address,
        status_names=given.status_names,
        storage_name=given.storage_name,
    )

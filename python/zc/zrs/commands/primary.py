"""``zrs primary``: serve a database to secondaries."""

import argparse
from pathlib import Path

from zc.zrs.commands.arguments import (
    Commands,
    add_log_file,
    add_log_level,
    address,
    duration,
    network,
    positive_duration,
    whole_number,
)
from zc.zrs.commands.service import run_primary
from zc.zrs.commands.service_arguments import (
    WITHOUT_HOST,
    add_blobs,
    add_commit_sync,
    add_status,
    add_tls,
    add_zeo,
    tls_files,
)


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "primary", help="serve a database to secondaries", description=run_primary.__doc__
    )
    parser.set_defaults(run=_run)
    parser.add_argument("path", type=Path, help="the Data.fs; created if it does not exist")
    parser.add_argument(
        "--listen",
        required=True,
        type=address,
        metavar="HOST:PORT",
        help="address to listen on for secondaries; port 0 picks a free port; without a host"
        f" {WITHOUT_HOST}",
    )
    parser.add_argument(
        "--wire-pickles",
        choices=("python2", "python3"),
        help="pickle dialect of message headers; use python2 only if a secondary runs on"
        " Python 2 (default: python3)",
    )
    add_blobs(parser)
    add_commit_sync(parser)
    parser.add_argument(
        "--missing-blobs",
        choices=("stop", "skip"),
        default="stop",
        help="what to do if the file of a blob is missing: stop ends the stream, skip sends"
        " only the record (default: stop)",
    )
    parser.add_argument(
        "--unverified-history",
        choices=("accept", "refuse"),
        default="accept",
        help="what to do with a secondary whose last transaction may have been removed by a"
        " pack that left no list: accept serves it and logs a warning, refuse rejects it"
        " (default: accept)",
    )
    parser.add_argument(
        "--close-deadline",
        type=duration,
        default=10.0,
        metavar="DURATION",
        help="on shutdown, wait up to this long for secondaries to catch up (default: 10)",
    )
    parser.add_argument(
        "--allow",
        action="append",
        type=network,
        metavar="NETWORK",
        help="address or network that may connect, e.g. 10.0.0.0/8; can be repeated"
        " (default: all)",
    )
    parser.add_argument(
        "--max-connections",
        type=whole_number,
        metavar="NUMBER",
        help="maximum number of concurrent connections (default: 1000)",
    )
    parser.add_argument(
        "--handshake-deadline",
        type=positive_duration,
        metavar="DURATION",
        help="drop connections that have not completed the handshake within this time"
        " (default: 30)",
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

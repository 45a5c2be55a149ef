"""Arguments that several commands take."""

import argparse
import importlib.metadata
import ipaddress
from pathlib import Path
from typing import TypeAlias

from zc.zrs.commands.service import CannotStart
from zc.zrs.config import node_name, seconds, whole
from zc.zrs.sections.filestorage import COMMIT_SYNCS, DEFAULT_COMMIT_SYNC
from zc.zrs.sections.ssl import password_function
from zc.zrs.system.address import Address, parse_address
from zc.zrs.tls import TLSFiles

# The class of what `add_subparsers` returns has no public name.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001

MAX_TIMEOUT = 24 * 3600
"""Seconds; sockets take 24 days at most."""

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


WITHOUT_HOST = "it is on all IPv4 addresses, and with [::] on those of IPv6 too"
"""What an address to listen at means without a host."""


def add_primary(parser: argparse.ArgumentParser) -> None:
    """Take ``--from``."""
    parser.add_argument(
        "--from",
        required=True,
        type=address,
        dest="primary",
        metavar="HOST:PORT",
        help="where the primary listens; without a host, on this machine",
    )


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
        help="what to log to standard error (default: warning)",
    )


def add_log_file(parser: argparse.ArgumentParser) -> None:
    """Take ``--log-file``."""
    parser.add_argument(
        "--log-file",
        type=Path,
        metavar="FILE",
        help="log to this file instead of standard error; SIGUSR2 reopens it",
    )


def add_commit_sync(parser: argparse.ArgumentParser) -> None:
    """Take ``--commit-sync``."""
    parser.add_argument(
        "--commit-sync",
        choices=COMMIT_SYNCS,
        default=DEFAULT_COMMIT_SYNC,
        help="how a commit is made durable: ordered syncs the data before the byte that marks"
        " them as committed, single syncs both at once (default: ordered)",
    )


def add_zeo(parser: argparse.ArgumentParser) -> None:
    """Take ``--zeo``."""
    parser.add_argument(
        "--zeo",
        type=address,
        metavar="HOST:PORT",
        help="serve ZEO clients too, as storage 1; port 0 takes any free port, without a host"
        f" {WITHOUT_HOST}",
    )


def add_status(parser: argparse.ArgumentParser) -> None:
    """Take ``--status``."""
    parser.add_argument(
        "--status",
        type=address,
        dest="status_address",
        metavar="HOST:PORT",
        help="serve the status by HTTP: a page, JSON, metrics; port 0 takes any free port."
        " It has no password, so give a host: without one it is for this machine only, with a"
        " warning",
    )
    parser.add_argument(
        "--storage-name",
        metavar="NAME",
        help="the name of the storage in the status (default: the path of the Data.fs)",
    )
    parser.add_argument(
        "--status-name",
        action="append",
        default=[],
        dest="status_names",
        metavar="NAME",
        help="a further host name that clients may use for the status, for example that of a"
        " proxy; * for any. May be given more than once",
    )


def add_tls(parser: argparse.ArgumentParser, trusted: str) -> None:
    """Take the options of a primary's or a secondary's certificates."""
    group = parser.add_argument_group("encryption, with TLS 1.3")
    group.add_argument(
        "--ssl-certificate", type=_existing, metavar="FILE", help="our certificate (PEM)"
    )
    group.add_argument(
        "--ssl-key",
        type=_existing,
        metavar="FILE",
        help="its private key, if it is not in the same file",
    )
    group.add_argument(
        "--ssl-password-function",
        type=_password_function,
        metavar="MODULE.NAME",
        help="a Python function that returns the key's password",
    )
    group.add_argument(
        "--ssl-authenticate",
        type=_existing,
        metavar="PATH",
        help=f"a file or directory with the certificates of {trusted} to trust",
    )


def add_tls_host(parser: argparse.ArgumentParser) -> None:
    """Take the options of what a secondary expects of its primary's certificate."""
    parser.add_argument(
        "--ssl-server-hostname",
        metavar="NAME",
        help="the host that the primary's certificate must be for, if it is not in --from",
    )
    parser.add_argument(
        "--no-ssl-check-hostname",
        action="store_true",
        help="take the primary's certificate whichever host it is for",
    )


# Without a certificate, or others' to trust, nothing would be encrypted.
_USELESS_ALONE = (
    "ssl_key",
    "ssl_password_function",
    "ssl_server_hostname",
    "no_ssl_check_hostname",
)


def tls_files(given: argparse.Namespace) -> TLSFiles | None:
    """Return what the options of certificates stand for, None without any."""
    if given.ssl_certificate is None and given.ssl_authenticate is None:
        for option in _USELESS_ALONE:
            if getattr(given, option, None):
                name = f"--{option.replace('_', '-')}"
                raise CannotStart(f"{name} needs --ssl-certificate or --ssl-authenticate")
        return None
    return TLSFiles(
        certificate=given.ssl_certificate,
        key=given.ssl_key,
        password=given.ssl_password_function,
        authenticate=given.ssl_authenticate,
        check_hostname=not getattr(given, "no_ssl_check_hostname", False),
        server_hostname=getattr(given, "ssl_server_hostname", None),
    )


def _existing(text: str) -> Path:
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"there is no {path}")
    return path


def _password_function(text: str) -> object:
    try:
        return password_function(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


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


def add_blobs(parser: argparse.ArgumentParser) -> None:
    """Add where blobs are, and whether their files are replicated."""
    parser.add_argument(
        "--blob-dir",
        type=Path,
        metavar="DIRECTORY",
        help="the directory of the database's blobs (default: it has none)",
    )
    parser.add_argument(
        "--blobs",
        choices=("all", "none"),
        default="all",
        help="none: replicate the records of blobs without their files (default: all)",
    )

"""Arguments of the commands that run a primary or a secondary."""

import argparse
from pathlib import Path

from zc.zrs.commands.arguments import address
from zc.zrs.commands.errors import CannotStart
from zc.zrs.files.commit_sync import COMMIT_SYNCS, DEFAULT_COMMIT_SYNC
from zc.zrs.sections.datatypes import password_function
from zc.zrs.tls import TLSFiles

WITHOUT_HOST = (
    "it listens on all IPv4 addresses, and with [::] as the host on all IPv4 and IPv6 addresses"
)
"""The meaning of an address to listen on without a host, for help texts."""


def add_primary(parser: argparse.ArgumentParser) -> None:
    """Add ``--from``."""
    parser.add_argument(
        "--from",
        required=True,
        type=address,
        dest="primary",
        metavar="HOST:PORT",
        help="address of the primary; without a host, this machine",
    )


def add_commit_sync(parser: argparse.ArgumentParser) -> None:
    """Add ``--commit-sync``."""
    parser.add_argument(
        "--commit-sync",
        choices=COMMIT_SYNCS,
        default=DEFAULT_COMMIT_SYNC,
        help="how a commit is made durable: ordered syncs the data before the byte that"
        " marks the transaction as committed, single syncs both at once (default:"
        " ordered)",
    )


def add_zeo(parser: argparse.ArgumentParser) -> None:
    """Add ``--zeo``."""
    parser.add_argument(
        "--zeo",
        type=address,
        metavar="HOST:PORT",
        help="also serve ZEO clients at this address, as storage 1; port 0 picks a free"
        f" port; without a host {WITHOUT_HOST}",
    )


def add_status(parser: argparse.ArgumentParser) -> None:
    """Add the options of the status server."""
    parser.add_argument(
        "--status",
        type=address,
        dest="status_address",
        metavar="HOST:PORT",
        help="serve the status over HTTP: a page, JSON and metrics; port 0 picks a free"
        " port. It has no password, so without a host only this machine can connect,"
        " and a warning is logged",
    )
    parser.add_argument(
        "--storage-name",
        metavar="NAME",
        help="name of the storage in the status (default: the path of the Data.fs)",
    )
    parser.add_argument(
        "--status-name",
        action="append",
        default=[],
        dest="status_names",
        metavar="NAME",
        help="additional host name by which clients reach the status, for example that of a"
        " proxy; * allows any name; can be repeated",
    )


def add_tls(parser: argparse.ArgumentParser, trusted: str) -> None:
    """Add the options of a primary's or a secondary's certificates."""
    group = parser.add_argument_group("encryption (TLS 1.3)")
    group.add_argument(
        "--ssl-certificate",
        type=_existing,
        metavar="FILE",
        help="certificate of this side (PEM)",
    )
    group.add_argument(
        "--ssl-key",
        type=_existing,
        metavar="FILE",
        help="private key, if it is not in the certificate file",
    )
    group.add_argument(
        "--ssl-password-function",
        type=_password_function,
        metavar="MODULE.NAME",
        help="Python function that returns the password of the private key",
    )
    group.add_argument(
        "--ssl-authenticate",
        type=_existing,
        metavar="PATH",
        help=f"file or directory with the certificates of {trusted} to trust",
    )


def add_tls_host(parser: argparse.ArgumentParser) -> None:
    """Add the options with which a secondary verifies its primary's certificate."""
    parser.add_argument(
        "--ssl-server-hostname",
        metavar="NAME",
        help="host name to expect in the primary's certificate, if it differs from that in"
        " --from",
    )
    parser.add_argument(
        "--no-ssl-check-hostname",
        action="store_true",
        help="do not verify the host name in the primary's certificate",
    )


# These options require a certificate, or certificates to trust.
_USELESS_ALONE = (
    "ssl_key",
    "ssl_password_function",
    "ssl_server_hostname",
    "no_ssl_check_hostname",
)


def tls_files(given: argparse.Namespace) -> TLSFiles | None:
    """Return the files of the options for certificates, None without these options."""
    if given.ssl_certificate is None and given.ssl_authenticate is None:
        for option in _USELESS_ALONE:
            if getattr(given, option, None):
                name = f"--{option.replace('_', '-')}"
                raise CannotStart(f"{name} requires --ssl-certificate or --ssl-authenticate")
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
        raise argparse.ArgumentTypeError(f"{path} does not exist")
    return path


def _password_function(text: str) -> object:
    try:
        return password_function(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_blobs(parser: argparse.ArgumentParser) -> None:
    """Add the options of blobs."""
    parser.add_argument(
        "--blob-dir",
        type=Path,
        metavar="DIRECTORY",
        help="blob directory of the database (default: no blobs)",
    )
    parser.add_argument(
        "--blobs",
        choices=("all", "none"),
        default="all",
        help="none: replicate the records of blobs but not their files (default: all)",
    )

"""``zkzeo-nagios``: a Nagios plugin that checks the ZEO servers registered in ZooKeeper."""

import argparse
import contextlib
import io
import sys
from typing import Any

from zc.zkzeo import NEEDS
from zc.zrs.commands.arguments import add_version, argument_type, whole_number
from zc.zrs.system.severity import CRITICAL, OK
from zc.zrs.zookeeper import options as zookeeper_options

try:
    import kazoo.exceptions
    import ZEO.nagios

    import zc.zk
    from zc.zk.connection_string import check_connection_string, check_path, check_place
    from zc.zk.errors import DISCONNECTED
except ModuleNotFoundError as error:
    _missing: ModuleNotFoundError | None = error
else:
    _missing = None


def check(
    connection: str, path: str, *, servers: int = 1, metrics: bool = False, **options: Any
) -> tuple[int, list[str]]:
    """Return the exit status, and a line for each server that is registered.

    :param options: further arguments of `zc.zk.ZooKeeper`, for example for TLS and SASL
    """
    try:
        check_place(connection, path)
        zk = zc.zk.ZooKeeper(connection, **options)
    except zc.zk.FailedConnect as error:
        return CRITICAL, [f"ZooKeeper does not answer: {error}"]
    except (ImportError, OSError, ValueError) as error:
        return CRITICAL, [f"cannot connect to ZooKeeper: {error}"]
    try:
        names = zk.get_children(path)
    except zc.zk.NoChroot as error:
        return CRITICAL, [str(error)]
    except kazoo.exceptions.NoNodeError:
        return CRITICAL, [f"{path} is not in ZooKeeper"]
    except (*DISCONNECTED, kazoo.exceptions.ZookeeperError, zc.zk.LinkLoop) as error:
        return CRITICAL, [f"{path} cannot be read: {error!r}"]
    finally:
        zk.close()
    status = OK
    lines = []
    for name in names:
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output):
                found = ZEO.nagios.check(name, metrics, None, "minutes") or OK
        except Exception as error:  # noqa: BLE001 -- whatever it is that answers there
            found = CRITICAL
            output.write(f"invalid answer: {error}")
        status = max(status, found)
        lines.append(f"{name}: {' '.join(output.getvalue().split())}")
    if len(names) < servers:
        status = CRITICAL
        lines.insert(0, f"{len(names)} of {servers} servers at {path}")
    return status, lines


def main(args: list[str] | None = None) -> None:
    """Check, print the findings, and exit with their status."""
    if _missing is not None:
        sys.stdout.write(f"zkzeo-nagios {NEEDS} ({_missing})\n")
        sys.exit(CRITICAL)
    parser = _parser()
    options = parser.parse_args(args)
    try:
        how = zookeeper_options.from_section(options)
    except ValueError as error:
        parser.error(str(error))
    status, lines = check(
        options.zookeeper,
        options.path,
        servers=options.servers,
        metrics=options.output_metrics,
        **how,
    )
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.exit(status)


DESCRIPTION = """
Check ZEO servers registered in ZooKeeper (Nagios plugin). Each server is checked as by ZEO's own
zeo-nagios. The exit status is the worst of all servers': 0 for OK, 1 for a warning, 2 for a
server that does not answer, and if fewer servers are registered than expected.
"""

CONNECTION_HELP = {
    "use-ssl": "on: use TLS; implied by the other options of TLS",
    "ca": "PEM file with the certificate authorities to trust (default: those of the system)",
    "certfile": "PEM file with the certificate of this client",
    "keyfile": "file with the private key, if it is not in the certificate file",
    "keyfile-password": "password of the private key",
    "keyfile-password-file": "file with the password of the private key",
    "verify-certs": "off: do not verify the certificates of the servers (default: on)",
    "check-hostname": "off: do not verify the host names in the certificates (default: on)",
    "sasl-mechanism": "SASL mechanism: DIGEST-MD5 (default with a user name) or GSSAPI",
    "sasl-username": "SASL user name",
    "sasl-password": "SASL password",
    "sasl-password-file": "file with the SASL password",
    "auth-data": 'scheme and credential, e.g. "digest user:password"; can be repeated',
    "auth-data-file": "file with such lines; can be repeated",
    "default-acl": "accepted for consistency, without effect: no nodes are created",
}
"""The help texts of the options in `zc.zrs.zookeeper.options`."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="zkzeo-nagios", description=DESCRIPTION)
    add_version(parser)
    parser.add_argument(
        "path",
        type=argument_type(check_path),
        help="path in ZooKeeper below which the servers are registered",
    )
    parser.add_argument(
        "-Z",
        "--zookeeper",
        type=argument_type(check_connection_string),
        default=zc.zk.DEFAULT_CONNECTION,
        help="ZooKeeper servers: HOST:PORT,..., optionally with a path"
        f" (default: {zc.zk.DEFAULT_CONNECTION})",
    )
    parser.add_argument(
        "-n",
        "--servers",
        type=whole_number,
        default=1,
        help="minimum number of servers expected",
    )
    parser.add_argument(
        "-m", "--output-metrics", action="store_true", help="also print metrics"
    )
    group = parser.add_argument_group(
        "connection to ZooKeeper", "as in the section zookeeper-options"
    )
    for name in zookeeper_options.NAMES:
        group.add_argument(
            f"--{name}", action="append", metavar="VALUE", help=CONNECTION_HELP[name]
        )
    return parser


if __name__ == "__main__":
    main()

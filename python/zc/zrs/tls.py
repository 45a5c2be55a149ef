"""Certificates and keys for encrypted replication, by ZEO's conventions.

This module reads files and calls password functions; the native module parses certificates.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from zc.zrs._zrs import TLSMaterial

__all__ = ["TLSFiles"]

StrPath: TypeAlias = str | os.PathLike[str]
Password: TypeAlias = str | bytes | Callable[[], str | bytes]

NO_PATHS = frozenset(["DYNAMIC", "SIGNED", "-"])
"""Values of ``authenticate`` in ZEO that are not paths, and that are not supported here."""

BEGIN_CERTIFICATE = b"-----BEGIN "


@dataclass(frozen=True)
class TLSFiles:
    """The certificate of this side and the certificates to trust.

    This is the ``ssl`` argument of primaries and secondaries. A primary requires both, because
    its secondaries present certificates too.

    :param certificate: path of a PEM file with the certificate of this side, followed by
        intermediate certificates; it can also contain the key
    :param key: path of the PEM file with the private key
    :param password: password of the key, or a function that returns it
    :param authenticate: path of a PEM file, or of a directory of such files, with the
        certificates to trust, either of authorities or of single peers. Without it, a
        secondary trusts the authorities of its system
    :param check_hostname: whether a secondary verifies that the primary's certificate matches
        the host to which it connects
    :param server_hostname: host name to expect in the certificate instead; required for a UNIX
        socket, which has no host name
    """

    certificate: StrPath | None = None
    key: StrPath | None = None
    password: Password | None = None
    authenticate: StrPath | None = None
    check_hostname: bool = True
    server_hostname: str | None = None

    def read(self) -> "TLSMaterial":
        """Read the files and ask for the password.

        Raises `OSError`, and `ValueError` for invalid or contradictory values.
        """
        return {
            "certificate": _read(self.certificate),
            "key": _read(self.key),
            "password": _password(self.password),
            "authenticate": _certificates(self.authenticate),
            "check_hostname": self.check_hostname,
            "server_hostname": self.server_hostname,
            "shown": ", ".join(self._file_names()),
        }

    def _file_names(self) -> Iterable[str]:
        for name in "certificate", "key", "authenticate":
            path = getattr(self, name)
            if path is not None:
                yield f"{name} {os.fspath(path)}"


def files_of(ssl: Any) -> TLSFiles | None:
    """Return the `TLSFiles` of an ``ssl`` argument.

    Raises `TypeError` for anything but `TLSFiles`, a mapping of its arguments, and None.
    """
    if ssl is None or isinstance(ssl, TLSFiles):
        return ssl
    if isinstance(ssl, Mapping):
        return TLSFiles(**ssl)
    given = ssl[0] if isinstance(ssl, tuple) and ssl else ssl
    if isinstance(given, SSLContext):
        raise TypeError(
            "the private key of an ssl.SSLContext cannot be read, and replication needs"
            " it: pass zc.zrs.tls.TLSFiles(certificate=..., key=..., authenticate=...)"
        )
    raise TypeError(
        f"ssl must be a zc.zrs.tls.TLSFiles or a mapping of its arguments, not {ssl!r}"
    )


def check_authenticate(path: StrPath) -> None:
    """Raise `ValueError` for ZEO's values that are not paths."""
    if path in NO_PATHS:
        raise ValueError(
            f"authenticate {path} is not supported: give the path of a file or directory with"
            " the certificates to trust"
        )


def _read(path: StrPath | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


def _certificates(path: StrPath | None) -> list[bytes] | None:
    """Return the contents of the PEM file at a path, or of all PEM files in a directory."""
    if path is None:
        return None
    check_authenticate(path)
    place = Path(path)
    if not place.is_dir():
        return [place.read_bytes()]
    contents = [file.read_bytes() for file in sorted(place.iterdir()) if file.is_file()]
    return [content for content in contents if BEGIN_CERTIFICATE in content]


def _password(password: Password | None) -> bytes | None:
    if callable(password):
        password = password()
    return password.encode() if isinstance(password, str) else password

"""Certificates and keys for encrypted replication, by ZEO's conventions.

This module reads files and asks for passwords; what certificates mean is the native
module's business.
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
"""What ZEO takes for ``authenticate`` in place of a path, and has no meaning here."""

BEGIN_CERTIFICATE = b"-----BEGIN "


@dataclass(frozen=True)
class TLSFiles:
    """Who we are and whom we trust; the ``ssl`` argument of primaries and secondaries.

    A primary needs a certificate, and whom to trust: its secondaries show certificates too.

    :param certificate: the path of a PEM file with our certificate and those that lead
        from it to its authority; the key may be in it too
    :param key: the path of the PEM file with the private key
    :param password: what the key is encrypted with, or a function that returns it
    :param authenticate: a PEM file, or a directory of them: the authorities whose
        certificates are trusted, and single certificates that are. Without it a secondary
        trusts the authorities that its system does
    :param check_hostname: whether a secondary wants the primary's certificate to be for
        the host that it connects to
    :param server_hostname: the host that the certificate must be for instead; a UNIX
        socket has none of its own
    """

    certificate: StrPath | None = None
    key: StrPath | None = None
    password: Password | None = None
    authenticate: StrPath | None = None
    check_hostname: bool = True
    server_hostname: str | None = None

    def read(self) -> "TLSMaterial":
        """Read the files and ask for the password.

        Raises `OSError`, and `ValueError` for what cannot be meant.
        """
        return {
            "certificate": _read(self.certificate),
            "key": _read(self.key),
            "password": _password(self.password),
            "authenticate": _certificates(self.authenticate),
            "check_hostname": self.check_hostname,
            "server_hostname": self.server_hostname,
            "shown": ", ".join(self._shown()),
        }

    def _shown(self) -> Iterable[str]:
        for name in "certificate", "key", "authenticate":
            path = getattr(self, name)
            if path is not None:
                yield f"{name} {os.fspath(path)}"


def files_of(ssl: Any) -> TLSFiles | None:
    """Return what an ``ssl`` argument stands for.

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
    """Raise `ValueError` for those of ZEO's values that are no paths."""
    if path in NO_PATHS:
        raise ValueError(
            f"authenticate {path} is not supported: give the path of a file or directory with"
            " the certificates to trust"
        )


def _read(path: StrPath | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


def _certificates(path: StrPath | None) -> list[bytes] | None:
    """Return the PEM files at a path; in a directory, those of its files that are."""
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

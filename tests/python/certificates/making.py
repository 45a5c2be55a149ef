"""Certificate authorities, and their certificates in PEM files."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import trustme
from cryptography.hazmat.primitives import serialization

from zc.zrs.tls import TLSFiles

if TYPE_CHECKING:
    from pathlib import Path

LONG_AGO = dt.datetime(2001, 1, 1, tzinfo=dt.timezone.utc)
HOSTS = ("localhost", "127.0.0.1")


class Authority:
    """An authority with its files in a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._authority = trustme.CA(organization_name=name)
        self._issued = 0
        self.path = directory / f"{name}.pem"
        self._authority.cert_pem.write_to_path(str(self.path))

    def key_pem(self) -> bytes:
        """Return the authority's own private key."""
        pem: bytes = self._authority.private_key_pem.bytes()
        return pem

    def issue(self, *hosts: str, expired: bool = False) -> tuple[Path, Path]:
        """Return the paths of a certificate for these hosts and of its key."""
        issued = self._authority.issue_cert(
            *hosts or HOSTS, not_after=LONG_AGO if expired else None
        )
        self._issued += 1
        stem = f"{self._name}-{self._issued}"
        certificate, key = self._directory / f"{stem}.pem", self._directory / f"{stem}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return certificate, key

    def files(self, trusted: Authority | None = None, **options: Any) -> TLSFiles:
        """Return TLS options with a certificate for this machine that trust an authority."""
        certificate, key = self.issue()
        authenticate = (trusted or self).path
        defaults = {"certificate": certificate, "key": key, "authenticate": authenticate}
        return TLSFiles(**{**defaults, **options})


def encrypted(key: Path, password: bytes, *, traditional: bool = False) -> Path:
    """Return the path of an encrypted copy of a private key."""
    form = serialization.PrivateFormat
    data = serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
        serialization.Encoding.PEM,
        form.TraditionalOpenSSL if traditional else form.PKCS8,
        serialization.BestAvailableEncryption(password),
    )
    path = key.with_suffix(".traditional" if traditional else ".encrypted")
    path.write_bytes(data)
    return path


def password() -> str:
    """Return the password of encrypted keys; options name this function."""
    return "secret"

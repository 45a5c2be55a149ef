"""Lists of revoked certificates."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

if TYPE_CHECKING:
    from pathlib import Path

    from certificates.making import Authority

DAY = dt.timedelta(days=1)


def revoke(authority: Authority, certificate: Path, target: Path) -> Path:
    """Write the authority's certificate and a list that revokes this one to a file."""
    revoked = x509.load_pem_x509_certificate(certificate.read_bytes())
    issuer = x509.load_pem_x509_certificate(authority.path.read_bytes())
    key = serialization.load_pem_private_key(authority.key_pem(), None)
    now = dt.datetime.now(dt.timezone.utc)
    entry = (
        x509.RevokedCertificateBuilder()
        .serial_number(revoked.serial_number)
        .revocation_date(now - DAY)
        .build()
    )
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - DAY)
        .next_update(now + DAY)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_revoked_certificate(entry)
        .sign(key, hashes.SHA256())  # type: ignore[arg-type]
    )
    data = authority.path.read_bytes() + crl.public_bytes(serialization.Encoding.PEM)
    target.write_bytes(data)
    return target

"""Encrypted replication: accepted and refused peers, and the logs."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import ssl as python_ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from certificates.making import Authority, encrypted
from certificates.self_signed import self_signed
from replicas.comparison import assert_identical
from replicas.opening import tcp_address
from replicas.statuses import last_error
from replicas.transactions import commit
from replicas.waiting import last_transaction, wait_caught_up, wait_until
from streams.messages import Z64, sized
from zc.zrs.tls import TLSFiles

if TYPE_CHECKING:
    from replicas.opening import Opener
    from zc.zrs.primary import Primary
    from zc.zrs.secondary import Secondary


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    """Provide an untrusted authority."""
    return Authority(tmp_path, "theirs")


def assert_replicates(opener: Opener, primary: Primary, secondary: Secondary) -> None:
    for n in range(3):
        commit(primary, {n: b"x" * 300_000})
    wait_caught_up(primary, secondary)
    assert_identical(opener.path, opener.copy)
    assert primary.status()["peers"][0]["tls"]
    assert secondary.status()["tls"]
    assert (primary.status()["errors"], secondary.status()["errors"]) == (0, 0)


def assert_refused(
    primary: Primary,
    secondary: Secondary,
    caplog: pytest.LogCaptureFixture,
    on_primary: str,
    on_secondary: str,
) -> None:
    """Check that both logs have the reason and the peer, and that no data were sent."""
    for side, said, name in (
        (primary, on_primary, "zc.zrs.primary"),
        (secondary, on_secondary, "zc.zrs.secondary"),
    ):
        wait_until(lambda: side.status()["errors"], f"{name} notices")  # noqa: B023
        errors = [
            record.getMessage()
            for record in caplog.records
            if record.name == name and record.levelno >= logging.ERROR
        ]
        assert errors, name
        assert errors[0].startswith("IPv4Address(TCP, '127.0.0.1', "), errors
        assert "TLS failed: " in errors[0]
        assert said in errors[0], errors
        status = side.status()
        assert status["errors_by_kind"]["tls"]
        assert status["transactions"] == 0
    assert last_transaction(secondary) == Z64


def test_both_trust_each_other(opener: Opener, ours: Authority) -> None:
    primary = opener.primary(ssl=ours.files())
    assert_replicates(opener, primary, opener.secondary(primary, ssl=ours.files()))


def test_nothing_readable_goes_over_the_network(opener: Opener, ours: Authority) -> None:
    primary = opener.primary(ssl=ours.files())
    commit(primary, {0: b"readable"})
    context = python_ssl.create_default_context(cafile=str(ours.path))
    files = ours.files()
    context.load_cert_chain(str(files.certificate), str(files.key))
    with (
        socket.create_connection(tcp_address(primary), 60) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
    ):
        # Python's own TLS supports the same version, and is offered no other.
        assert client.version() == "TLSv1.3"
        client.sendall(sized(b"zrs2.0") + sized(Z64))
        received = b""
        while b"readable" not in received:
            received += client.recv(1 << 16)


def test_no_older_tls(opener: Opener, ours: Authority) -> None:
    primary = opener.primary(ssl=ours.files())
    context = python_ssl.create_default_context(cafile=str(ours.path))
    context.maximum_version = python_ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(tcp_address(primary), 60) as plain,
        pytest.raises(python_ssl.SSLError),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")
    wait_until(lambda: primary.status()["errors_by_kind"] == {"tls": 1})


def test_a_unix_socket_and_a_mapping_of_options(opener: Opener, ours: Authority) -> None:
    certificate, key = ours.issue()
    options = {"certificate": certificate, "key": key, "authenticate": ours.path}
    primary = opener.primary(addr=str(opener.directory / "socket"), ssl=options)
    with pytest.raises(ValueError, match="server-hostname"):
        opener.secondary(primary, ssl=options)
    secondary = opener.secondary(primary, ssl={**options, "server_hostname": "localhost"})
    assert_replicates(opener, primary, secondary)


def test_a_chain_and_a_directory(opener: Opener, ours: Authority, tmp_path: Path) -> None:
    # The key is in the certificate's file, and one file in the directory is not PEM.
    certificate, key = ours.issue()
    both = tmp_path / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    directory = tmp_path / "trusted"
    directory.mkdir()
    shutil.copy(ours.path, directory)
    (directory / "README").write_text("certificates to trust")
    files = TLSFiles(certificate=both, authenticate=directory)
    primary = opener.primary(ssl=files)
    assert_replicates(opener, primary, opener.secondary(primary, ssl=files))


@pytest.mark.parametrize("authority", [True, False])
def test_self_signed_certificates(opener: Opener, tmp_path: Path, authority: bool) -> None:
    ours = self_signed(tmp_path / "a.pem", authority=authority)
    theirs = self_signed(tmp_path / "b.pem", authority=authority)
    primary = opener.primary(addr=("localhost", 0), ssl=TLSFiles(ours, authenticate=theirs))
    address = ("localhost", tcp_address(primary)[1])
    secondary = opener.secondary(address, ssl=TLSFiles(theirs, authenticate=ours))
    assert_replicates(opener, primary, secondary)


def test_a_known_certificate_does_not_vouch_for_others(
    opener: Opener, ours: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """A peer that trusts the primary's certificate, but no authority, accepts no other."""
    known, _ = ours.issue("known.example")
    primary = opener.primary(ssl=ours.files())
    secondary = opener.secondary(primary, ssl=ours.files(authenticate=known))
    assert_refused(primary, secondary, caplog, "UnknownC", "UnknownIssuer")


def test_an_unknown_authority_of_the_primary(
    opener: Opener, ours: Authority, theirs: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    primary = opener.primary(ssl=theirs.files(trusted=ours))
    secondary = opener.secondary(primary, ssl=ours.files())
    assert_refused(
        primary,
        secondary,
        caplog,
        "the peer refused the connection: UnknownCA",
        "UnknownIssuer",
    )


def test_an_unknown_authority_of_the_secondary(
    opener: Opener, ours: Authority, theirs: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    primary = opener.primary(ssl=ours.files())
    secondary = opener.secondary(primary, ssl=theirs.files(trusted=ours))
    assert_refused(
        primary,
        secondary,
        caplog,
        "UnknownIssuer",
        "the peer refused the connection: UnknownCA",
    )


def test_a_secondary_without_a_certificate(
    opener: Opener, ours: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    primary = opener.primary(ssl=ours.files())
    secondary = opener.secondary(primary, ssl=TLSFiles(authenticate=ours.path))
    assert_refused(
        primary,
        secondary,
        caplog,
        "the peer has no certificate",
        "the peer refused the connection: CertificateRequired",
    )


def test_an_expired_certificate_of_the_primary(
    opener: Opener, ours: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = ours.issue("127.0.0.1", expired=True)
    primary = opener.primary(ssl=ours.files(certificate=certificate, key=key))
    secondary = opener.secondary(primary, ssl=ours.files())
    assert_refused(primary, secondary, caplog, "CertificateExpired", "expired")


def test_an_expired_certificate_of_the_secondary(
    opener: Opener, ours: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = ours.issue("127.0.0.1", expired=True)
    primary = opener.primary(ssl=ours.files())
    secondary = opener.secondary(primary, ssl=ours.files(certificate=certificate, key=key))
    assert_refused(primary, secondary, caplog, "expired", "CertificateExpired")


def test_an_expired_certificate_that_is_known(
    opener: Opener, ours: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expired = self_signed(tmp_path / "expired.pem", "127.0.0.1", days=-1)
    primary = opener.primary(ssl=TLSFiles(expired, authenticate=ours.path))
    secondary = opener.secondary(primary, ssl=ours.files(authenticate=expired))
    assert_refused(primary, secondary, caplog, "CertificateExpired", "expired")


def test_a_certificate_of_another_host(
    opener: Opener, ours: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = ours.issue("elsewhere.example")
    files = ours.files(certificate=certificate, key=key)
    primary = opener.primary(ssl=files)
    secondary = opener.secondary(primary, ssl=ours.files())
    assert_refused(
        primary, secondary, caplog, "the peer refused the connection: ", "not valid for name"
    )
    secondary.close()
    allowing: list[dict[str, Any]] = [
        {"check_hostname": False},
        {"server_hostname": "elsewhere.example"},
    ]
    for number, options in enumerate(allowing):
        copy = str(opener.directory / f"{number}.fs")
        other = opener.secondary(primary, copy, ssl=ours.files(**options))
        commit(primary, {number: b"data"})
        wait_caught_up(primary, other)


def test_no_check_of_the_host_is_a_check_of_the_authority(
    opener: Opener, ours: Authority, theirs: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    primary = opener.primary(ssl=theirs.files(trusted=ours))
    secondary = opener.secondary(primary, ssl=ours.files(check_hostname=False))
    assert_refused(primary, secondary, caplog, "UnknownCA", "UnknownIssuer")


def test_a_plain_secondary_of_an_encrypted_primary(
    opener: Opener, ours: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    primary = opener.primary(ssl=ours.files())
    commit(primary, {0: b"data"})
    secondary = opener.secondary(primary)
    assert_refused(
        primary, secondary, caplog, "the peer does not use TLS", "the primary requires TLS"
    )


def test_an_encrypted_secondary_of_a_plain_primary(
    opener: Opener, ours: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    primary = opener.primary()
    commit(primary, {0: b"data"})
    secondary = opener.secondary(primary, ssl=ours.files())
    assert_refused(primary, secondary, caplog, "the secondary uses TLS, but", "may not use TLS")


def test_a_tls_handshake_has_a_deadline_too(opener: Opener, ours: Authority) -> None:
    primary = opener.primary(ssl=ours.files(), handshake_deadline=0.3)
    with socket.create_connection(tcp_address(primary), 60) as client:
        assert client.recv(1) == b""
    wait_until(lambda: primary.status()["errors_by_kind"] == {"handshake": 1})


@pytest.mark.parametrize("password", ["secret", b"secret", lambda: "secret", lambda: b"secret"])
def test_an_encrypted_key(opener: Opener, ours: Authority, password: Any) -> None:
    certificate, key = ours.issue()
    files = ours.files(
        certificate=certificate, key=encrypted(key, b"secret"), password=password
    )
    primary = opener.primary(ssl=files)
    assert_replicates(opener, primary, opener.secondary(primary, ssl=files))


def damaged(path: Path) -> Path:
    copy = path.with_suffix(".damaged")
    copy.write_bytes(path.read_bytes().replace(b"\n", b"\n!", 3))
    return copy


def test_unusable_options_are_reported_at_once(
    opener: Opener, ours: Authority, theirs: Authority, tmp_path: Path
) -> None:
    certificate, key = ours.issue()
    secret = encrypted(key, b"secret")
    empty = tmp_path / "empty.pem"
    empty.touch()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"key": secret}, f"the private key is encrypted but no password.*{secret}"),
        ({"key": secret, "password": "guess"}, "cannot be decrypted.*password"),
        ({"key": encrypted(key, b"x", traditional=True)}, "openssl pkcs8 -topk8"),
        ({"key": theirs.issue()[1]}, "(?i)keys.*match|inconsistent"),
        ({"key": certificate}, "no private key"),
        ({"certificate": empty}, "certificate file contains no certificate"),
        ({"certificate": damaged(certificate)}, "certificate is damaged"),
        ({"certificate": None}, "a key was given without a certificate"),
        ({"authenticate": empty}, "`authenticate` contains no certificate"),
        ({"authenticate": "DYNAMIC"}, "DYNAMIC is not supported"),
        ({"server_hostname": "no host"}, "'no host'|\"no host\""),
    ]
    for options, message in wrong:
        # Both sides use all options, except that a primary does not check a host.
        for open_replica in opener.secondary, opener.primary:
            if open_replica == opener.primary and "server_hostname" in options:
                continue
            address: Any = ("127.0.0.1", 0) if open_replica == opener.secondary else None
            files = ours.files(**{"certificate": certificate, "key": key, **options})
            with pytest.raises(ValueError, match=message):
                open_replica(address, ssl=files)
    for options in {"certificate": None, "key": None}, {"authenticate": None}:
        with pytest.raises(ValueError, match="a primary requires"):
            opener.primary(ssl=ours.files(**options))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        opener.primary(ssl=ours.files(key=tmp_path / "nowhere"))


def test_an_ssl_context_is_refused(opener: Opener) -> None:
    context = python_ssl.create_default_context()
    # ZEO's servers and clients accept contexts.
    for given in context, (context, "localhost"):
        with pytest.raises(TypeError, match=r"SSLContext.*TLSFiles"):
            opener.primary(ssl=given)


def test_a_revoked_certificate(
    opener: Opener, ours: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from certificates.revoking import revoke  # noqa: PLC0415 -- used here alone

    certificate, key = ours.issue("revoked.example")
    trusted = revoke(ours, certificate, tmp_path / "with-revocations.pem")
    primary = opener.primary(ssl=ours.files(authenticate=trusted))
    good = opener.secondary(primary, str(tmp_path / "good.fs"), ssl=ours.files())
    commit(primary, {0: b"data"})
    wait_caught_up(primary, good)
    good.close()
    assert not primary.status()["errors"]
    caplog.clear()
    secondary = opener.secondary(primary, ssl=ours.files(certificate=certificate, key=key))
    wait_until(lambda: secondary.status()["errors"])
    assert "refused the connection: CertificateRevoked" in last_error(secondary)["message"]
    assert "revoked" in last_error(primary)["message"].lower()
    assert last_transaction(secondary) == Z64


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_key(opener: Opener, ours: Authority) -> None:
    files = ours.files()
    Path(str(files.key)).chmod(0)
    with pytest.raises(PermissionError, match=str(files.key)):
        opener.primary(ssl=files)

"""Options for connecting to ZooKeeper, given as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kazoo.security
import pytest
import ZConfig
import ZODB.config
import zodburi
from ZConfig.datatypes import asBoolean

from zc.zrs.zookeeper.options import NAMES, kazoo_options

if TYPE_CHECKING:
    from pathlib import Path


def options(*lines: str) -> dict[str, Any]:
    """Return the options in lines of a section."""
    texts: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(" ")
        texts.setdefault(name, []).append(value)
    return kazoo_options(texts)


def test_no_options() -> None:
    assert options() == {}


def test_tls(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("secret\n")
    assert options(f"ca {path}") == {"use_ssl": True, "ca": str(path)}
    assert options(f"certfile {path}", "verify-certs no", "check-hostname off") == {
        "use_ssl": True,
        "certfile": str(path),
        "verify_certs": False,
        "check_hostname": False,
    }
    assert options("use-ssl true", f"keyfile-password-file {path}") == {
        "use_ssl": True,
        "keyfile_password": "secret",
    }


def test_sasl(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(" of bob \n")
    digest = {"mechanism": "DIGEST-MD5", "username": "bob"}
    assert options("sasl-username bob", "sasl-password x") == {
        "sasl_options": {**digest, "password": "x"}
    }
    assert options("sasl-username bob", f"sasl-password-file {path}") == {
        "sasl_options": {**digest, "password": " of bob "}
    }
    assert options("sasl-mechanism GSSAPI") == {"sasl_options": {"mechanism": "GSSAPI"}}


def test_credentials_and_acls(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text("digest ann:x\nip 1.2.3.4\n")
    make = kazoo.security.make_acl
    assert options(
        "auth-data digest bob:pass word",
        f"auth-data-file {path}",
        "default-acl sasl:bob:cdrwa",
        "default-acl world:anyone:r",
        "default-acl x509:CN=a b,O=c:rw",
        "default-acl auth::cd",
        "default-acl digest:bob:5w9W4eL3797Y4Wq8AcKUPPk8ha4=:a",
    ) == {
        "auth_data": [("digest", "bob:pass word"), ("digest", "ann:x"), ("ip", "1.2.3.4")],
        "default_acl": [
            make("sasl", "bob", all=True),
            make("world", "anyone", read=True),
            make("x509", "CN=a b,O=c", read=True, write=True),
            make("auth", "", create=True, delete=True),
            make("digest", "bob:5w9W4eL3797Y4Wq8AcKUPPk8ha4=", admin=True),
        ],
    }


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["no-such-option 1"], "unknown option no-such-option"),
        (["ca x", "ca y"], "ca is given 2 times"),
        (["use-ssl perhaps"], "use-ssl perhaps"),
        (["ca /no/file"], "ca /no/file: .*No such file"),
        (["sasl-password-file /no/file", "sasl-username x"], "sasl-password-file /no/file"),
        (["sasl-password x"], "requires sasl-username"),
        (["sasl-username x"], "requires sasl-password"),
        (
            ["sasl-username x", "sasl-password x", "sasl-password-file x"],
            "sasl-password and sasl-password-file",
        ),
        (["auth-data digest"], "SCHEME CREDENTIAL"),
        (["default-acl world:anyone"], "world:anyone is not"),
        (["default-acl world:anyone:x"], "permissions of crwda"),
        (["default-acl world:anyone:"], "SCHEME:ID:PERMISSIONS"),
    ],
)
def test_invalid_options(lines: list[str], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        options(*lines)


def test_secrets_are_not_shown() -> None:
    with pytest.raises(ValueError, match="auth-data") as refused:
        options("auth-data bob:secret")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", [*NAMES, "no-such-option"])
def test_sections_accept_the_names(name: str) -> None:
    with pytest.raises(ZConfig.ConfigurationError) as refused:
        ZODB.config.storageFromString(
            "%import zc.zrs\n<primary>\nreplicate-to /p\nzookeeper h:1\nfilestorage-path x\n"
            f"<zookeeper-options>\n{name} /no/such\n</zookeeper-options>\nallow x\n</primary>"
        )
    assert ("not a known key name" in str(refused.value)) == (name == "no-such-option")


@pytest.mark.parametrize(
    ("section", "lines", "error"),
    [
        ("primary", "address :1\n<zookeeper-options/>", "which requires zookeeper"),
        (
            "zrs",
            "zookeeper h:1\nreplicate-from /p\n<replicate-from-zookeeper-options/>",
            "which requires replicate-from-zookeeper",
        ),
        (
            "primary",
            "zookeeper h:1\nreplicate-to /p\n<zookeeper-options>\nca /no/file\n</zookeeper-options>",
            "ca /no/file",
        ),
    ],
)
def test_bad_sections(section: str, lines: str, error: str) -> None:
    with pytest.raises(ZConfig.ConfigurationError, match=error):
        ZODB.config.storageFromString(
            f"%import zc.zrs\n<{section}>\n{lines}\nfilestorage-path x\n</{section}>"
        )


@pytest.mark.parametrize("query", ["zookeeper_nonsense=1", "zookeeper_ca=/no/file"])
def test_bad_uris(query: str) -> None:
    with pytest.raises(ValueError, match=r"nonsense|/no/file"):
        zodburi.resolve_uri(f"zkzeo://h:1/p?{query}")


@pytest.mark.parametrize("text", ["yes", "On", "TRUE", "no", "off", "False", "1", "", "maybe"])
def test_booleans_are_those_of_zconfig(text: str) -> None:
    try:
        expected: bool | str = asBoolean(text)
    except ValueError as error:
        expected = f"use-ssl {text}: {error}"
    try:
        found: bool | str = kazoo_options({"use-ssl": [text]})["use_ssl"]
    except ValueError as error:
        found = str(error)
    assert found == expected

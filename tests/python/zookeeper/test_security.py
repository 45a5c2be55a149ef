"""Sessions with servers that require TLS and SASL, in all programs and classes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import kazoo.exceptions
import kazoo.security
import pytest
import ZODB.config
import zodburi
from ZEO.Exceptions import ClientDisconnected

import zc.zk
import zc.zkzeo
import zc.zkzeo.nagios
import zc.zkzeo.runzeo
import zc.zrs.zk
from certificates.making import Authority, encrypted
from replicas.transactions import commit
from replicas.waiting import wait_until
from zookeeper.secure import HOST, PASSWORD, USERNAME, SecureServer, sasl, secure
from zookeeper.servers import plain_client
from zookeeper.zeo import PATH, configuration, wait_registered, zkrunzeo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from replicas.opening import Opener
    from zookeeper.servers import ZooKeeperServer

OWN = [kazoo.security.make_acl("sasl", USERNAME, all=True)]
SHORT = 0.7
"""Seconds after which a session that nobody answers is given up."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureServer]:
    with secure(tmp_path_factory.mktemp("secure")) as server:
        yield server


@pytest.fixture
def zk(server: SecureServer) -> Iterator[zc.zk.ZooKeeper]:
    """Open a session with all permissions, and an empty path that only it may access."""
    with contextlib.closing(zc.zk.ZooKeeper(server.address, **server.options)) as zk:
        zk.create_recursive(PATH, acl=OWN)
        yield zk
        zk.delete_recursive(PATH, force=True)


def refusal(hosts: str, *, by_us: bool = False, **options: Any) -> str:
    """Return why a session is not established, after a refusal or without an answer."""
    with contextlib.closing(zc.zk.ZooKeeper(hosts, connect=False, **options)) as zk:
        if by_us:
            wait_until(lambda: zk.client.handler.failure)
        with pytest.raises(zc.zk.FailedConnect) as refused:
            zk.wait_connected(SHORT)
        return str(refused.value)


# --- sessions -----------------------------------------------------------------------


def test_a_session(server: SecureServer, zk: zc.zk.ZooKeeper) -> None:
    options = {**server.options, "default_acl": OWN}
    with contextlib.closing(zc.zk.ZooKeeper(server.address, **options)) as session:
        children = zk.children(PATH)
        registration = session.register_server(PATH, (HOST, 1))
        wait_until(lambda: list(children) == [registration.name])
        with plain_client(server.server.address) as anybody:
            for forbidden, path in (
                (anybody.get, registration.path),
                (anybody.delete, registration.path),
                (anybody.create, f"{PATH}/1.2.3.4:5"),
            ):
                with pytest.raises(kazoo.exceptions.NoAuthError):
                    forbidden(path)
        assert session.client.get_acls(registration.path)[0] == OWN
    wait_until(lambda: not children)


def test_a_key_with_a_password(server: SecureServer) -> None:
    key = encrypted(server.keyfile, b"of the key")
    options = {**server.tls, "keyfile": str(key)}
    right: dict[str, Any] = {"keyfile_password": "of the key"}
    zc.zk.ZooKeeper(server.address, **options, **right).close()
    for wrong in "", "another":
        with pytest.raises(ValueError, match=key.name):
            zc.zk.ZooKeeper(server.address, **{**options, "keyfile_password": wrong})


def test_a_certificate_with_the_key(server: SecureServer, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(server.certfile.read_bytes() + server.keyfile.read_bytes())
    options = {**server.tls, "certfile": str(both)}
    del options["keyfile"]
    zc.zk.ZooKeeper(server.address, **options).close()


def test_servers_that_are_not_trusted(server: SecureServer, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    reason = "certificate verify failed"
    wrong = {**server.tls, "ca": str(other.path)}
    assert reason in refusal(server.address, by_us=True, **wrong)
    # The system's authorities do not vouch for them either.
    without = {name: value for name, value in server.tls.items() if name != "ca"}
    assert reason in refusal(server.address, by_us=True, **without)
    unverified = {**without, "verify_certs": False}
    zc.zk.ZooKeeper(server.address, **unverified).close()


def test_servers_of_another_name(server: SecureServer) -> None:
    hosts = f"localhost:{server.port}"
    assert "localhost" in refusal(hosts, by_us=True, **server.tls)
    zc.zk.ZooKeeper(hosts, **server.tls, check_hostname=False).close()


def test_clients_that_are_not_trusted(server: SecureServer, tmp_path: Path) -> None:
    ca = str(server.authority.path)
    assert "no answer" in refusal(server.address, use_ssl=True, ca=ca)
    certfile, keyfile = map(str, Authority(tmp_path, "other").issue("client"))
    assert "no answer" in refusal(
        server.address, use_ssl=True, ca=ca, certfile=certfile, keyfile=keyfile
    )


def test_only_one_side_uses_tls(server: SecureServer) -> None:
    assert "no answer" in refusal(server.address)
    assert "no answer" in refusal(server.server.address, **server.tls)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"ca": "x"}, ValueError, "ca requires use_ssl"),
        ({"use_ssl": True, "keyfile": "x"}, ValueError, "requires certfile"),
        ({"use_ssl": True, "ca": "/no/file"}, FileNotFoundError, "/no/file"),
        ({"use_ssl": True, "ca": __file__}, ValueError, "test_security.py"),
        (
            {"use_ssl": True, "verify_certs": False, "check_hostname": True},
            ValueError,
            "verify_certs",
        ),
        ({"sasl_options": {"username": "x"}}, ValueError, "mechanism"),
        ({"no_such_option": 1}, TypeError, "no_such_option"),
    ],
)
def test_invalid_options(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        zc.zk.ZooKeeper("127.0.0.1:1", **options)


def test_a_wrong_password(server: SecureServer) -> None:
    # At once, even if it would wait long for servers that do not answer.
    with pytest.raises(zc.zk.FailedConnect, match="authentication failed"):
        zc.zk.ZooKeeper(
            server.address, wait=True, **server.tls, sasl_options=sasl("not his password")
        )


def test_a_password_that_is_right_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A refused server registers once ZooKeeper accepts its password."""
    with secure(tmp_path / "zookeeper", "another password") as server:
        with plain_client(server.server.address) as client:
            client.create(PATH)
        with contextlib.closing(
            zc.zk.ZooKeeper(server.address, connect=False, **server.options)
        ) as zk:
            registration = zk.registration(PATH, (HOST, 1), {})
            registration.register_later()
            told: list[list[str]] = []
            zk.children(PATH, wait=False)(lambda names: told.append(list(names)))
            wait_until(lambda: "authentication failed; trying again" in caplog.text)
            assert not registration.registered.is_set()
            server.set_password(PASSWORD)
            server.server.restart()
            assert registration.registered.wait(60)
            wait_until(lambda: told and told[-1] == [registration.name])
            assert caplog.text.count("authentication failed; trying again") == 1


# --- programs and classes -----------------------------------------------------------


def zeo_configuration(server: SecureServer, tmp_path: Path) -> str:
    return configuration(server.address, tmp_path / "Data.fs", more=server.lines)


def test_zeo_servers_and_clients(
    server: SecureServer,
    zk: zc.zk.ZooKeeper,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with zkrunzeo(zeo_configuration(server, tmp_path), tmp_path) as program:
        (name,) = wait_registered(zk)
        assert zk.client.get_acls(f"{PATH}/{name}")[0] == OWN

        for kind in zc.zkzeo.client, zc.zkzeo.DB, zc.zkzeo.connection:
            kind(server.address, PATH, zookeeper_options=server.options).close()

        storage = ZODB.config.storageFromString(
            f"%import zc.zkzeo\n<zkzeoclient>\nzookeeper {server.address}\nserver {PATH}\n"
            f"{server.section}\n</zkzeoclient>"
        )
        assert storage.is_connected()
        storage.close()

        query = urlencode(
            {f"zookeeper_{n.replace('-', '_')}": text for n, text in server.texts.items()},
            quote_via=quote,
        )
        opener, rest = zodburi.resolve_uri(f"zkzeo://{server.address}{PATH}?{query}")
        assert "zookeeper_ca" not in rest
        storage = opener()
        assert storage.is_connected()
        storage.close()

        arguments = [f"--{n}={text}" for n, text in server.texts.items()]
        with pytest.raises(SystemExit) as ended:
            zc.zkzeo.nagios.main(["-Z", server.address, *arguments, "--use-ssl=on", PATH])
        assert ended.value.code == 0
        assert name in capsys.readouterr().out

        assert program.end() == 0
    assert zk.get_children(PATH) == []


def test_a_zeo_client_that_is_refused(server: SecureServer) -> None:
    options = {**server.tls, "sasl_options": sasl("not his password")}
    with pytest.raises(ClientDisconnected, match="authentication failed"):
        zc.zkzeo.client(server.address, PATH, zookeeper_options=options)


def test_nagios_is_refused(
    server: SecureServer, zk: zc.zk.ZooKeeper, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(*arguments: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as ended:
            zc.zkzeo.nagios.main([*arguments, PATH])
        return ended.value.code, "".join(capsys.readouterr())

    assert zk.get_children(PATH) == []
    plain = server.server.address
    assert check("-Z", plain) == (2, f"{PATH} cannot be read: NoAuthError()\n")
    status, output = check("-Z", plain, "--sasl-username=bob", "--sasl-password=wrong")
    assert status == 2
    assert "authentication failed" in output
    status, output = check("-Z", plain, "--ca=/no/file")
    assert status == 2
    assert "ca /no/file" in output
    status, output = check("-Z", plain, "--keyfile", str(server.keyfile))
    assert status == 2
    assert "keyfile requires certfile" in output


@pytest.mark.parametrize("has_sections", [False, True])
def test_primaries_and_secondaries(
    server: SecureServer,
    zk: zc.zk.ZooKeeper,
    opener: Opener,
    has_sections: bool,
) -> None:
    options = {**server.options, "default_acl": OWN}
    if has_sections:
        lines = f"zookeeper {server.address}\n{server.section}"
        primary = opener.closing(
            ZODB.config.storageFromString(
                f"%import zc.zrs\n<primary>\n{lines}\nreplicate-to {PATH}\n"
                f"address {HOST}:0\nfilestorage-path {opener.path}\n</primary>"
            )
        )
        secondary = opener.closing(
            ZODB.config.storageFromString(
                f"%import zc.zrs\n<secondary>\n{lines}\nreplicate-from {PATH}\n"
                f"filestorage-path {opener.copy}\n</secondary>"
            )
        )
    else:
        primary = opener.closing(
            zc.zrs.zk.Primary(
                str(opener.path), (HOST, 0), server.address, PATH, zookeeper_options=options
            )
        )
        secondary = opener.closing(
            zc.zrs.zk.Secondary(
                str(opener.copy), server.address, PATH, zookeeper_options=options
            )
        )
    tid = commit(primary, {0: b"data"})
    wait_until(lambda: secondary.lastTransaction() == tid)
    (name,) = zk.get_children(PATH)
    assert zk.client.get_acls(f"{PATH}/{name}")[0] == OWN


def test_two_ensembles(
    server: SecureServer,
    zk: zc.zk.ZooKeeper,
    opener: Opener,
    tmp_path: Path,
) -> None:
    """Options of one ensemble are not used for the other."""
    plain: ZooKeeperServer = server.server
    with plain_client(plain.address) as client:
        client.create("/elsewhere")
    primary = opener.closing(
        zc.zrs.zk.Primary(str(opener.path), (HOST, 0), plain.address, "/elsewhere")
    )
    middle = opener.closing(
        ZODB.config.storageFromString(
            f"%import zc.zrs\n<zrs>\nreplicate-from-zookeeper {plain.address}\n"
            f"replicate-from /elsewhere\nzookeeper {server.address}\n{server.section}\n"
            f"replicate-to {PATH}\naddress {HOST}:0\nfilestorage-path {opener.copy}\n</zrs>"
        )
    )
    other_section = server.section.replace(
        "zookeeper-options", "replicate-from-zookeeper-options"
    )
    last = opener.closing(
        ZODB.config.storageFromString(
            f"%import zc.zrs\n<zrs>\nreplicate-from-zookeeper {server.address}\n"
            f"{other_section}\nreplicate-from {PATH}\nzookeeper {plain.address}\n"
            f"replicate-to /elsewhere\naddress {HOST}:0\n"
            f"filestorage-path {tmp_path}/3.fs\n</zrs>"
        )
    )
    tid = commit(primary, {0: b"data"})
    for storage in middle, last:
        wait_until(lambda: storage.lastTransaction() == tid)  # noqa: B023 -- called at once
    assert len(zk.get_children(PATH)) == 1

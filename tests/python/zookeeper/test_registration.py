"""Registrations of servers."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

import kazoo.exceptions
import kazoo.security
import pytest

import zc.zk
from replicas.processes import program, read_line
from replicas.waiting import wait_until
from zookeeper.servers import IS_FULL, expire_session, plain_client

if TYPE_CHECKING:
    from pathlib import Path

    from zc.zk import ZooKeeper

ADDRESS = ("127.0.0.1", 8100)
NODE = "/servers/127.0.0.1:8100"


@pytest.fixture(autouse=True)
def _tree(zk: ZooKeeper) -> None:
    zk.create_recursive("/servers")


def properties(zk: ZooKeeper, path: str = NODE) -> dict[str, Any]:
    return zk.get_properties(path)


def owner(zk: ZooKeeper) -> int:
    stat = zk.client.exists(NODE)
    return int(stat.ephemeralOwner) if stat else 0


def is_owned_by_another(zk: ZooKeeper, session: int) -> bool:
    return owner(zk) not in {0, session}


def session_id(zk: ZooKeeper) -> int:
    """Return the id of a session, 0 if it currently has none."""
    client_id = zk.client.client_id
    return int(client_id[0]) if zk.connected and client_id else 0


def test_registering(zk: ZooKeeper, hosts: str) -> None:
    session = zc.zk.ZooKeeper(hosts)
    registration = session.register_server("/servers", ADDRESS, monitor="x", pid=7)
    assert registration.path == NODE
    assert properties(zk) == {"monitor": "x", "pid": 7}
    session.register_server("/servers", "localhost:80")
    assert properties(zk, "/servers/localhost:80") == {"pid": os.getpid()}
    assert zk.is_ephemeral(NODE)
    registration.withdraw()
    assert zk.get_children("/servers") == ["localhost:80"]
    session.close()
    assert zk.get_children("/servers") == []


def test_others_may_only_read_what_is_registered(zk: ZooKeeper, hosts: str) -> None:
    zk.register_server("/servers", ADDRESS)
    with plain_client(hosts) as client:
        with pytest.raises(kazoo.exceptions.NoAuthError):
            client.set(NODE, b"")
        assert client.get_acls(NODE)[0] == kazoo.security.READ_ACL_UNSAFE
    default = [kazoo.security.make_acl("world", "anyone", all=True)]
    session = zc.zk.ZooKeeper(hosts, default_acl=default)
    registration = session.register_server("/servers", "localhost:1")
    assert zk.client.get_acls(registration.path)[0] == default
    registration = session.register_server(
        "/servers", "localhost:2", kazoo.security.READ_ACL_UNSAFE
    )
    assert zk.client.get_acls(registration.path)[0] == kazoo.security.READ_ACL_UNSAFE
    session.close()


def test_the_empty_host_is_this_machine(zk: ZooKeeper) -> None:
    zk.register_server("/servers", ("", 80))
    zk.register_server("/servers", ":81")
    zk.register_server("/servers", ("0.0.0.0", 82))  # noqa: S104 -- nobody listens
    zk.register_server("/servers", "[::]:83")
    assert zk.get_children("/servers") == [f"{socket.getfqdn()}:{n}" for n in range(80, 84)]


def test_text_without_a_colon_is_the_name(zk: ZooKeeper) -> None:
    zk.register_server("/servers", "worker-1")
    assert zk.get_children("/servers") == ["worker-1"]


@pytest.mark.parametrize("name", ["localhost", "127.0.1.1", "::1"])
def test_a_name_that_other_machines_cannot_use_logs_a_warning(
    zk: ZooKeeper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: name)
    zk.register_server("/servers", ("", 80))
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert repr(name) in warnings[0]
    assert "register-as" in warnings[0]


def test_no_warning_for_a_host_that_was_named_or_is_public(
    zk: ZooKeeper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "192.0.2.1")
    zk.register_server("/servers", ("", 80))
    zk.register_server("/servers", ("localhost", 81))
    assert zk.get_children("/servers") == ["192.0.2.1:80", "localhost:81"]
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_registering_through_links(zk: ZooKeeper) -> None:
    zk.import_tree("/here\n  s -> /servers\n")
    zk.register_server("/here/s", ADDRESS)
    assert zk.get_children("/servers") == ["127.0.0.1:8100"]


def test_invalid_registrations(zk: ZooKeeper) -> None:
    with pytest.raises(kazoo.exceptions.NoNodeError):
        zk.register_server("/nowhere", ADDRESS)
    with pytest.raises(ValueError, match="cannot be the name"):
        zk.register_server("/servers", ("a/b", 1))
    with pytest.raises(TypeError):
        zk.register_server("/servers", ADDRESS, unserializable=object())
    zk.create_recursive(NODE)
    with pytest.raises(kazoo.exceptions.NodeExistsError, match="node of no session"):
        zk.register_server("/servers", ADDRESS)
    zk.delete_recursive(NODE)
    zk.create_recursive("/servers/later")
    assert zk.get_children("/servers") == ["later"]


def test_a_lost_session_registers_again(zk: ZooKeeper, hosts: str) -> None:
    session = zc.zk.ZooKeeper(hosts)
    session.register_server("/servers", ADDRESS, n=1)
    for _ in range(3):
        old = session_id(session)
        expire_session(session.client, hosts)
        wait_until(functools.partial(is_owned_by_another, zk, old))
        assert owner(zk) == session_id(session)
        assert properties(zk) == {"n": 1, "pid": os.getpid()}
    session.close()
    assert zk.get_children("/servers") == []


def test_a_deleted_registration_is_restored(zk: ZooKeeper, hosts: str) -> None:
    zk.register_server("/servers", ADDRESS)
    with plain_client(hosts) as client:
        for _ in range(5):
            client.delete(NODE)
            wait_until(lambda: owner(zk))


def test_a_missing_parent_is_waited_for(zk: ZooKeeper, hosts: str) -> None:
    registration = zk.register_server("/servers", ADDRESS)
    with plain_client(hosts) as client:
        client.delete(NODE)
        while client.exists("/servers"):
            with contextlib.suppress(kazoo.exceptions.NotEmptyError):
                client.delete("/servers")
            with contextlib.suppress(kazoo.exceptions.NoNodeError):
                client.delete(NODE)
        wait_until(lambda: not registration.registered.is_set())
        client.create("/servers")
    wait_until(lambda: owner(zk))
    assert registration.registered.wait(60)


def test_a_path_that_cannot_be_read_yet(
    zk: ZooKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    """It contains a node with malformed data, which are repaired later."""
    zk.create_recursive("/here", b'{"link')
    registration = zk.registration("/here/link", ADDRESS, {})
    registration.register_later()
    children = zk.children("/here/link", wait=False)
    wait_until(lambda: registration.problem)
    wait_until(lambda: "cannot read /here/link" in caplog.text)
    zk.client.set("/here", b'{"link ->": "/servers"}')
    assert registration.registered.wait(60)
    wait_until(lambda: list(children) == [registration.name])
    assert zk.get_children("/servers") == [registration.name]
    messages = [record.getMessage() for record in caplog.records]
    assert sum("malformed properties of /here" in message for message in messages) == 2


def test_a_node_of_the_same_server_before_it_crashed(zk: ZooKeeper, hosts: str) -> None:
    # It remains, because its session was not closed.
    with plain_client(hosts) as crashed:
        crashed.create(NODE, json.dumps({"pid": 1}).encode(), ephemeral=True)
        seen: list[list[str]] = []
        zk.children("/servers")(lambda children: seen.append(list(children)))
        zk.register_server("/servers", ADDRESS)
        assert properties(zk) == {"pid": os.getpid()}
    # The end of the old session changes nothing, and clients never missed the address.
    wait_until(lambda: owner(zk) == session_id(zk))
    assert seen == [["127.0.0.1:8100"]]


CRASHING = """
import zc.zk
session = zc.zk.ZooKeeper(sys.argv[2], session_timeout=30)
session.register_server("/servers", ("127.0.0.1", 8100), start=sys.argv[3])
say("registered")
sys.stdin.read()
"""


def test_crash_and_restart_within_the_session_timeout(
    zk: ZooKeeper, hosts: str, tmp_path: Path
) -> None:
    for start in ("first", "second", "third") if IS_FULL else ("first", "second"):
        with program(CRASHING, tmp_path, hosts, start) as process:
            assert read_line(process) == "registered"
            assert properties(zk) == {"start": start, "pid": process.pid}
            process.kill()
            process.wait()
        # The old session has not expired yet.
        assert zk.get_children("/servers") == ["127.0.0.1:8100"]


def test_two_servers_that_claim_one_address(
    zk: ZooKeeper, hosts: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = zc.zk.ZooKeeper(hosts), zc.zk.ZooKeeper(hosts)
    one = first.register_server("/servers", ADDRESS, server="first")
    first_session = session_id(first)
    second.register_server("/servers", ADDRESS, server="second")

    # The server that started later wins; the other waits, and logs that once.
    wait_until(lambda: not one.registered.is_set())
    assert properties(zk)["server"] == "second"
    expire_session(first.client, hosts)
    wait_until(lambda: session_id(first) not in {0, first_session})
    zk.children("/servers")
    assert properties(zk)["server"] == "second"
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1
    assert NODE in errors[0]
    assert f"{session_id(second):#x}" in errors[0]

    # A lost session does not change that.
    expire_session(second.client, hosts)
    wait_until(lambda: owner(zk) in {session_id(first), session_id(second)})
    second.close()
    wait_until(lambda: owner(zk) == session_id(first))
    assert properties(zk)["server"] == "first"
    first.close()
    assert zk.get_children("/servers") == []


def test_an_acl_that_is_refused_is_an_error(
    zk: ZooKeeper, hosts: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also with another session's node in its place: it does not retry in a busy loop."""
    refused = [kazoo.security.make_acl("digest", "no-digest", all=True)]
    session = zc.zk.ZooKeeper(hosts, default_acl=refused)
    with pytest.raises(kazoo.exceptions.InvalidACLError):
        session.register_server("/servers", ADDRESS)
    zk.register_server("/servers", ADDRESS)
    registration = session.registration("/servers", ADDRESS, {})
    registration.register_later()
    wait_until(lambda: registration.problem)
    assert "InvalidACLError" in registration.problem
    with pytest.raises(kazoo.exceptions.InvalidACLError):
        session.register_server("/servers", ADDRESS)
    session.close()
    assert caplog.text.count("InvalidACLError") == 1
    assert owner(zk) == session_id(zk)


def test_withdrawn_is_not_registered_again(zk: ZooKeeper, hosts: str) -> None:
    session = zc.zk.ZooKeeper(hosts)
    registration = session.register_server("/servers", ADDRESS)
    registration.withdraw()
    registration.withdraw()
    old = session_id(session)
    expire_session(session.client, hosts)
    wait_until(lambda: session_id(session) not in {0, old})
    assert session.children("/servers") is not None
    assert zk.get_children("/servers") == []
    session.close()

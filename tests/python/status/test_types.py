"""The types of statuses have the keys of the statuses of open storages."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import zc.zrs.reactor
from replicas.opening import LOOPBACK
from replicas.transactions import commit
from replicas.waiting import wait_caught_up, wait_until
from status.test_server import asked
from streams.sockets import connect
from zc.zrs.filestorage import FileStorage
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary
from zc.zrs.status.schema import (
    PeerStatus,
    PrimaryStatus,
    SecondaryStatus,
    ServedPrimary,
    ServedSecondary,
)

if TYPE_CHECKING:
    from replicas.opening import Opener

# Keys that only some storages report.
OF_STORAGES = {"file_bytes", "blob_files"}
OF_ZOOKEEPER = {"zookeeper"}


def has_type(value: Any, expected: Any) -> bool:  # noqa: PLR0911 -- one for each kind of type
    """Return whether a value has a type; supports the kinds of types in statuses."""
    if typing.is_typeddict(expected):
        return isinstance(value, dict) and not wrong_keys(value, expected)
    of, arguments = typing.get_origin(expected), typing.get_args(expected)
    if of is typing.Literal:
        return value in arguments
    if of is list:
        return isinstance(value, list) and all(has_type(one, *arguments) for one in value)
    if of is dict:
        return isinstance(value, dict) and all(
            has_type(key, arguments[0]) and has_type(one, arguments[1])
            for key, one in value.items()
        )
    if of is tuple:
        return isinstance(value, tuple) and all(map(has_type, value, arguments))
    if arguments:  # a union
        return any(has_type(value, choice) for choice in arguments)
    # For the type checker, an int is a float, and a bool is an int: not in JSON.
    return type(value) in ({int, float} if expected is float else {expected})


def wrong_keys(status: dict[str, Any], status_type: Any) -> list[str]:
    """Return the keys that a TypedDict lacks, requires, or has with another type."""
    hints = typing.get_type_hints(status_type)
    wrong = [key for key in status_type.__required_keys__ if key not in status]
    return wrong + [
        f"{key}: {value!r}"
        for key, value in status.items()
        if key not in hints or not has_type(value, hints[key])
    ]


def keys_of(status_type: Any) -> set[str]:
    """Return all keys that a type has."""
    return set(status_type.__annotations__)


def required_of(status_type: Any) -> set[str]:
    """Return the keys that both drivers report."""
    return set(status_type.__required_keys__)


def only_peer(primary: Primary) -> dict[str, Any]:
    (peer,) = wait_until(lambda: primary.status()["peers"], "there is a peer")
    return dict(peer)


class Cascade(NamedTuple):
    """A primary, a cascading secondary, and a secondary of that."""

    first: Primary
    middle: Secondary
    last: Secondary


def cascade(opener: Opener, reactor: Any = None) -> Cascade:
    path, middle_path = str(opener.path), str(opener.directory / "middle.fs")
    blobs = str(opener.directory / "blobs")
    storage = FileStorage(path, blob_dir=blobs)
    first = opener.primary(storage, reactor=reactor, status_address=LOOPBACK)
    inner = Primary(middle_path, LOOPBACK, reactor, close_deadline=0)
    middle = opener.closing(
        Secondary(inner, first.address, reactor, blobs="none", reconnect_delay=0.2)
    )
    last = opener.secondary(inner, reactor=reactor)
    tid = commit(first, {0: b"data"})
    wait_until(lambda: last.lastTransaction() == tid, "all have the transaction")
    return Cascade(first, middle, last)


def test_statuses_have_all_keys(opener: Opener) -> None:
    pair = cascade(opener)
    wait_until(lambda: pair.first.status()["blob_files"], "blobs are counted")
    of_primary = keys_of(PrimaryStatus) - OF_ZOOKEEPER
    of_secondary = keys_of(SecondaryStatus) - OF_ZOOKEEPER - {"blob_files"}
    assert set(pair.first.status()) == of_primary
    assert set(only_peer(pair.first)) == keys_of(PeerStatus)
    assert set(pair.middle.status()) == of_secondary
    assert set(pair.middle.status()["primary"]) == of_primary - {"blob_files"}
    assert set(pair.last.status()) == of_secondary - {"primary"}


def test_statuses_have_the_required_keys_with_a_reactor(opener: Opener) -> None:
    pair = cascade(opener, zc.zrs.reactor.reactor())
    assert set(pair.first.status()) == required_of(PrimaryStatus) | OF_STORAGES
    assert set(only_peer(pair.first)) == required_of(PeerStatus)
    assert set(pair.middle.status()) == required_of(SecondaryStatus) | {"primary", "file_bytes"}
    assert set(pair.middle.status()["primary"]) == required_of(PrimaryStatus) | {"file_bytes"}
    assert set(pair.last.status()) == required_of(SecondaryStatus) | {"file_bytes"}


@pytest.mark.parametrize("with_reactor", [False, True])
def test_values_have_their_types(opener: Opener, with_reactor: bool) -> None:
    pair = cascade(opener, zc.zrs.reactor.reactor() if with_reactor else None)
    unknown = opener.secondary(("127.0.0.1", 1), str(opener.directory / "unknown.fs"))
    with connect(pair.first.address, b"zrs9.9") as client:
        assert client.recv(1) == b""
    assert wrong_keys(dict(pair.first.status()), PrimaryStatus) == []
    for secondary in pair.middle, pair.last, unknown:
        assert wrong_keys(dict(secondary.status()), SecondaryStatus) == []


def test_served_statuses_have_all_keys(opener: Opener) -> None:
    first = opener.primary(status_address=LOOPBACK)
    last = opener.secondary(first, status_address=LOOPBACK)
    commit(first, {0: b"data"})
    wait_caught_up(first, last)
    for storage, of_role in (first, ServedPrimary), (last, ServedSecondary):
        served = asked(storage, "/status")
        unserved = OF_ZOOKEEPER | {"primary", "blob_files"}
        assert set(served) == keys_of(of_role) - unserved

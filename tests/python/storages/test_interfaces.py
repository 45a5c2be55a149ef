"""Primaries and secondaries have the interfaces of the storages that they wrap."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
import ZODB
import ZODB.blob
import ZODB.FileStorage
import ZODB.MappingStorage
import zope.interface
from ZODB.Connection import TransactionMetaData
from ZODB.interfaces import IStorage, IStorageRestoreable, IStorageUndoable
from ZODB.POSException import ReadOnlyError
from ZODB.utils import z64
from zope.interface.verify import verifyObject

from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOOPBACK = ("127.0.0.1", 0)
NOWHERE = ("127.0.0.1", 1)


class IExtra(zope.interface.Interface):  # type: ignore[misc]
    """An additional interface of a storage."""

    def extra(number: int) -> None:  # noqa: N805 -- interfaces have no self
        """Return twice the number."""


@zope.interface.implementer(IExtra)
class ExtendedStorage(ZODB.FileStorage.FileStorage):  # type: ignore[misc]
    def getExtensionMethods(self) -> dict[str, None]:
        return {"extra": None}

    def extra(self, number: int) -> int:
        return 2 * number


class LeanStorage(ZODB.FileStorage.FileStorage):  # type: ignore[misc]
    """A storage without an optional method."""

    @property
    def deleteObject(self) -> NoReturn:
        raise AttributeError("deleteObject")


def wrap_primary(storage: Any) -> Primary:
    return Primary(storage, LOOPBACK)


def wrap_secondary(storage: Any) -> Secondary:
    return Secondary(storage, NOWHERE)


def wrap_both(storage: Any) -> Secondary:
    return Secondary(Primary(storage, LOOPBACK), NOWHERE)


WRAPPERS = [wrap_primary, wrap_secondary, wrap_both]
STORAGES = [ZODB.FileStorage.FileStorage, ExtendedStorage, LeanStorage]


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    storage = request.param(str(tmp_path / "Data.fs"))
    yield storage
    storage.close()


@pytest.fixture(params=WRAPPERS)
def wrapped(request: pytest.FixtureRequest, storage: Any) -> Iterator[Any]:
    wrapper = request.param(storage)
    yield wrapper
    wrapper.close()


def test_interfaces_are_those_of_the_storage(storage: Any, wrapped: Any) -> None:
    assert list(zope.interface.providedBy(wrapped)) == list(zope.interface.providedBy(storage))
    for interface in IStorage, IStorageRestoreable, IStorageUndoable:
        assert interface.providedBy(wrapped)
    assert IExtra.providedBy(wrapped) == isinstance(storage, ExtendedStorage)


def test_interfaces_are_kept(wrapped: Any) -> None:
    interfaces = list(zope.interface.providedBy(wrapped))
    assert len(interfaces) >= 6
    for interface in interfaces:
        if interface is IStorageUndoable and not hasattr(wrapped, "deleteObject"):
            continue
        try:
            verifyObject(interface, wrapped)
        except zope.interface.exceptions.Invalid:
            assert interface.__name__ == "IExternalGC"
            assert not hasattr(wrapped, "deleteObject")


def test_every_attribute_of_the_storage_is_there(storage: Any, wrapped: Any) -> None:
    names = [name for name in dir(storage) if not name.startswith("__")]
    assert len(names) > 100
    missing = [n for n in names if hasattr(storage, n) and not hasattr(wrapped, n)]
    assert missing == []


def test_an_attribute_that_the_storage_lacks_is_missing(storage: Any, wrapped: Any) -> None:
    for name in "deleteObject", "getExtensionMethods", "extra", "nonsense", "storeBlobStart":
        assert hasattr(wrapped, name) == hasattr(storage, name)


def test_extension_methods_work(tmp_path: Path) -> None:
    for wrap in WRAPPERS:
        wrapper = wrap(ExtendedStorage(str(tmp_path / f"{wrap.__name__}.fs")))
        assert list(wrapper.getExtensionMethods()) == ["extra"]
        assert wrapper.extra(21) == 42
        wrapper.close()


def test_it_has_the_length_and_the_names_of_the_storage(storage: Any, wrapped: Any) -> None:
    assert len(wrapped) == len(storage) == 0
    assert wrapped.getName() == storage.getName()
    assert wrapped.sortKey() == storage.sortKey()
    assert wrapped.__name__ == storage.__name__


def test_attributes_set_on_the_wrapper_reach_the_storage(storage: Any, wrapped: Any) -> None:
    def never(*_: Any) -> NoReturn:
        raise AssertionError

    # A ZEO server with client-conflict-resolution does this.
    wrapped.tryToResolveConflict = never
    assert storage.tryToResolveConflict is never
    wrapped.something_else = 1
    assert not hasattr(storage, "something_else")


def test_closing_twice_closes_once(storage: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for wrap in wrap_primary, wrap_secondary:
        wrapper = wrap(type(storage)(storage.getName() + wrap.__name__))
        wrapper.close()
        wrapper.close()
    closings = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Closing")]
    assert len(closings) == 2


# --- A secondary is read-only -----------------------------------------------------------

WRITING = {
    "tpc_begin": (TransactionMetaData(),),
    "store": (z64, z64, b"", "", None),
    "restore": (z64, z64, b"", "", None, None),
    "undo": (z64, None),
    "deleteObject": (z64, z64, None),
    "checkCurrentSerialInTransaction": (z64, z64, None),
    "new_oid": (),
    "tpc_vote": (None,),
    "tpc_finish": (None,),
    "storeBlob": (z64, z64, b"", "file", "", None),
    "restoreBlob": (z64, z64, b"", "file", None, None),
    "copyTransactionsFrom": (None,),
}


@pytest.mark.parametrize("name", WRITING)
def test_a_secondary_refuses_to_write(tmp_path: Path, name: str) -> None:
    secondary = Secondary(str(tmp_path / "Data.fs"), NOWHERE)
    assert secondary.isReadOnly()
    with pytest.raises(ReadOnlyError):
        getattr(secondary, name)(*WRITING[name])
    secondary.tpc_abort(TransactionMetaData())
    assert secondary.lastTransaction() == z64
    secondary.close()


def test_a_secondary_can_be_packed(tmp_path: Path) -> None:
    db = ZODB.DB(str(tmp_path / "Data.fs"))
    with db.transaction() as connection:
        connection.root()["x"] = 1
    with db.transaction() as connection:
        connection.root()["x"] = 2
    db.close()
    secondary = Secondary(str(tmp_path / "Data.fs"), NOWHERE)
    size = secondary.getSize()
    db = ZODB.DB(secondary)
    db.pack()
    assert secondary.getSize() < size
    db.close()


# --- Storages that cannot be wrapped ----------------------------------------------------


def test_a_storage_without_a_file_cannot_be_a_primary() -> None:
    with pytest.raises(TypeError, match="not a file storage"):
        Primary(ZODB.MappingStorage.MappingStorage(), LOOPBACK)


def test_a_storage_that_cannot_restore_cannot_be_a_secondary() -> None:
    with pytest.raises(TypeError, match="cannot restore"):
        Secondary(ZODB.MappingStorage.MappingStorage(), NOWHERE)


def test_a_read_only_storage_cannot_be_a_secondary(tmp_path: Path) -> None:
    ZODB.FileStorage.FileStorage(str(tmp_path / "Data.fs")).close()
    storage = ZODB.FileStorage.FileStorage(str(tmp_path / "Data.fs"), read_only=True)
    with pytest.raises(ReadOnlyError, match="read-only"):
        Secondary(storage, NOWHERE)
    storage.close()


def test_a_secondary_cannot_be_made_a_primary(tmp_path: Path) -> None:
    secondary = Secondary(str(tmp_path / "Data.fs"), NOWHERE)
    with pytest.raises(TypeError, match="wrap a primary in a secondary instead"):
        Primary(secondary, LOOPBACK)
    secondary.close()


@pytest.mark.parametrize(
    ("addr", "error"),
    [
        (8100, TypeError),
        (("host",), TypeError),
        (("host", "8100"), TypeError),
        (("host", 65536), ValueError),
        ("", ValueError),
        (None, TypeError),
    ],
)
@pytest.mark.parametrize("wrapper", [Primary, Secondary])
def test_an_address_is_checked_before_anything_is_opened(
    tmp_path: Path, wrapper: Any, addr: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        wrapper(str(tmp_path / "Data.fs"), addr)
    assert list(tmp_path.iterdir()) == []


def test_wire_pickles_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="python2"):
        Primary(str(tmp_path / "Data.fs"), LOOPBACK, wire_pickles="python4")  # type: ignore[arg-type]


def test_a_port_in_use_closes_a_storage_opened_from_a_path(tmp_path: Path) -> None:
    with socket.create_server(LOOPBACK) as taken:
        with pytest.raises(OSError, match="in use") as caught:
            Primary(tmp_path / "Data.fs", taken.getsockname())
        assert caught.value.errno is not None
    # The lock is free again.
    ZODB.FileStorage.FileStorage(str(tmp_path / "Data.fs")).close()


def test_a_port_in_use_leaves_the_callers_storage_open(tmp_path: Path) -> None:
    storage = ZODB.FileStorage.FileStorage(str(tmp_path / "Data.fs"))
    with socket.create_server(LOOPBACK) as taken, pytest.raises(OSError, match="in use"):
        Primary(storage, taken.getsockname())
    ZODB.DB(storage).close()


# --- Committing -------------------------------------------------------------------------


def wait_for(condition: Callable[[], object], timeout: float = 10) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "timeout"
        time.sleep(0.005)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Primary, Secondary]]:
    primary = Primary(tmp_path / "primary.fs", LOOPBACK)
    secondary = Secondary(tmp_path / "secondary.fs", primary.address, reconnect_delay=0.2)
    yield primary, secondary
    secondary.close()
    primary.close()


def test_copied_transactions_are_replicated(
    tmp_path: Path, pair: tuple[Primary, Secondary]
) -> None:
    primary, secondary = pair
    other = ZODB.DB(str(tmp_path / "other.fs"))
    for number in range(5):
        with other.transaction() as connection:
            connection.root()[number] = number
    primary.copyTransactionsFrom(other.storage)
    assert primary.lastTransaction() == other.lastTransaction()
    wait_for(lambda: secondary.lastTransaction() == primary.lastTransaction())
    other.close()


def test_tpc_finish_returns_the_tid_and_calls_back(pair: tuple[Primary, Secondary]) -> None:
    primary, _ = pair
    metadata = TransactionMetaData()
    primary.tpc_begin(metadata)
    primary.store(primary.new_oid(), z64, b"data", "", metadata)
    primary.tpc_vote(metadata)
    called: list[bytes] = []
    tid = primary.tpc_finish(metadata, called.append)
    assert called == [tid] == [primary.lastTransaction()]


def test_a_secondary_of_a_secondary(tmp_path: Path, pair: tuple[Primary, Secondary]) -> None:
    first, _ = pair
    middle = Secondary(
        Primary(tmp_path / "middle.fs", LOOPBACK), first.address, reconnect_delay=0.2
    )
    last = Secondary(tmp_path / "last.fs", middle.address, reconnect_delay=0.2)
    db = ZODB.DB(first)
    for number in range(20):
        with db.transaction() as connection:
            connection.root()[number] = "x" * 1000
    wait_for(lambda: last.lastTransaction() == first.lastTransaction())
    last.close()
    middle.close()
    db.close()
    contents = {(tmp_path / f"{n}.fs").read_bytes() for n in ("primary", "middle", "last")}
    assert len(contents) == 1


def test_closing_a_primary_lets_secondaries_catch_up(tmp_path: Path) -> None:
    primary = Primary(tmp_path / "primary.fs", LOOPBACK)
    with contextlib.closing(Secondary(tmp_path / "secondary.fs", primary.address)) as secondary:
        db = ZODB.DB(primary)
        wait_for(lambda: secondary.lastTransaction() == primary.lastTransaction())
        for number in range(50):
            with db.transaction() as connection:
                connection.root()[number] = os.urandom(50_000)
        last = primary.lastTransaction()
        db.close()
        wait_for(lambda: secondary.lastTransaction() == last)


def test_a_secondary_can_be_pointed_elsewhere(
    tmp_path: Path, pair: tuple[Primary, Secondary]
) -> None:
    primary, _ = pair
    db = ZODB.DB(primary)
    moved = Secondary(tmp_path / "moved.fs", NOWHERE, reconnect_delay=3600)
    moved.setReplicationAddress(primary.address)
    wait_for(lambda: moved.lastTransaction() == primary.lastTransaction())
    moved.close()
    db.close()


def test_the_package_has_the_names_of_its_storages_and_loads_them_late() -> None:
    program = """
        import sys
        import zc.zrs
        assert not {"ZODB", "zc.zrs.primary", "zc.zrs._zrs"} & set(sys.modules)
        from zc.zrs import Primary
        assert Primary is sys.modules["zc.zrs.primary"].Primary
        assert zc.zrs.Secondary is sys.modules["zc.zrs.secondary"].Secondary
        assert not hasattr(zc.zrs, "Tertiary")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)


# --- Processes --------------------------------------------------------------------------

EXIT_WHILE_CONNECTED = """
    import ZODB, transaction
    from zc.zrs.primary import Primary
    from zc.zrs.secondary import Secondary
    primary = Primary("primary.fs", ("127.0.0.1", 0))
    secondary = Secondary("secondary.fs", primary.address)
    connection = ZODB.DB(primary).open()
    while secondary.lastTransaction() != primary.lastTransaction():
        pass
    for number in range(20):
        connection.root()[number] = number
        transaction.commit()
"""

FORK = """
    import os, sys, time, ZODB
    from zc.zrs.primary import Primary
    from zc.zrs.secondary import Secondary
    primary = Primary("primary.fs", ("127.0.0.1", 0))
    secondary = Secondary("secondary.fs", primary.address, reconnect_delay=0.1)
    db = ZODB.DB(primary)

    def caught_up(secondary, primary):
        end = time.monotonic() + 20
        while secondary.lastTransaction() != primary.lastTransaction():
            assert time.monotonic() < end
            time.sleep(0.01)

    caught_up(secondary, primary)
    child = os.fork()
    if child == 0:
        # The parent's are left alone, its own work.
        secondary.close()
        primary.close()
        mine = Primary("child.fs", ("127.0.0.1", 0))
        copy = Secondary("copy.fs", mine.address, reconnect_delay=0.1)
        ZODB.DB(mine)
        caught_up(copy, mine)
        copy.close()
        mine.close()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with db.transaction() as connection:
        connection.root()["x"] = 1
    caught_up(secondary, primary)
    secondary.close()
    db.close()
"""


@pytest.mark.parametrize("script", [EXIT_WHILE_CONNECTED, FORK], ids=["exit", "fork"])
def test_process(tmp_path: Path, script: str) -> None:
    # Python 3.12 warns of any fork of a process with threads.
    result = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")

"""The ZConfig sections ``<primary>``, ``<secondary>`` and ``<zrs>``."""

from __future__ import annotations

import contextlib
import io
import socket
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pytest
import ZConfig
import ZODB
import ZODB.config
import ZODB.FileStorage

from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def load(text: str) -> Any:
    """Return the opener of the only storage in a configuration."""
    schema = ZODB.config.getStorageSchema()
    lines = "%import zc.zrs\n" + textwrap.dedent(text)
    config, _ = ZConfig.loadConfigFile(schema, io.StringIO(lines))
    return config.storage


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_for(condition: Callable[[], object], timeout: float = 10) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "timeout"
        time.sleep(0.005)


@pytest.fixture
def closing() -> Iterator[Callable[[Any], Any]]:
    """Provide a function that registers objects to be closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda opened: stack.enter_context(contextlib.closing(opened))


@pytest.mark.parametrize("option", ["address", "replicate-to"])
@pytest.mark.parametrize("nested", [True, False])
def test_primary(tmp_path: Path, closing: Any, option: str, nested: bool) -> None:
    path = tmp_path / "Data.fs"
    storage = (
        f"<filestorage>\npath {path}\n</filestorage>" if nested else f"filestorage-path {path}"
    )
    primary = closing(load(f"<primary>\n{option} 127.0.0.1:0\n{storage}\n</primary>").open())
    assert isinstance(primary, Primary)
    assert primary.address[0] == "127.0.0.1"
    assert primary.getName() == str(path)


@pytest.mark.parametrize("section", ["<primary>", "<zrs>"])
@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ("allow 127.0.0.1 ::1\nallow 10.0.0.0/8", {}),
        ("allow 10.0.0.0/8", {"not allowed": 1}),
        ("max-connections 0", {"too many connections": 1}),
        ("handshake-deadline 2", {}),
        ("handshake-deadline 2000ms", {}),
    ],
)
def test_who_may_connect(
    tmp_path: Path, closing: Any, section: str, options: str, refused: dict[str, int]
) -> None:
    lines = f"replicate-to 127.0.0.1:0\nfilestorage-path {tmp_path}/Data.fs\n{options}"
    primary = closing(load(f"{section}\n{lines}\n{section.replace('<', '</')}").open())
    with socket.create_connection(primary.address, 5) as client:
        # Only the last option ends a connection that was accepted.
        if refused or "deadline" in options:
            assert client.recv(1) == b""
    assert primary.status()["connections_refused"] == refused


def test_a_primary_without_a_host_listens_on_all_interfaces(
    tmp_path: Path, closing: Any
) -> None:
    port = free_port()
    closing(
        load(
            f"<primary>\naddress {port}\nfilestorage-path {tmp_path}/Data.fs\n</primary>"
        ).open()
    )
    socket.create_connection(("127.0.0.1", port), 5).close()
    # Any address in the loopback network works.
    socket.create_connection(("127.0.0.2", port), 5).close()


@pytest.mark.parametrize("option", ["address", "replicate-from"])
def test_a_secondary_without_a_host_connects_to_this_machine(
    tmp_path: Path, closing: Any, option: str
) -> None:
    primary = closing(Primary(tmp_path / "primary.fs", ("127.0.0.1", 0)))
    ZODB.DB(primary)
    secondary = closing(
        load(
            f"""
            <secondary>
              {option} {primary.address[1]}
              keep-alive-delay 500ms
              reconnect-delay 0.2
              filestorage-path {tmp_path}/secondary.fs
            </secondary>
            """
        ).open()
    )
    assert isinstance(secondary, Secondary)
    wait_for(lambda: secondary.lastTransaction() == primary.lastTransaction())


def test_unix_sockets(tmp_path: Path, closing: Any) -> None:
    path = tmp_path / "socket"
    primary = closing(
        load(f"<primary>\naddress {path}\nfilestorage-path {tmp_path}/a.fs\n</primary>").open()
    )
    assert primary.address == str(path)
    ZODB.DB(primary)
    secondary = closing(
        load(
            f"<secondary>\naddress {path}\nfilestorage-path {tmp_path}/b.fs\n</secondary>"
        ).open()
    )
    wait_for(lambda: secondary.lastTransaction() == primary.lastTransaction())


def test_zrs_with_one_address(tmp_path: Path, closing: Any) -> None:
    primary = closing(
        load(
            f"<zrs>\nreplicate-to 127.0.0.1:0\nfilestorage-path {tmp_path}/a.fs\n</zrs>"
        ).open()
    )
    assert isinstance(primary, Primary)
    host, port = primary.address  # type: ignore[str-unpack]
    secondary = closing(
        load(
            f"""
            <zrs>
              replicate-from {host}:{port}
              keep-alive-delay 60
              filestorage-path {tmp_path}/b.fs
            </zrs>
            """
        ).open()
    )
    assert isinstance(secondary, Secondary)


def test_a_primary_ignores_keep_alive_delay(tmp_path: Path, closing: Any) -> None:
    """plone.recipe.zeoserver writes it for both sides."""
    section = f"""
        <zrs>
          replicate-to 127.0.0.1:0
          keep-alive-delay 60
          <filestorage>
            path {tmp_path}/a.fs
          </filestorage>
        </zrs>
        """
    assert isinstance(closing(load(section).open()), Primary)


def test_zrs_with_both_addresses_is_a_secondary_that_others_replicate_from(
    tmp_path: Path, closing: Any
) -> None:
    first = closing(Primary(tmp_path / "first.fs", ("127.0.0.1", 0)))
    middle = closing(
        load(
            f"""
            <zrs>
              replicate-from 127.0.0.1:{first.address[1]}
              replicate-to 127.0.0.1:0
              reconnect-delay 0.2
              <filestorage>
                path {tmp_path}/middle.fs
              </filestorage>
            </zrs>
            """
        ).open()
    )
    assert isinstance(middle, Secondary)
    assert middle.isReadOnly()
    last = closing(Secondary(tmp_path / "last.fs", middle.address, reconnect_delay=0.2))
    ZODB.DB(first)
    wait_for(lambda: last.lastTransaction() == first.lastTransaction())


def test_wire_pickles(tmp_path: Path, closing: Any) -> None:
    """A secondary on Python 2 reads short binary strings (opcode `U`)."""
    found = []
    for number, dialect in enumerate(["wire-pickles python2", "wire-pickles python3", ""]):
        primary = closing(
            load(
                f"""
                <primary>
                  address 127.0.0.1:0
                  {dialect}
                  filestorage-path {tmp_path}/{number}.fs
                </primary>
                """
            ).open()
        )
        ZODB.DB(primary)
        with socket.create_connection(primary.address, 10) as connection:
            connection.sendall(b"\0\0\0\6zrs2.0\0\0\0\x08" + bytes(8))
            header = connection.recv(11, socket.MSG_WAITALL)
        found.append(header[4:])
    assert found == [b"(U\x01T(U\x08", b"(X\x01\0\0\0T", b"(X\x01\0\0\0T"]


def test_sections_nest_in_others(tmp_path: Path, closing: Any) -> None:
    db = closing(
        ZODB.config.databaseFromString(
            textwrap.dedent(
                f"""
                %import zc.zrs
                <zodb>
                  <demostorage>
                    <primary>
                      address 127.0.0.1:0
                      filestorage-path {tmp_path}/Data.fs
                    </primary>
                  </demostorage>
                </zodb>
                """
            )
        )
    )
    assert isinstance(db.storage.base, Primary)


STORAGE = "filestorage-path {tmp}/Data.fs"
NESTED = "<filestorage>\npath {tmp}/Data.fs\n</filestorage>"

WRONG = [
    ("primary", [STORAGE], ["address", "replicate-to"]),
    ("primary", ["address 1", "replicate-to 1", STORAGE], ["address", "replicate-to"]),
    ("primary", ["address 1"], ["filestorage-path", "storage section"]),
    ("primary", ["address 1", STORAGE, NESTED], ["filestorage-path", "storage section"]),
    ("primary", ["address 1", STORAGE, "wire-pickles python4"], ["wire-pickles", "python4"]),
    ("primary", ["address 1", STORAGE, "missing-blobs go"], ["missing-blobs", "stop or skip"]),
    (
        "primary",
        ["address 1", STORAGE, "unverified-history go"],
        ["unverified-history", "accept or refuse"],
    ),
    ("zrs", ["replicate-from 1", STORAGE, "unverified-history refuse"], ["unverified-history"]),
    ("secondary", ["address 1", STORAGE, "blobs some"], ["blobs", "all or none"]),
    ("zrs", ["replicate-from 1", STORAGE, "missing-blobs skip"], ["missing-blobs"]),
    ("primary", ["address here", STORAGE], ["address", "here", "port"]),
    ("primary", ["address 1", STORAGE, "keep-alive-delay 1"], ["keep-alive-delay"]),
    ("primary", ["address 1", STORAGE, "allow localhost"], ["localhost"]),
    ("primary", ["address 1", STORAGE, "allow ::1 10.0.0.0/33"], ["10.0.0.0/33"]),
    (
        "primary",
        ["address 1", STORAGE, "handshake-deadline soon"],
        ["handshake-deadline", "'soon'"],
    ),
    (
        "primary",
        ["address 1", STORAGE, "handshake-deadline 0s"],
        ["handshake-deadline", "'0s'"],
    ),
    ("primary", ["address 1", STORAGE, "max-connections -1"], ["max-connections", "'-1'"]),
    ("secondary", [STORAGE], ["address", "replicate-from"]),
    ("secondary", ["address 1", "replicate-from 1", STORAGE], ["address", "replicate-from"]),
    ("secondary", ["address 1"], ["filestorage-path", "storage section"]),
    ("secondary", ["address 1", STORAGE, NESTED], ["filestorage-path", "storage section"]),
    ("secondary", ["address 1", STORAGE, "keep-alive-delay -1"], ["keep-alive-delay", "-1"]),
    ("secondary", ["address 1", STORAGE, "keep-alive-delay nan"], ["keep-alive-delay", "nan"]),
    ("secondary", ["address 1", STORAGE, "reconnect-delay 5w"], ["reconnect-delay", "'5w'"]),
    ("secondary", ["address 1", STORAGE, "wire-pickles python2"], ["wire-pickles"]),
    ("zrs", [STORAGE], ["replicate-to", "replicate-from"]),
    ("zrs", ["address 1", STORAGE], ["address"]),
    ("zrs", ["replicate-to 1", STORAGE, NESTED], ["filestorage-path", "storage section"]),
    ("zrs", ["replicate-from 1"], ["filestorage-path", "storage section"]),
    ("zrs", ["replicate-to 1", STORAGE, "reconnect-delay 1"], ["reconnect-delay"]),
    ("zrs", ["replicate-from 1", STORAGE, "wire-pickles python2"], ["wire-pickles"]),
    ("zrs", ["replicate-from 1", STORAGE, "allow ::1"], ["allow", "replicate-to"]),
    ("zrs", ["replicate-from 1", STORAGE, "max-connections 1"], ["max-connections"]),
]


@pytest.mark.parametrize(("section", "lines", "named"), WRONG)
def test_errors_are_reported_when_the_configuration_is_read(
    tmp_path: Path, section: str, lines: list[str], named: list[str]
) -> None:
    text = "\n".join([f"<{section} mine>", *lines, f"</{section}>"]).format(tmp=tmp_path)
    with pytest.raises(ZConfig.ConfigurationError) as caught:
        load(text)
    message = str(caught.value)
    for name in named:
        assert name in message
    assert list(tmp_path.iterdir()) == []


def test_the_error_names_the_section(tmp_path: Path) -> None:
    with pytest.raises(ZConfig.ConfigurationError, match="<primary mine> cannot have both"):
        load(
            f"""
            <primary mine>
              address 1
              replicate-to 2
              filestorage-path {tmp_path}/Data.fs
            </primary>
            """
        )


@pytest.mark.parametrize("nested", [True, False])
def test_a_storage_opened_before_an_error_is_closed(tmp_path: Path, nested: bool) -> None:
    storage = (NESTED if nested else STORAGE).format(tmp=tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        factory = load(f"<primary>\naddress 127.0.0.1:{port}\n{storage}\n</primary>")
        with pytest.raises(OSError, match="in use"):
            factory.open()
    ZODB.FileStorage.FileStorage(str(tmp_path / "Data.fs")).close()

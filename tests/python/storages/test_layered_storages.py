"""Storages that transform records, or store changes elsewhere, outside and inside ours.

zc.zlibstorage is read from `.peers/zlibstorage` or ZRS_ZLIBSTORAGE; `make test` gets it.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import ZConfig
import ZODB
import ZODB.blob
import ZODB.config
from ZODB.DemoStorage import DemoStorage
from ZODB.MappingStorage import MappingStorage

from replicas.opening import tcp_address
from replicas.waiting import wait_caught_up
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replicas.opening import Opener

CHECKOUT = Path(__file__).parents[3]
TEXT = "compressible " * 1000
LAYERS = {"zlibstorage": b".z", "hexstorage": b".h"}
"""Sections of storages that transform records, and how a transformed one begins."""

layers = pytest.mark.parametrize("layer", LAYERS)
both_engines = pytest.mark.both_engines


@pytest.fixture(autouse=True, scope="module")
def zlibstorage() -> Iterator[None]:
    """Make zc.zlibstorage importable."""
    made = Path(os.environ.get("ZRS_ZLIBSTORAGE") or CHECKOUT / ".peers" / "zlibstorage")
    if not (made / "zc" / "zlibstorage").is_dir():
        reason = f"no zc.zlibstorage in {made}; `make .peers/zlibstorage.made` gets it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    sys.path.append(str(made))
    yield
    sys.path.remove(str(made))


def open_section(text: str) -> Any:
    """Return the storage in a configuration."""
    schema = ZODB.config.getStorageSchema()
    imports = "%import zc.zrs\n%import zc.zlibstorage\n%import ZODB.tests\n"
    config, _ = ZConfig.loadConfigFile(schema, io.StringIO(imports + text))
    return config.storage.open()


def around(section: str, nested: str, options: str = "") -> str:
    """Return a section with a nested section."""
    return f"<{section}>\n{options}\n{nested}\n</{section}>"


def file_section(directory: Path, name: str) -> str:
    """Return a filestorage section with blobs."""
    path = directory / name
    return around("filestorage", "", f"path {path}.fs\nblob-dir {path}.blobs")


def following(primary: Any) -> str:
    """Return the options of a secondary."""
    host, port = tcp_address(primary)
    return f"replicate-from {host}:{port}\nreconnect-delay 0.1"


def write(storage: Any) -> None:
    """Commit text and a blob, then change both."""
    db = ZODB.DB(storage)
    for text in TEXT, TEXT + "changed":
        with db.transaction() as connection:
            connection.root()["text"] = text
            connection.root()["blob"] = ZODB.blob.Blob(text.encode())


def assert_readable(storage: Any) -> None:
    """Fail unless a database on this storage has the last written data."""
    with ZODB.DB(storage).transaction() as connection:
        assert connection.root()["text"] == TEXT + "changed"
        with connection.root()["blob"].open("r") as file:
            assert file.read() == (TEXT + "changed").encode()


def blob_files(directory: Path, name: str) -> dict[str, bytes]:
    """Return the contents of all committed blobs."""
    top = directory / f"{name}.blobs"
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("0x*.blob")}


def assert_same_files(directory: Path, transformed: bytes) -> None:
    """Fail unless the secondary's files are the primary's, with transformed records."""
    data = (directory / "primary.fs").read_bytes()
    assert (directory / "secondary.fs").read_bytes() == data
    assert transformed in data
    assert TEXT.encode() not in data
    blobs = blob_files(directory, "primary")
    assert len(blobs) == 2
    assert blob_files(directory, "secondary") == blobs


@both_engines
def test_compression_around_both_sides(tmp_path: Path, opener: Opener) -> None:
    replicated = around("primary", file_section(tmp_path, "primary"), "address 127.0.0.1:0")
    primary = opener.closing(open_section(around("zlibstorage", replicated)))
    write(primary)
    copied = around("secondary", file_section(tmp_path, "secondary"), following(primary))
    secondary = opener.closing(open_section(around("zlibstorage", copied)))
    wait_caught_up(primary, secondary)
    # The layer is notified of changes before it has a database to notify.
    with ZODB.DB(primary).transaction() as connection:
        connection.root()["more"] = TEXT
    wait_caught_up(primary, secondary)
    assert_readable(secondary)
    assert_same_files(tmp_path, b".z")
    reader = ZODB.DB(secondary).open()
    with ZODB.DB(primary).transaction() as connection:
        connection.root()["text"] = "seen by those who have read before"
    wait_caught_up(primary, secondary)
    reader.sync()
    assert reader.root()["text"] == "seen by those who have read before"


@both_engines
@layers
@pytest.mark.parametrize("outer", ["primary", "layer"])
def test_a_layer_at_the_primary(outer: str, layer: str, tmp_path: Path, opener: Opener) -> None:
    # The records are sent as they are in the file, so readers of the copy need the layer too.
    nested, address = file_section(tmp_path, "primary"), "address 127.0.0.1:0"
    if outer == "primary":
        section = around("primary", around(layer, nested), address)
    else:
        section = around(layer, around("primary", nested, address))
    primary = opener.closing(open_section(section))
    write(primary)
    copied = around("secondary", file_section(tmp_path, "secondary"), following(primary))
    secondary = open_section(copied)
    wait_caught_up(primary, secondary)
    secondary.close()
    assert_same_files(tmp_path, LAYERS[layer])
    copy = open_section(around(layer, file_section(tmp_path, "secondary")))
    assert_readable(opener.closing(copy))


def test_compression_within_both_sides(tmp_path: Path, opener: Opener) -> None:
    # It does not compress data twice.
    nested = around("zlibstorage", file_section(tmp_path, "primary"))
    primary = opener.closing(open_section(around("primary", nested, "address 127.0.0.1:0")))
    write(primary)
    nested = around("zlibstorage", file_section(tmp_path, "secondary"))
    secondary = opener.closing(open_section(around("secondary", nested, following(primary))))
    wait_caught_up(primary, secondary)
    assert_readable(secondary)
    assert_same_files(tmp_path, b".z")


@both_engines
def test_a_secondary_that_compresses_by_itself(tmp_path: Path, opener: Opener) -> None:
    section = around("primary", file_section(tmp_path, "primary"), "address 127.0.0.1:0")
    primary = opener.closing(open_section(section))
    write(primary)
    nested = around("zlibstorage", file_section(tmp_path, "secondary"))
    secondary = opener.closing(open_section(around("secondary", nested, following(primary))))
    wait_caught_up(primary, secondary)
    assert_readable(secondary)
    assert blob_files(tmp_path, "secondary") == blob_files(tmp_path, "primary")
    assert TEXT.encode() in (tmp_path / "primary.fs").read_bytes()
    assert TEXT.encode() not in (tmp_path / "secondary.fs").read_bytes()


@both_engines
def test_a_demo_on_a_secondary(tmp_path: Path, opener: Opener) -> None:
    section = around("primary", file_section(tmp_path, "primary"), "address 127.0.0.1:0")
    primary = opener.closing(open_section(section))
    write(primary)
    copied = around(
        "secondary base", file_section(tmp_path, "secondary"), following(primary)
    ).replace("</secondary base>", "</secondary>")
    demo = opener.closing(open_section(around("demostorage", copied)))
    secondary = demo.base
    wait_caught_up(primary, secondary)
    before = (tmp_path / "secondary.fs").read_bytes()
    assert_readable(demo)
    db = ZODB.DB(demo)
    with db.transaction() as connection:
        connection.root()["text"] = "only in the demo"
    with db.transaction() as connection:
        assert connection.root()["text"] == "only in the demo"
    assert (tmp_path / "secondary.fs").read_bytes() == before
    assert_readable(secondary)


@both_engines
def test_a_demo_on_a_primary_ships_nothing(tmp_path: Path, opener: Opener) -> None:
    section = around("primary", file_section(tmp_path, "primary"), "address 127.0.0.1:0")
    primary = opener.closing(open_section(section))
    write(primary)
    copied = around("secondary", file_section(tmp_path, "secondary"), following(primary))
    secondary = opener.closing(open_section(copied))
    wait_caught_up(primary, secondary)
    last = primary.lastTransaction()
    demo = DemoStorage(base=primary, changes=MappingStorage())
    db = ZODB.DB(demo)
    with db.transaction() as connection:
        connection.root()["text"] = "only in the demo"
    assert primary.lastTransaction() == last == secondary.lastTransaction()


def test_a_demo_cannot_be_replicated(opener: Opener) -> None:
    base = opener.primary()
    demo = DemoStorage(base=base, changes=MappingStorage())
    with pytest.raises(TypeError):
        Primary(demo, ("127.0.0.1", 0))
    with pytest.raises(TypeError, match="cannot restore"):
        Secondary(demo, ("127.0.0.1", 1))

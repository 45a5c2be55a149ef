"""The storage that ZConfig opens: ``<zrsfilestorage>`` and ``storage-engine``."""

from __future__ import annotations

import contextlib
import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import transaction
import ZConfig
import ZODB
import ZODB.config
import ZODB.FileStorage
from persistent.mapping import PersistentMapping
from ZODB.FileStorage.FileStorage import FileStorageQuotaError
from ZODB.interfaces import IBlobStorage
from ZODB.POSException import ReadOnlyError

import zc.zrs.storages.engine
from zc.zrs.command import main
from zc.zrs.commands.service import open_database
from zc.zrs.filestorage import FileStorage
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zc.zrs.files.commit_sync import CommitSync

SECTIONS = [
    ("primary", "address 127.0.0.1:0"),
    ("secondary", "address 127.0.0.1:1"),
    ("zrs", "replicate-to 127.0.0.1:0"),
    ("zrs", "replicate-from 127.0.0.1:1"),
]
ENGINES = {"python": ZODB.FileStorage.FileStorage, "rust": FileStorage}


def load(text: str) -> Any:
    """Return the opener of the only storage in a configuration."""
    schema = ZODB.config.getStorageSchema()
    lines = "%import zc.zrs\n" + textwrap.dedent(text)
    config, _ = ZConfig.loadConfigFile(schema, io.StringIO(lines))
    return config.storage


@pytest.fixture
def closing() -> Iterator[Callable[[Any], Any]]:
    """Provide a function that registers objects to be closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda opened: stack.enter_context(contextlib.closing(opened))


def wrapped(storage: Any) -> Any:
    """Return the storage that a primary or a secondary wraps."""
    return storage._StorageWrapper__storage


def packer(_storage: Any, _references: Any, _stop: bytes, _gc: bool) -> None:
    """Pack nothing."""


def make_packer(**options: Any) -> Callable[..., None]:
    assert options == {"sleep": 3}
    return packer


# --- <zrsfilestorage>


def test_a_section_of_its_own(tmp_path: Path, closing: Any) -> None:
    storage = closing(
        load(f"<zrsfilestorage>\npath {tmp_path}/Data.fs\n</zrsfilestorage>").open()
    )
    assert type(storage) is FileStorage
    assert storage.getName() == f"{tmp_path}/Data.fs"
    assert not storage.isReadOnly()
    assert (storage._pack_gc, storage.pack_keep_old) == (True, True)


def test_its_options_are_those_of_the_class(tmp_path: Path, closing: Any) -> None:
    storage = closing(
        load(
            f"""
            <zrsfilestorage>
              path {tmp_path}/Data.fs
              blob-dir {tmp_path}/blobs
              quota 20KB
              pack-gc false
              pack-keep-old false
              packer {__name__}.packer
              commit-sync single
            </zrsfilestorage>
            """
        ).open()
    )
    assert IBlobStorage.providedBy(storage)
    assert storage.blob_dir == str(tmp_path / "blobs")
    assert (storage._pack_gc, storage.pack_keep_old) == (False, False)
    assert storage.packer is packer
    database = closing(ZODB.DB(storage))
    with (
        pytest.raises(FileStorageQuotaError),
        database.transaction() as connection,
    ):
        # No record may begin beyond the quota, as the last one would.
        connection.root()["long"] = [PersistentMapping(x="x" * 30_000) for _ in range(2)]


def test_create_and_read_only(tmp_path: Path, closing: Any) -> None:
    path = tmp_path / "Data.fs"
    section = f"<zrsfilestorage>\npath {path}\n%s\n</zrsfilestorage>"
    with contextlib.closing(ZODB.DB(load(section % "").open())):
        pass
    size = path.stat().st_size
    read_only = closing(load(section % "read-only true").open())
    assert read_only.isReadOnly()
    with pytest.raises(ReadOnlyError):
        read_only.new_oid()
    assert path.stat().st_size == size
    created = closing(load(section % "create true").open())
    assert len(created) == 0


def test_a_packer_can_be_an_expression(tmp_path: Path, closing: Any) -> None:
    storage = closing(
        load(
            f"""
            <zrsfilestorage>
              path {tmp_path}/Data.fs
              packer {__name__}:make_packer(sleep=3)
            </zrsfilestorage>
            """
        ).open()
    )
    assert storage.packer is packer


def test_commit_sync_has_two_values(tmp_path: Path) -> None:
    text = f"<zrsfilestorage x>\npath {tmp_path}/Data.fs\ncommit-sync maybe\n</zrsfilestorage>"
    with pytest.raises(ZConfig.ConfigurationError, match=r"<zrsfilestorage x> has commit-sync"):
        load(text)


def test_a_database_on_it(tmp_path: Path, closing: Any) -> None:
    text = (
        "%import zc.zrs\n<zodb>\n<zrsfilestorage>\n"
        f"path {tmp_path}/Data.fs\n</zrsfilestorage>\n</zodb>\n"
    )
    database = closing(ZODB.config.databaseFromString(text))
    assert type(database.storage) is FileStorage
    with database.transaction() as connection:
        connection.root()["x"] = 1
    with database.transaction() as connection:
        assert connection.root()["x"] == 1


@pytest.mark.parametrize(("section", "address"), SECTIONS)
def test_replicated(tmp_path: Path, closing: Any, section: str, address: str) -> None:
    text = f"<zrsfilestorage>\npath {tmp_path}/Data.fs\n</zrsfilestorage>"
    storage = closing(load(f"<{section}>\n{address}\n{text}\n</{section}>").open())
    assert isinstance(storage, Primary | Secondary)
    assert type(wrapped(storage)) is FileStorage


# --- storage-engine


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("section", "address"), SECTIONS)
def test_the_engine_that_is_named(  # noqa: PLR0913 -- as many things vary
    tmp_path: Path, closing: Any, section: str, address: str, engine: str, *, nested: bool
) -> None:
    path = tmp_path / "Data.fs"
    file = (
        f"<filestorage>\npath {path}\n</filestorage>" if nested else f"filestorage-path {path}"
    )
    text = f"<{section}>\n{address}\nstorage-engine {engine}\n{file}\n</{section}>"
    assert type(wrapped(closing(load(text).open()))) is ENGINES[engine]


def test_ours_is_the_default() -> None:
    assert ENGINES[zc.zrs.storages.engine.DEFAULT_ENGINE] is FileStorage


@pytest.mark.parametrize("default", ENGINES)
@pytest.mark.parametrize("form", ["nested", "filestorage-path", "path"])
def test_the_default_is_one_constant(
    tmp_path: Path, closing: Any, monkeypatch: pytest.MonkeyPatch, default: str, form: str
) -> None:
    monkeypatch.setattr(zc.zrs.storages.engine, "DEFAULT_ENGINE", default)
    path = tmp_path / "Data.fs"
    if form == "path":
        storage = closing(Primary(path, ("127.0.0.1", 0)))
    else:
        nested = f"<filestorage>\npath {path}\n</filestorage>"
        file = nested if form == "nested" else f"filestorage-path {path}"
        storage = closing(load(f"<primary>\naddress 127.0.0.1:0\n{file}\n</primary>").open())
    assert type(wrapped(storage)) is ENGINES[default]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_options_of_a_filestorage_are_kept(
    tmp_path: Path, closing: Any, engine: str
) -> None:
    storage = closing(
        load(
            f"""
            <primary>
              address 127.0.0.1:0
              storage-engine {engine}
              <filestorage>
                path {tmp_path}/Data.fs
                blob-dir {tmp_path}/blobs
                quota 20KB
                pack-gc false
                pack-keep-old false
                packer {__name__}.packer
              </filestorage>
            </primary>
            """
        ).open()
    )
    inner = wrapped(storage)
    assert type(inner) is ENGINES[engine]
    assert (inner._pack_gc, inner.pack_keep_old) == (False, False)
    assert inner.packer is packer
    assert Path(inner.blob_dir) == tmp_path / "blobs"
    database = closing(ZODB.DB(storage))
    with (
        pytest.raises(FileStorageQuotaError),
        database.transaction() as connection,
    ):
        # No record may begin beyond the quota, as the last one would.
        connection.root()["long"] = [PersistentMapping(x="x" * 30_000) for _ in range(2)]


@pytest.mark.parametrize("engine", ENGINES)
def test_both_engines_go_on_with_the_same_file(
    tmp_path: Path, engine: str, closing: Any
) -> None:
    path = tmp_path / "Data.fs"
    for number, name in enumerate(["python", "rust", engine, "python"]):
        text = (
            f"<primary>\naddress 127.0.0.1:0\nstorage-engine {name}\n"
            f"filestorage-path {path}\n</primary>"
        )
        with contextlib.closing(ZODB.DB(load(text).open())) as database:
            connection = database.open()
            assert len(connection.root()) == number
            connection.root()[number] = name
            transaction.commit()
            connection.close()
    final = closing(ZODB.DB(ZODB.FileStorage.FileStorage(str(path))))
    with final.transaction() as connection:
        assert list(connection.root().values()) == ["python", "rust", engine, "python"]


@pytest.mark.parametrize(
    ("storage", "complaint"),
    [
        ("storage-engine java\nfilestorage-path /x", "storage-engine java"),
        ("storage-engine rust\n<mappingstorage>\n</mappingstorage>", "requires a filestorage"),
        (
            "storage-engine python\n<zrsfilestorage>\npath /tmp/x\n</zrsfilestorage>",
            "requires a filestorage",
        ),
    ],
)
@pytest.mark.parametrize(("section", "address"), SECTIONS)
def test_unknown_engines(section: str, address: str, storage: str, complaint: str) -> None:
    with pytest.raises(ZConfig.ConfigurationError, match=complaint) as raised:
        load(f"<{section} name>\n{address}\n{storage}\n</{section}>")
    assert f"<{section} name>" in str(raised.value)


# --- commit-sync


@pytest.mark.parametrize("sync", ["ordered", "single"])
@pytest.mark.parametrize(
    "file", ["filestorage-path {}", "<filestorage>\npath {}\n</filestorage>"]
)
@pytest.mark.parametrize(("section", "address"), SECTIONS)
def test_commit_sync_of_a_replicated_storage(  # noqa: PLR0913, PLR0917 -- its parameters
    tmp_path: Path, closing: Any, section: str, address: str, file: str, sync: str
) -> None:
    file = file.format(tmp_path / "Data.fs")
    text = f"<{section}>\n{address}\ncommit-sync {sync}\n{file}\n</{section}>"
    assert wrapped(closing(load(text).open())).commit_sync == sync


@pytest.mark.parametrize(
    ("storage", "complaint"),
    [
        ("commit-sync maybe\nfilestorage-path /x", "commit-sync maybe"),
        ("commit-sync single\n<mappingstorage>\n</mappingstorage>", "requires a filestorage"),
        (
            "commit-sync single\n<zrsfilestorage>\npath /tmp/x\n</zrsfilestorage>",
            "requires a filestorage",
        ),
        (
            "commit-sync single\nstorage-engine python\nfilestorage-path /x",
            "requires storage-engine rust",
        ),
    ],
)
@pytest.mark.parametrize(("section", "address"), SECTIONS)
def test_commit_sync_that_does_not_apply_is_refused(
    section: str, address: str, storage: str, complaint: str
) -> None:
    with pytest.raises(ZConfig.ConfigurationError, match=complaint) as raised:
        load(f"<{section} name>\n{address}\n{storage}\n</{section}>")
    assert f"<{section} name>" in str(raised.value)


@pytest.mark.parametrize("sync", ["ordered", "single"])
def test_commit_sync_of_a_service(tmp_path: Path, closing: Any, sync: CommitSync) -> None:
    storage = closing(open_database(tmp_path / "Data.fs", None, commit_sync=sync))
    assert storage.commit_sync == sync


@pytest.mark.parametrize(
    "command",
    [
        ["primary", "--listen", "127.0.0.1:0"],
        ["secondary", "--from", "127.0.0.1:1"],
        ["bootstrap", "--from", "127.0.0.1:1"],
    ],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("sync", ["single", "ordered"])
def test_commit_sync_of_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], sync: CommitSync
) -> None:
    opened: list[object] = []

    def open_file_storage(*_: object, **options: object) -> None:
        opened.append(options.get("commit_sync"))
        raise OSError("this is enough")

    monkeypatch.setattr("zc.zrs.commands.service.open_file_storage", open_file_storage)
    name, *options = command
    assert main([name, str(tmp_path / "Data.fs"), *options, "--commit-sync", sync]) == 1
    assert opened == [sync]

"""The file: its path, permissions, full disks, the index, and lost ends."""

from __future__ import annotations

import copy
import io
import logging
import os
import resource
import shutil
import struct
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import transaction

from dobbin.command import main
from dobbin.database import Database
from dobbin.exc import IntegrityError
from dobbin.persistent import PersistentDict, PersistentFile, checkout
from object_database.test_instances import in_child
from object_database.things import Counter, Thing, Tree, change, elect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OTHER_ID = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


def names(directory: Path) -> set[str]:
    return {found.name for found in directory.iterdir()}


# --- The path


def two_directories(path: Path) -> tuple[Path, Path]:
    for name in "a", "b":
        (path / name).mkdir()
        with Database(path / name / "objects", sync="none") as db:
            elect(db, Counter(ord(name)))
    return path / "a", path / "b"


def test_a_relative_path_is_resolved_when_the_database_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two_directories(tmp_path)
    monkeypatch.chdir(first)
    with Database("objects", sync="none") as db:
        assert db.path == str(first / "objects")
        for elsewhere in second, Path("/"):
            monkeypatch.chdir(elsewhere)
            transaction.begin()
            assert db.root.count in {97, 98}
            change(db.root, count=98)
            assert db.compact()[1] > 0
            with copy.copy(db) as twin:
                assert twin.root.count == 98
            assert os.waitpid(in_child(lambda: change(db.root, count=98)), 0)[1] == 0
    for directory, count in (first, 98), (second, 98):
        assert names(directory) == {"objects", "objects.index"}
        with Database(directory / "objects", sync="none") as db:
            assert (db.root.count, db.tx_count > 1) == (count, directory == first)


def test_neither_a_child_nor_a_copy_creates_a_file(tmp_path: Path) -> None:
    db = Database(tmp_path / "objects", sync="none")
    root = elect(db, Counter(1))
    checkout(root)
    root.increment()
    (tmp_path / "objects").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError):
        copy.copy(db)

    def work() -> None:
        with pytest.raises(ValueError, match=r"could not be opened after a fork: .*objects"):
            transaction.commit()
        transaction.abort()
        for use in lambda: db.root, lambda: checkout(root), lambda: db.get(1):
            with pytest.raises(ValueError, match="could not be opened after a fork"):
                use()
        assert root.count == 1
        db.close()

    assert os.waitpid(in_child(work), 0)[1] == 0
    assert names(tmp_path) == {"elsewhere"}
    transaction.abort()
    (tmp_path / "elsewhere").rename(tmp_path / "objects")
    change(root, count=5)
    db.close()


@pytest.mark.parametrize("command", [True, False])
def test_compacting_through_a_symbolic_link_replaces_its_target(
    tmp_path: Path, *, command: bool
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    link = tmp_path / "link"
    link.symlink_to("data/objects")
    with Database(link, sync="none") as linked, Database(data / "objects", sync="none") as real:
        elect(linked, Counter(0))
        transaction.begin()
        for count in range(20):
            change(real.root, count=count)
        transaction.begin()
        if command:
            assert main(["compact", str(link)]) == 0
        else:
            linked.compact()
        transaction.begin()
        change(real.root, count=50)
        transaction.begin()
        change(linked.root, count=linked.root.count + 1)
        transaction.begin()
        assert (real.root.count, linked.root.count) == (51, 51)
    assert link.is_symlink()
    assert names(tmp_path) == {"data", "link"}
    assert names(data) == {"objects", "objects.index"}
    assert main(["check", str(link)]) == 0


def test_a_database_can_be_created_through_a_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "objects")
    with Database(tmp_path / "link", sync="none") as db:
        elect(db, Counter(3))
    with Database(tmp_path / "objects", sync="none") as db:
        assert db.root.count == 3


# --- Permissions


def access(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid, status.st_mode & 0o777


@pytest.mark.parametrize("command", [True, False])
def test_a_compacted_file_has_the_owner_and_mode_of_the_old_one(
    db: Database, *, command: bool
) -> None:
    elect(db, Counter(3))
    path = Path(db.path)
    path.chmod(0o660)
    if os.geteuid() == 0:
        os.chown(path, OTHER_ID, OTHER_ID)
    before = access(path)
    if command:
        assert main(["compact", db.path]) == 0
    else:
        db.compact()
        db.close()
    assert access(path) == before
    assert access(Path(f"{path}.index")) == before


def access_list() -> bytes:
    """Return an access control list that lets one more user write, as tags and permissions."""
    user, named, group, mask, others = 1, 2, 4, 16, 32
    entries = ((user, 6), (named, 6), (group, 0), (mask, 6), (others, 0))
    ids = {named: OTHER_ID}
    rows = (struct.pack("<HHI", tag, may, ids.get(tag, 2**32 - 1)) for tag, may in entries)
    return struct.pack("<I", 2) + b"".join(rows)


def test_a_compacted_file_has_the_access_control_list_of_the_old_one(db: Database) -> None:
    elect(db, Counter(3))
    try:
        os.setxattr(db.path, "system.posix_acl_access", access_list())
    except OSError:
        pytest.skip("the file system has no access control lists")
    db.compact()
    db.close()
    for path in db.path, f"{db.path}.index":
        assert os.getxattr(path, "system.posix_acl_access") == access_list()


def test_the_copy_of_an_unfinished_transaction_has_the_owner_and_mode_of_the_file(
    db: Database,
) -> None:
    elect(db, Counter(3))
    db.close()
    path = Path(db.path)
    Path(f"{path}.index").unlink()
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    path.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(path, OTHER_ID, OTHER_ID)
    Database(path, sync="none").close()
    (torn,) = path.parent.glob("*.torn-*")
    assert access(torn) == access(path)
    assert torn.read_bytes() == content[32:]


@as_root
@pytest.mark.parametrize(("mode", "allowed"), [(0o640, False), (0o660, True), (0o600, False)])
def test_a_compaction_that_would_deny_access_to_the_owner_is_refused(
    *, mode: int, allowed: bool
) -> None:
    """A member of the group compacts a file of root."""
    directory = Path(tempfile.mkdtemp())  # only the user of pytest can read its directories
    try:
        directory.chmod(0o777)
        path = directory / "objects"
        with Database(path, sync="none") as db:
            elect(db, Counter(3))
            db._p_store.log.save_index()
            path.chmod(mode)
            os.chown(path, 0, OTHER_ID)
            before = path.stat().st_ino

            def work() -> None:
                os.setgroups([])
                os.setegid(OTHER_ID)
                os.seteuid(OTHER_ID)
                if allowed:
                    db.compact()
                else:
                    with pytest.raises(OSError, match="owner"):
                        db.compact()

            # The child of root already has the file open, so it can read it.
            pid = in_child(work)
            assert os.waitpid(pid, 0)[1] == 0
            assert names(directory) == {"objects", "objects.index"}
            assert (path.stat().st_ino != before) == allowed
            assert access(path)[1:] == (OTHER_ID, mode)
            transaction.begin()
            change(db.root, count=4)
    finally:
        shutil.rmtree(directory)


# --- Full disks


@contextmanager
def longest_file(length: int) -> Iterator[None]:
    """Limit the length of files; longer writes are cut short, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("sync", ["commit", "none"])
@pytest.mark.parametrize("size", [5_000, 6_000_000])
@pytest.mark.parametrize("room", [0, 10, 400])
def test_a_commit_without_space_does_not_disable_the_database(
    open_database: Callable[..., Database], sync: str, size: int, room: int
) -> None:
    db, other = open_database(sync=sync), open_database(sync=sync)
    root = elect(db, Tree(first=1))
    transaction.begin()
    checkout(root)
    root["more"] = os.urandom(size)
    with longest_file(Path(db.path).stat().st_size + room):
        with pytest.raises(OSError, match="too large"):
            transaction.commit()
        transaction.abort()
        transaction.begin()
        assert dict(other.root) == dict(root) == {"first": 1}
    for instance in db, other:
        transaction.begin()
        checkout(instance.root)
        instance.root[instance is db] = 2
        transaction.commit()
    transaction.begin()
    expected = {"first": 1, True: 2, False: 2}
    assert dict(other.root) == dict(root) == dict(open_database().root) == expected
    other.close()
    db.close()
    assert main(["check", db.path]) == 0


# --- The index


def test_a_commit_returns_when_the_index_cannot_be_saved(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    root = elect(db, Tree())
    # A file cannot be renamed to the path of a directory.
    Path(f"{db.path}.index").mkdir()
    checkout(root)
    root["long"] = PersistentFile(io.BytesIO(bytes(65 << 20)))
    with caplog.at_level(logging.WARNING, "dobbin"):
        transaction.commit()
        assert "index could not be saved" in caplog.text
        caplog.clear()
        checkout(root)
        root["more"] = 1
        transaction.commit()
        # Later commits do not try again.
        assert caplog.text == ""
        db.close()
        assert "index could not be saved" in caplog.text
    assert names(Path(db.path).parent) == {"objects", "objects.index"}
    with Database(db.path) as again:
        assert again.root["more"] == 1


def test_threads_can_save_the_index_at_the_same_time(
    db: Database,
) -> None:
    root = elect(db, Tree({number: PersistentDict() for number in range(4)}))
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for count in range(50):
                checkout(root[number])
                root[number]["count"] = count
                transaction.commit()
                db._p_store.log.save_index()
        except BaseException as error:  # noqa: BLE001 -- checked below
            errors.append(error)
            transaction.abort()

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert names(Path(db.path).parent) == {"objects", "objects.index"}


# --- Lost ends


def with_a_lost_end(db: Database, cut: int) -> tuple[Path, bytes, bytes]:
    """Return the path of a file that is shorter than its index shows, and its contents."""
    root = elect(db, Thing(name="first"))
    middle = Path(db.path).stat().st_size
    change(root, name="second")
    db.close()
    path = Path(db.path)
    content = path.read_bytes()
    left = content[: middle if cut == 0 else -cut]
    path.write_bytes(left)
    return path, left, Path(f"{path}.index").read_bytes()


@pytest.mark.parametrize("cut", [0, 5])
def test_a_lost_end_is_reported_and_the_rest_can_be_recovered(
    db: Database, capsys: pytest.CaptureFixture[str], cut: int
) -> None:
    path, left, index = with_a_lost_end(db, cut)
    expected = f"{path}: the end of the file is lost: it has {len(left)} bytes"
    with pytest.raises(
        IntegrityError, match=r"end of the file is lost.*up to transaction 2"
    ) as raised:
        Database(path)
    assert str(raised.value).startswith(expected)
    for command in "check", "dump":
        assert main([command, str(path)]) == 1
        assert expected in capsys.readouterr().out
    assert main(["compact", str(path)]) == 2
    assert expected in capsys.readouterr().err
    assert names(path.parent) == {"objects", "objects.index"}
    assert (path.read_bytes(), Path(f"{path}.index").read_bytes()) == (left, index)

    assert main(["recover", str(path)]) == 0
    output = capsys.readouterr().out
    assert expected in output
    assert "its last transaction is 1" in output
    suffix = f".lost-{len(left)}"
    assert Path(f"{path}{suffix}").read_bytes() == left
    assert Path(f"{path}.index{suffix}").read_bytes() == index
    assert access(Path(f"{path}{suffix}")) == access(path)
    with Database(path, sync="none") as again:
        assert again.root.name == "first"
        change(again.root, name="third")
    for command in "check", "recover":
        assert main([command, str(path)]) == 0
    assert "nothing to recover" in capsys.readouterr().out
    # An earlier copy is not overwritten.
    path.write_bytes(left)
    Path(f"{path}.index").write_bytes(index)
    assert main(["recover", str(path)]) == 0
    assert Path(f"{path}.index{suffix}-2").read_bytes() == index


def test_with_an_index_an_empty_file_is_refused_and_a_missing_one_is_logged(
    db: Database, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    elect(db, Counter(1))
    db.close()
    path = Path(db.path)
    path.write_bytes(b"")
    expected = "the file is empty, but had .* up to transaction 1"
    with pytest.raises(IntegrityError, match=expected):
        Database(path)
    for command in "check", "dump", "compact", "recover":
        assert main([command, str(path)]) == 2
        assert "the file is empty" in capsys.readouterr().err
    assert path.read_bytes() == b""
    path.unlink()
    with caplog.at_level(logging.WARNING, "dobbin"):
        Database(path, sync="none").close()
    assert "the file does not exist, but its index does" in caplog.text


def test_an_instance_whose_file_becomes_shorter_raises(
    db: Database, open_database: Callable[..., Database]
) -> None:
    root = elect(db, Thing(name="first"))
    middle = Path(db.path).stat().st_size
    change(root, name="second")
    os.truncate(db.path, middle)
    transaction.abort()
    with pytest.raises(IntegrityError, match="end of the file is lost"):
        transaction.begin()
    assert Path(db.path).stat().st_size == middle
    db.close()
    with pytest.raises(IntegrityError, match="end of the file is lost"):
        open_database()

"""Objects: shared states, checkouts, changes and conflicts."""

from __future__ import annotations

import copy
import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import transaction

from dobbin.database import Database, PersistentStream
from dobbin.exc import (
    InvalidObjectReference,
    ObjectGraphError,
    ReadConflictError,
    WriteConflictError,
)
from dobbin.persistent import (
    Broken,
    Persistent,
    PersistentFile,
    checkout,
    retract,
)
from object_database.things import (
    Counter,
    Slotted,
    Thing,
    Tree,
    Upper,
    change,
    elect,
    in_thread,
)

if TYPE_CHECKING:
    from collections.abc import Callable

STREAMING = Path(__file__).with_name("streaming.py")
READ_ONLY = "Can't set attribute in read-only mode."


def test_uncommitted_changes_are_invisible_to_other_threads(db: Database) -> None:
    root = elect(db, Thing(name="shared", tags=["a"]))
    checkout(root)
    root.name = "mine"
    root.tags.append("b")
    del root.name
    root.extra = 1
    assert not hasattr(root, "name")
    seen = in_thread(lambda: (root.name, root.tags, hasattr(root, "extra")))
    assert seen == ("shared", ["a"], False)
    with pytest.raises(RuntimeError, match=READ_ONLY):
        in_thread(lambda: setattr(root, "name", "theirs"))
    transaction.abort()
    assert (root.name, root.tags) == ("shared", ["a"])
    with pytest.raises(RuntimeError, match=READ_ONLY):
        root.name = "x"
    with pytest.raises(RuntimeError, match=READ_ONLY):
        del root.name


def test_a_value_that_is_changed_in_place_is_committed(
    db: Database, open_database: Callable[..., Database]
) -> None:
    root = elect(db, Thing(tags=["a"], numbers={1, 2}, untouched=[1]))
    checkout(root)
    root.tags.append("b")
    assert root.numbers == {1, 2}
    assert root.untouched == [1]
    transaction.commit()
    assert root.tags == ["a", "b"]
    assert open_database().root.tags == ["a", "b"]


def test_values_that_were_only_read_are_not_written(db: Database) -> None:
    root = elect(db, Thing(tags=["a"], numbers={1, 2}))
    end = Path(db.path).stat().st_size
    checkout(root)
    assert (root.tags, root.numbers) == (["a"], {1, 2})
    transaction.commit()
    assert Path(db.path).stat().st_size == end


def test_checked_out_objects_have_their_own_class(db: Database) -> None:
    counter = elect(db, Counter())
    for _ in range(2):
        assert counter.__class__ is Counter
        assert isinstance(counter, Counter)
        assert repr(counter).startswith("<object_database.things.Counter object at 0x")
        checkout(counter)
    retract(counter)
    assert type(counter) is Counter


def test_methods_and_properties_work_on_checked_out_objects(db: Database) -> None:
    counter = elect(db, Counter(3))
    assert counter.double == 6
    with pytest.raises(RuntimeError, match=READ_ONLY):
        counter.increment()
    checkout(counter)
    counter.increment()
    counter.double = 20
    assert (counter.count, counter.double, vars(counter)) == (10, 20, {"count": 10})
    with pytest.raises(AttributeError, match="'Counter' object has no attribute 'missing'"):
        counter.missing  # noqa: B018
    with pytest.raises(AttributeError, match="_p_oid belongs to the database"):
        counter._p_oid = 7
    transaction.commit()
    assert counter.double == 20


def test_slots_are_attributes_too(db: Database, open_database: Callable[..., Database]) -> None:
    thing = Slotted()
    checkout(thing)
    thing.weight = 3
    thing.height = 4
    elect(db, thing)
    assert (thing.weight, thing.height) == (3, 4)
    twin = open_database().root
    assert (twin.weight, twin.height) == (3, 4)
    with pytest.raises(RuntimeError, match=READ_ONLY):
        twin.weight = 5
    checkout(twin)
    del twin.weight
    twin.height = 5
    transaction.commit()
    transaction.begin()
    assert not hasattr(thing, "weight")
    assert thing.height == 5


def test_persistent_dictionaries_have_the_methods_of_dictionaries(
    db: Database, open_database: Callable[..., Database]
) -> None:
    tree, model = elect(db, Tree(a=1, b=[2], c=3)), {"a": 1, "b": [2], "c": 3}
    with pytest.raises(RuntimeError, match=READ_ONLY):
        tree["a"] = 2
    with pytest.raises(RuntimeError, match=READ_ONLY):
        tree.clear()
    twin = open_database().root
    steps: list[Callable[[Any], Any]] = [
        lambda d: d.__setitem__("d", 4),
        lambda d: d["b"].append(3),
        lambda d: d.pop("a"),
        lambda d: d.setdefault("a", 9),
        lambda d: d.update({"e": 5}, f=6),
        lambda d: d.popitem(),
        lambda d: d.__delitem__("c"),
        lambda d: d.setdefault("b", None),
        lambda d: d.get("zz", 0),
        lambda d: list(reversed(d)),
        lambda d: d.__ior__({"g": 7}) and None,
        lambda d: d | {"h": 1},
        lambda d: {"h": 1} | d,
        lambda d: d.clear(),
        lambda d: d.update(dict.fromkeys("xyz", 0)),
    ]
    for step in steps:
        checkout(tree)
        assert step(tree) == step(model)
        assert list(tree.items()) == list(model.items())
        transaction.commit()
        transaction.begin()
        assert tree == model == twin
        assert list(tree) == list(model) == list(twin)
        assert len(twin) == len(model)
    with pytest.raises(KeyError):
        tree["missing"]
    assert Tree.fromkeys("ab", 1) == {"a": 1, "b": 1}
    assert tree.copy() == tree
    assert tree.copy()._p_jar is None


def test_all_items_can_be_deleted(db: Database, open_database: Callable[..., Database]) -> None:
    tree = elect(db, Tree(dict.fromkeys("abc", "x" * 20)))
    checkout(tree)
    for key in list(tree):
        del tree[key]
    savepoint = transaction.savepoint()
    tree["d"] = 1
    savepoint.rollback()
    transaction.commit()
    assert tree == {}
    assert open_database().root == {}


def test_another_mapping_is_not_stored_as_a_dictionary(
    db: Database, open_database: Callable[..., Database]
) -> None:
    mapping = elect(db, Upper())
    checkout(mapping)
    mapping["a"] = 1
    transaction.commit()
    twin = open_database().root
    assert (dict(twin), twin.stored) == ({"A": 1}, {"A": 1})


def test_small_changes_make_small_records(db: Database) -> None:
    tree = elect(db, Tree(dict.fromkeys(range(1000), "x" * 20)))
    end = Path(db.path).stat().st_size
    checkout(tree)
    tree[5] = "y"
    transaction.commit()
    assert Path(db.path).stat().st_size - end < 400
    for n in range(600):
        checkout(tree)
        tree[n] = n
        transaction.commit()
    twin = Database(db.path)
    assert twin.root == tree
    twin.close()


def test_conflict_resolution_keeps_both_changes(
    db: Database, open_database: Callable[..., Database]
) -> None:
    counter = elect(db, Counter(1))
    other = open_database()
    assert other.root.count == 1
    transaction.begin()

    def add(obj: Any, number: int, *, commit: bool = False) -> None:
        checkout(obj)
        obj.count += number
        if commit:
            transaction.commit()

    add(counter, 10)
    in_thread(lambda: add(db.root, 100, commit=True))
    transaction.commit()
    assert counter.count == 111
    add(counter, 1)
    in_thread(lambda: add(other.root, 1000, commit=True))
    transaction.commit()
    assert counter.count == 1112
    transaction.begin()
    assert other.root.count == 1112


def test_conflicts_name_the_objects(
    db: Database, open_database: Callable[..., Database]
) -> None:
    root = elect(db, Thing(child=Thing(n=0), n=0))
    other = open_database()
    checkout(root)
    root.n = 1
    in_thread(lambda: change(db.root, n=2))
    with pytest.raises(WriteConflictError, match="Thing object at") as conflict:
        transaction.commit()
    assert [conflict.value.object] == [root]
    transaction.abort()
    transaction.begin()
    checkout(root)
    checkout(root.child)
    root.n = root.child.n = 3
    in_thread(lambda: change(transaction.begin() and other.root.child, n=4))
    with pytest.raises(ReadConflictError) as read_conflict:
        transaction.commit()
    assert list(read_conflict.value.objects) == [root.child]
    assert (root.n, root.child.n) == (2, 4)
    transaction.abort()


def test_a_retry_succeeds(db: Database) -> None:
    root = elect(db, Thing(n=0))
    tries = []

    def work() -> None:
        checkout(root)
        root.n += 1
        tries.append(root.n)
        if len(tries) == 1:
            in_thread(lambda: change(db.root, n=10))

    transaction.manager.run(work)
    assert tries == [1, 11]
    assert root.n == 11


def test_an_object_that_two_threads_connect_is_not_lost(db: Database) -> None:
    root = elect(db, Thing())
    loose = Thing(name="loose")
    checkout(loose)
    loose.name = "mine"
    in_thread(lambda: change(db.root, loose=loose))
    with pytest.raises(WriteConflictError):
        transaction.commit()
    transaction.abort()
    change(loose, name="again")
    assert root.loose.name == "again"


def test_an_object_that_is_not_connected_prevents_the_commit(db: Database) -> None:
    root = elect(db, Thing(n=0))
    loose = Thing()
    checkout(loose)
    checkout(root)
    root.n = 1
    with pytest.raises(ObjectGraphError, match=r"Thing object at .* not connected to graph"):
        transaction.commit()
    transaction.abort()
    assert (root.n, loose._p_jar, len(db)) == (0, None, 1)


def test_an_object_of_another_database_is_refused(
    db: Database, open_database: Callable[..., Database]
) -> None:
    root = elect(db, Thing())
    other = elect(open_database("other"), Thing())
    checkout(root)
    root.other = other
    with pytest.raises(InvalidObjectReference):
        transaction.commit()
    transaction.abort()
    with pytest.raises(InvalidObjectReference):
        db.add(other)


def test_a_failed_commit_leaves_new_objects_new(db: Database) -> None:
    root = elect(db, Thing())
    new = Thing(name="new")
    checkout(root)
    root.new = new
    root.bad = threading.Lock()
    with pytest.raises(TypeError):
        transaction.commit()
    transaction.abort()
    assert (new._p_jar, new._p_oid) == (None, None)
    change(root, new=new)
    assert (new._p_jar, len(db)) == (db, 2)


def test_savepoints_restore_states(db: Database) -> None:
    root = elect(db, Tree(tags=["a"]))
    checkout(root)
    root["tags"].append("b")
    root.name = "b"
    savepoint = transaction.savepoint()
    for _ in range(2):
        root["tags"].append("c")
        root.name = "c"
        root.child = child = Thing()
        checkout(child)
        savepoint.rollback()
        assert (root["tags"], root.name) == (["a", "b"], "b")
        assert not hasattr(root, "child")
    transaction.commit()
    assert (root["tags"], root.name) == (["a", "b"], "b")


def test_objects_can_be_added_without_a_reference(
    db: Database, open_database: Callable[..., Database]
) -> None:
    thing = Thing(name="alone")
    db.add(thing)
    assert thing._p_jar is db
    transaction.abort()
    assert thing._p_jar is None
    db.add(thing)
    transaction.commit()
    assert open_database().get(thing._p_oid or 0).name == "alone"
    assert db.get(thing._p_oid or 0) is thing
    with pytest.raises(KeyError):
        db.get(999)


def test_cycles_and_identity_are_kept(
    db: Database, open_database: Callable[..., Database]
) -> None:
    first, second = Thing(), Thing()
    checkout(first)
    checkout(second)
    first.other, second.other, first.me = second, first, first
    first.pair = [second, second]
    elect(db, first)
    twin = open_database().root
    assert twin.other.other is twin is twin.me
    assert twin.pair[0] is twin.pair[1] is twin.other
    assert copy.copy(db).root.other.other.me._p_oid == twin._p_oid
    assert copy.deepcopy(twin) is twin


def test_streams_can_be_read_from_any_position(
    db: Database, open_database: Callable[..., Database]
) -> None:
    data = os.urandom(500_000)
    source = io.BytesIO(b"skipped" + data)
    source.seek(7)
    pfile: Any = PersistentFile(source)
    root = elect(db, Thing(file=pfile, again=pfile))
    assert root.file is pfile
    assert type(pfile) is PersistentStream
    assert root.again is pfile
    other = open_database().root
    assert other.file is other.again
    for stream in root.file, other.file:
        assert len(stream) == len(data)
        with pytest.raises(ValueError, match="closed"):
            stream.read()
        assert stream.open() is None
        assert stream.read(3) == data[:3]
        assert stream.seek(131_070) is None
        assert stream.read(10) == data[131_070:131_080]
        stream.seek(-5, os.SEEK_END)
        assert stream.read() == data[-5:]
        assert stream.read() == b""
        stream.seek(2)
        stream.seek(1, os.SEEK_CUR)
        assert (stream.tell(), stream.closed) == (3, False)
        assert in_thread(lambda: stream.closed)  # noqa: B023 -- runs before the next iteration
        assert b"".join(stream) == data
        assert stream.tell() == 3
        assert max(map(len, stream)) < len(data)
        stream.close()
    end = Path(db.path).stat().st_size
    change(root, third=root.file)
    assert Path(db.path).stat().st_size - end < 1000


def test_a_stream_may_be_larger_than_memory(tmp_path: Path) -> None:
    """It is written and read in blocks, so memory use does not grow with its size."""
    program = [sys.executable, str(STREAMING), str(tmp_path / "objects"), "300"]
    done = subprocess.run(program, check=True, capture_output=True, text=True)
    grown, read = map(int, done.stdout.split())
    assert read == 300 << 20
    assert grown < 32 << 20


def test_a_stream_is_read_again_after_a_failed_commit(db: Database) -> None:
    root = elect(db, Thing(n=0))
    checkout(root)
    root.file = pfile = PersistentFile(io.BytesIO(b"bytes"))
    root.bad = threading.Lock()
    with pytest.raises(TypeError):
        transaction.commit()
    transaction.abort()
    change(root, file=pfile)
    assert b"".join(root.file) == b"bytes"


def test_a_missing_class_leaves_a_broken_object(
    db: Database, open_database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = elect(db, Thing(child=Counter(7)))
    monkeypatch.delattr("object_database.things.Counter")
    other = open_database().root
    assert issubclass(type(other.child), Broken)
    assert other.child.count == 7
    with pytest.raises(TypeError, match="cannot be imported"):
        checkout(other.child)
    change(other, also=other.child)
    monkeypatch.undo()
    transaction.begin()
    assert root.also is root.child
    assert open_database().root.also.count == 7


def test_classes_are_found_by_an_overridable_method(db: Database) -> None:
    elect(db, Thing(child=Counter(7)))

    class Strict(Database):
        def find_class(self, module: str, name: str) -> Any:
            if name == "Counter":
                raise ImportError(f"{module}.{name} is not wanted")
            return super().find_class(module, name)

    with Strict(db.path) as strict:
        assert isinstance(strict.root.child, Broken)
    assert strict.closed


def test_objects_of_classes_that_cannot_be_found_are_not_stored(db: Database) -> None:
    class Local(Persistent):
        pass

    db.elect(Local())
    with pytest.raises(TypeError, match="cannot store objects of"):
        transaction.commit()
    transaction.abort()
    with pytest.raises(TypeError, match="not a persistent object"):
        checkout(object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes no arguments"):
        Persistent(1)


def test_checkouts_of_ended_threads_are_given_back(db: Database) -> None:
    root = elect(db, Thing(n=0))
    in_thread(lambda: checkout(root))
    assert type(root) is Thing

"""Persistent classes support the features of Python classes, checked out or not."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import transaction

from dobbin._contexts import checkout_of
from dobbin.command import main
from dobbin.persistent import Persistent, PersistentDict, checkout
from object_database import classes, things
from object_database.classes import (
    Box,
    Cached,
    CachedElsewhere,
    Making,
    PastSuper,
    Shelf,
    Traced,
    Tracing,
    Validating,
    Volatile,
)
from object_database.things import Thing, Tree, change, elect, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from dobbin.database import Database

READ_ONLY = "Can't set attribute in read-only mode."


def test_generic_classes_are_called(
    db: Database, open_database: Callable[..., Database]
) -> None:
    root = elect(db, Shelf[str](box=Box[int](1)))
    assert (root["box"].value, type(root), type(root["box"])) == (1, Shelf, Box)
    checkout(root)
    root["other"] = Box[str]("x")
    transaction.commit()
    assert open_database().root["other"].value == "x"
    assert vars(root) == {}


@pytest.mark.parametrize("kind", [Cached, CachedElsewhere])
def test_cached_properties_are_never_outdated(
    db: Database, open_database: Callable[..., Database], kind: Any
) -> None:
    obj = elect(db, kind(2))
    assert (obj.double, obj.double) == (4, 4)
    assert "double" in vars(obj)
    checkout(obj)
    obj.n = 10
    assert (obj.double, obj.double) == (20, 20)
    assert in_thread(lambda: obj.double) == 4
    assert vars(obj)["double"] == 20
    transaction.abort()
    assert obj.double == 4
    checkout(obj)
    assert obj.double == 4
    obj.n = 20
    transaction.commit()
    assert obj.double == 40
    twin = open_database().root
    assert "double" not in vars(twin)
    assert twin.double == 40
    change(db.root, n=1)
    transaction.begin()
    assert twin.double == 2
    assert "double" not in vars(copy.copy(twin))


def test_a_cached_value_that_was_stored_is_ignored(
    db: Database, open_database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files written by earlier versions may contain such values."""
    with monkeypatch.context() as patched:
        patched.delattr(CachedElsewhere, "double")
        obj = elect(db, CachedElsewhere(2))
        change(obj, double=99)

    class CachedNow(Persistent):
        double = Cached.double

    monkeypatch.setattr(classes, "CachedElsewhere", CachedNow)
    assert open_database().root.double == 4


def test_volatile_attributes_are_not_stored(
    db: Database, open_database: Callable[..., Database]
) -> None:
    root = elect(db, Thing(n=1, _v_made="while it was made"))
    end = Path(db.path).stat().st_size
    root._v_cache = {"shared": 1}
    assert in_thread(lambda: root._v_cache) == {"shared": 1}
    checkout(root)
    assert not hasattr(root, "_v_cache")
    root._v_cache = "mine"
    assert (root._v_cache, vars(root)["_v_cache"]) == ("mine", "mine")
    assert in_thread(lambda: root._v_cache) == {"shared": 1}
    with pytest.raises(RuntimeError, match=READ_ONLY):
        in_thread(lambda: setattr(root, "other", 1))
    transaction.commit()
    assert Path(db.path).stat().st_size == end
    change(root, n=2)
    assert not hasattr(root, "_v_cache")
    root._v_cache = 1
    del root._v_cache
    with pytest.raises(AttributeError, match="_v_cache"):
        del root._v_cache
    twin = open_database().root
    twin._v_first = 1  # also where the state is not in memory
    assert vars(twin) == {"n": 2, "_v_first": 1}


def test_volatile_slots_are_not_stored(
    db: Database, open_database: Callable[..., Database]
) -> None:
    obj: Any = elect(db, Volatile())
    obj._v_slot = 1
    assert obj._v_slot == 1
    change(obj, slot=2)
    assert not hasattr(obj, "_v_slot")
    assert not hasattr(open_database().root, "_v_slot")
    assert open_database().root.slot == 2


def test_the_attributes_of_a_checked_out_object_are_private(db: Database) -> None:
    root = elect(db, Thing(tags=["a"], n=1))
    checkout(root)
    found = vars(root)
    for refused in (
        lambda: found.update(n=2),
        lambda: found.__setitem__("n", 2),
        lambda: found.pop("n"),
        lambda: found.__delitem__("n"),
        found.clear,
        lambda: found.setdefault("m", 2),
        found.popitem,
    ):
        with pytest.raises(TypeError, match="set with setattr"):
            refused()
    # A change in place belongs to the checkout, and does not affect the shared state.
    found["tags"].append("b")
    assert in_thread(lambda: root.tags) == ["a"]
    transaction.commit()
    assert root.tags == ["a", "b"]


@pytest.mark.parametrize("deep", [False, True], ids=["same", "in another"])
@pytest.mark.parametrize("read", [False, True], ids=["not read", "read"])
def test_values_that_share_a_part_still_share_it_after_a_change(
    db: Database, open_database: Callable[..., Database], *, read: bool, deep: bool
) -> None:
    root = elect(db, Tree())
    checkout(root)
    tags = [0]
    root.first, root.second = tags, ({"in": [tags]} if deep else tags)
    root["item"] = (tags,)
    root["padding"] = "p" * 2000
    transaction.commit()

    def second(obj: Any) -> Any:
        return obj.second["in"][0] if deep else obj.second

    for n in 1, 2:
        checkout(root)
        if read:
            second(root)
        root.first.append(n)
        transaction.commit()
        for obj in root, open_database().root:
            assert obj.first == list(range(n + 1))
            assert obj.first is second(obj) is obj["item"][0]


def test_values_that_share_no_part_are_not_copied(db: Database) -> None:
    """The cost of a change in place depends only on the value that was changed."""
    root = elect(db, PersistentDict({n: [n, [n]] for n in range(1000)}))
    checkout(root)
    root[5].append(6)
    transaction.commit()
    checkout(root)
    root[6][1].append(7)
    checked_out: Any = checkout_of(root)
    assert checked_out.find_changes()
    assert list(checked_out.items._copies) == [6]


@pytest.mark.parametrize("state", ["ghost", "checked out", "shared"])
def test_the_type_of_an_object_can_be_called(
    db: Database, open_database: Callable[..., Database], state: str
) -> None:
    elect(db, Making(1))
    obj = open_database().root
    if state != "ghost":
        assert obj.n == 1
    if state == "checked out":
        checkout(obj)
    kind: Any = type(obj)
    made = kind(5)
    assert (type(made), made.n) == (Making, 5)
    assert type(kind.__new__(kind)) is Making
    assert (type(obj.another()), obj.another().n) == (Making, 2)
    cls, new = obj.made()
    assert cls is Making
    assert (type(new), new.n) == (Making, 7)
    checkout(made)
    made.n = 6
    change(obj, child=made)
    assert open_database().root.child.n == 6


def test_variants_are_not_listed_as_subclasses(db: Database) -> None:
    tracing = elect(db, Traced())
    checkout(tracing)
    assert Tracing.__subclasses__() == [Traced]
    assert Traced.__subclasses__() == []
    assert Tracing.registered == [Traced]


def test_a_class_can_override_setting_and_deleting(
    db: Database, open_database: Callable[..., Database]
) -> None:
    obj: Any = elect(db, Validating(doubled=1, kept=1))
    assert obj.doubled == 2
    with pytest.raises(RuntimeError, match=READ_ONLY):
        obj.doubled = 1
    with pytest.raises(ValueError, match="not positive"):
        obj.positive = -1
    checkout(obj)
    obj.doubled = 5
    with pytest.raises(ValueError, match="not positive"):
        obj.positive = -1
    with pytest.raises(ValueError, match="kept"):
        del obj.kept
    assert obj.doubled == 10
    assert in_thread(lambda: obj.doubled) == 2
    transaction.commit()
    twin = open_database().root
    with pytest.raises(RuntimeError, match=READ_ONLY):
        twin.doubled = 1
    assert (twin.doubled, twin.kept) == (10, 1)
    with pytest.raises(ValueError, match="not positive"):
        Validating(positive=-1)


def test_a_class_can_override_reading(
    db: Database, open_database: Callable[..., Database]
) -> None:
    obj: Any = elect(db, Traced())
    twin: Any = open_database().root
    for found in obj, twin:
        for out in False, True:
            if out:
                checkout(found)
            assert (found.asked, found.missing, found.label) == ("answered", "found", "traced")
            assert found.__class__ is Traced
            with pytest.raises(AttributeError):
                found.nothing  # noqa: B018
        transaction.abort()
    checkout(obj)
    obj.n = 2
    obj.tags.append("b")
    assert (obj.n, obj.tags) == (2, ["a", "b"])
    assert in_thread(lambda: (obj.n, obj.tags)) == (1, ["a"])
    transaction.commit()
    transaction.begin()
    assert (twin.n, twin.tags) == (2, ["a", "b"])


def test_methods_that_bypass_super_do_not_change_the_shared_state(
    db: Database, open_database: Callable[..., Database]
) -> None:
    obj: Any = PastSuper()
    checkout(obj)
    obj.n, obj.slot, obj.gone = 1, 1, 1
    elect(db, obj)
    assert (obj.n, obj.slot) == ([1], [1])
    checkout(obj)
    obj.n = obj.slot = obj.new = 2
    del obj.gone
    obj.n.append(3)
    assert (obj.n, obj.slot) == ([2, 3], [2])
    seen = in_thread(lambda: (obj.n, obj.slot, obj.gone, hasattr(obj, "new")))
    assert seen == ([1], [1], [1], False)
    transaction.abort()
    assert (obj.n, obj.slot, obj.gone, hasattr(obj, "new")) == ([1], [1], [1], False)
    checkout(obj)
    obj.n = obj.new = 2
    del obj.gone
    transaction.commit()
    twin = open_database().root
    for found in obj, twin:
        assert (found.n, found.new, hasattr(found, "gone")) == ([2], [2], False)


def test_items_are_kept_when_a_class_is_no_longer_a_dictionary(
    db: Database, open_database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    elect(db, Tree(a=1, b=2))

    class NoTree(Persistent):
        pass

    NoTree.__qualname__ = "Tree"
    NoTree.__module__ = things.__name__
    with monkeypatch.context() as patched:
        patched.setattr(things, "Tree", NoTree)
        other = open_database().root
        for use in (lambda: other.name, lambda: checkout(other)):
            with pytest.raises(TypeError, match=r"object 1 is a dictionary of 2 items, but"):
                use()
    assert dict(open_database().root) == {"a": 1, "b": 2}


def test_a_class_may_become_a_dictionary(
    db: Database, open_database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    elect(db, Thing(n=1))

    class Thing2(PersistentDict):
        pass

    Thing2.__qualname__ = "Thing"
    Thing2.__module__ = things.__name__
    monkeypatch.setattr(things, "Thing", Thing2)
    root = open_database().root
    assert (root.n, dict(root)) == (1, {})
    checkout(root)
    root["a"] = 2
    transaction.commit()
    assert dict(open_database().root) == {"a": 2}


def test_a_dump_finds_the_same_damage_as_a_check(
    open_database: Callable[..., Database],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Bytes after the last transaction that were never durable are not damage."""
    db = open_database(sync="commit")
    elect(db, Thing(n=1))
    change(db.root, n=2)
    db.close()
    content = (tmp_path / "objects").read_bytes()
    torn, damaged = tmp_path / "torn", tmp_path / "damaged"
    torn.write_bytes(content[:-5])
    damaged.write_bytes(content[:100] + b"\xff" + content[101:])
    for path, status in (torn, 0), (damaged, 1):
        for command in "check", "dump":
            assert main([command, str(path)]) == status, command
    assert "unfinished" in capsys.readouterr().out


def test_threads_may_create_classes_at_the_same_time(db: Database) -> None:
    elect(db, Thing())
    made = [type(f"Class{n}", (Persistent,), {}) for n in range(20)]
    outcomes: list[Any] = []

    def make() -> None:
        outcomes.append([cls() for cls in made])

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[type(obj) for obj in found] for found in outcomes] == [made] * 4

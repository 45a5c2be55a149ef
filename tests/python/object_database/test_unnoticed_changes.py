"""`debug` detects shared objects that were changed in place without a checkout."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import transaction

from dobbin.exc import UnnoticedChangeError
from dobbin.persistent import PersistentDict, checkout
from object_database.classes import Cached
from object_database.things import Thing, change, elect

if TYPE_CHECKING:
    from collections.abc import Callable

    from dobbin.database import Database


@pytest.fixture
def watched(db: Database, open_database: Callable[..., Database]) -> Database:
    """Return a database with a root that has been loaded from the file."""
    elect(db, Thing(tags=["a"], child=PersistentDict(numbers=[1, 2])))
    found = open_database(debug=True)
    assert found.root.tags == ["a"]
    assert found.root.child["numbers"] == [1, 2]
    return found


CHANGES: list[tuple[str, Callable[[Any], Any]]] = [
    ("Thing object .*: attribute 'tags'", lambda root: root.tags.append("b")),
    ("PersistentDict .*: item 'numbers'", lambda root: root.child["numbers"].clear()),
    ("Thing object .*: attribute 'new'", lambda root: vars(root).update(new=1)),
    ("PersistentDict .*: item 'new'", lambda root: root.child._p_items.update(new=1)),
    ("Thing object .*: attribute 'tags'", lambda root: vars(root).pop("tags")),
]
ENDS = [transaction.commit, transaction.abort, transaction.begin]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(("text", "do"), CHANGES)
def test_a_change_without_a_checkout_is_found_and_discarded(
    watched: Database, text: str, do: Callable[[Any], Any], end: Callable[[], Any]
) -> None:
    root = watched.root
    do(root)
    with pytest.raises(UnnoticedChangeError, match=text):
        end()
    transaction.abort()
    assert (root.tags, dict(root.child)) == (["a"], {"numbers": [1, 2]})
    assert not hasattr(root, "new")
    change(root, tags=["c"])
    assert root.tags == ["c"]


def test_an_unnoticed_change_prevents_the_commit_of_other_changes(
    watched: Database, db: Database
) -> None:
    root = watched.root
    checkout(root)
    root.n = 1
    root.child["numbers"].append(3)
    with pytest.raises(UnnoticedChangeError) as error:
        transaction.commit()
    assert list(error.value.objects) == [root.child]
    transaction.abort()
    transaction.begin()
    assert not hasattr(db.root, "n")


def test_just_committed_objects_are_watched_too(watched: Database) -> None:
    root = watched.root
    change(root, new=PersistentDict(a=[1]))
    root.new["a"].append(2)
    with pytest.raises(UnnoticedChangeError, match="item 'a'"):
        transaction.begin()
    transaction.abort()
    assert root.new["a"] == [1]


def test_correct_changes_are_not_reported(watched: Database, db: Database) -> None:
    root = watched.root
    checkout(root)
    root.tags.append("b")
    root.cached = Cached(2)
    transaction.commit()
    root._v_cache = [1]
    root._v_cache.append(2)
    assert root.cached.double == 4
    transaction.begin()
    change(db.root, tags=[])
    transaction.begin()
    assert root.tags == []
    checkout(root)
    root.tags.append("c")
    transaction.abort()
    assert root.tags == []


def test_another_error_is_not_hidden(
    watched: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        watched.root.tags.append("b")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        transaction.manager.run(fail)
    assert "changed in place without a checkout" in caplog.text


def test_a_change_before_closing_is_logged(
    watched: Database, caplog: pytest.LogCaptureFixture
) -> None:
    watched.root.tags.append("b")
    with caplog.at_level(logging.ERROR, "dobbin"):
        watched.close()
    assert "attribute 'tags'" in caplog.text


def test_without_debug_nothing_is_watched(
    watched: Database, open_database: Callable[..., Database]
) -> None:
    plain = open_database()
    plain.root.tags.append("b")
    transaction.commit()
    assert watched.root.tags == ["a"]
    with watched.isolated_view() as view:
        view.root.tags.append("b")
        with pytest.raises(UnnoticedChangeError):
            transaction.commit()

"""References to objects that a compaction left out, and states that it removed."""

from __future__ import annotations

import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import transaction

from dobbin.command import main
from dobbin.exc import InvalidObjectReference
from dobbin.persistent import PersistentDict, checkout
from object_database.things import Counter, Thing, change, elect
from zc.zrs import _zrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from dobbin.database import Database


@pytest.fixture(params=["before", "after"])
def begun(request: pytest.FixtureRequest) -> bool:
    """Whether a transaction begins after the compaction and before the object is used."""
    return bool(request.param == "after")


def cut_out(db: Database, *, by_command: bool = True) -> tuple[Any, Any]:
    """Return the root and an object that a compaction of another process has left out."""
    root = elect(db, PersistentDict(trash=PersistentDict(), message=Thing(text="a message")))
    message = root["message"]
    checkout(root)
    del root["message"]
    transaction.commit()
    if by_command:
        assert main(["compact", "--drop-unreachable", db.path]) == 0
    else:
        db.compact(unreachable=False)
    return root, message


def link(root: Any, message: Any) -> None:
    checkout(root["trash"])
    root["trash"]["message"] = message


def link_from_new(root: Any, message: Any) -> None:
    checkout(root["trash"])
    root["trash"]["new"] = PersistentDict(message=message)


def change_it(_root: Any, message: Any) -> None:
    checkout(message)
    message.text = "changed"


def make_it_the_root(root: Any, message: Any) -> None:
    root._p_jar.elect(message, replace=True)


@pytest.mark.parametrize("by_command", [True, False])
@pytest.mark.parametrize("use", [link, link_from_new, change_it, make_it_the_root])
def test_a_commit_refuses_references_to_an_object_that_was_left_out(
    db: Database,
    open_database: Callable[..., Database],
    use: Callable[[Any, Any], None],
    *,
    begun: bool,
    by_command: bool,
) -> None:
    root, message = cut_out(db, by_command=by_command)
    if begun:
        transaction.begin()
    use(root, message)
    with pytest.raises(InvalidObjectReference, match="not in the database any more"):
        transaction.commit()
    transaction.abort()
    # Its state exists only in memory and stays there; a copy can be stored.
    assert message.text == "a message"
    link(root, Thing(**vars(message)))
    transaction.commit()
    assert open_database().root["trash"]["message"].text == "a message"
    db.close()
    assert main(["check", db.path]) == 0


def test_an_object_that_was_checked_out_when_it_was_left_out_is_refused(db: Database) -> None:
    root = elect(db, PersistentDict(message=Thing(text="a message"), other=Counter(1)))
    message, other = root["message"], root["other"]
    checkout(root)
    del root["message"]
    transaction.commit()
    checkout(message)
    message.text = "changed"
    assert main(["compact", "--drop-unreachable", db.path]) == 0
    with pytest.raises(InvalidObjectReference):
        transaction.commit()
    transaction.abort()
    # No other object was lost.
    change(other, count=2)
    assert db.root["other"].count == 2


def test_an_object_that_is_reachable_again_in_time_is_kept(db: Database) -> None:
    """Objects that are reachable when the file is compacted stay, whatever happened before."""
    root = elect(db, PersistentDict(trash=PersistentDict(), message=Thing(text="a message")))
    message = root["message"]
    checkout(root)
    del root["message"]
    transaction.commit()
    link(root, message)
    transaction.commit()
    assert main(["compact", "--drop-unreachable", db.path]) == 0
    transaction.begin()
    link_from_new(root, message)
    transaction.commit()
    db.close()
    assert main(["check", db.path]) == 0


def with_another_reference(path: Path, target: int) -> None:
    """Change the reference of the first object in a file."""
    content = bytearray(path.read_bytes())
    dump = _zrs.LogDump(path)
    first = dump.next()
    assert first is not None
    position, length = first.records[0][2:4]
    payload = position + 48
    content[payload + 4 : payload + 12] = target.to_bytes(8, "big")
    checksum = zlib.crc32(content[payload : payload + length])
    content[position + 40 : position + 44] = checksum.to_bytes(4, "big")
    checksum = zlib.crc32(content[position : position + 44] + position.to_bytes(8, "big"))
    content[position + 44 : position + 48] = checksum.to_bytes(4, "big")
    path.write_bytes(content)


def test_check_finds_references_that_lead_nowhere(
    db: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    elect(db, PersistentDict(child=Thing(name="child")))
    db.close()
    assert main(["check", db.path]) == 0
    capsys.readouterr()
    with_another_reference(Path(db.path), 77)
    assert main(["check", db.path]) == 1
    output = capsys.readouterr().out
    assert "object 1: reference to object 77, which does not exist" in output
    assert "1 problems" in output


def test_a_snapshot_of_a_time_before_a_compaction_is_refused(
    db: Database, open_database: Callable[..., Database]
) -> None:
    before = time.time() - 1
    root = elect(db, Counter(1))
    change(root, count=2)
    first = time.time()
    change(root, count=3)
    db.compact()
    after = time.time()
    for moment in before, first:
        target = open_database("target")
        with pytest.raises(ValueError, match="a compaction has removed"):
            db.snapshot(target, moment)
        assert (target.root, target.tx_count) == (None, 0)
    db.snapshot(target, after)
    assert target.root.count == 3

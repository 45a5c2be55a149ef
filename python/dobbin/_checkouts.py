"""What is checked out: the own state of an object in a thread or transaction manager."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from dobbin._classes import (
    attributes_of,
    is_ghost,
    set_class,
    transitions,
    variants,
)
from dobbin._overlay import Overlay, fingerprint, may_be_shared
from dobbin._slots import COUNT, items_of, resolves_nothing, serial_of
from dobbin.exc import ConflictError

if TYPE_CHECKING:
    from dobbin.persistent import Persistent


class Joined(Protocol):
    """What takes part in a transaction for a database, and writes what is checked out."""

    @property
    def table(self) -> Table:
        """The checkouts of the context that it belongs to."""


class Table(dict[int, "Checkout"]):
    """The checkouts of a thread or a transaction manager, by the ids of their objects."""

    def give_back_all(self) -> None:
        """Forget all of them."""
        while self:
            _give_back(self.popitem()[1].obj)

    def __del__(self) -> None:
        self.give_back_all()


class Settled(NamedTuple):
    """What a checkout comes to.

    `changes` are attributes set and deleted, and items set and deleted.
    """

    changes: tuple[dict[str, Any], list[str], dict[Any, Any], list[Any]]
    attributes: dict[str, Any]
    items: dict[Any, Any] | None


class Checkout:
    """A thread's own state of an object.

    `serial` is the transaction whose state it was taken from; `participant` is who writes
    it. `items` is None unless the object is a dictionary. `volatile` has attributes that are
    not stored.
    """

    __slots__ = (
        "attributes",
        "items",
        "memo",
        "obj",
        "participant",
        "serial",
        "settled",
        "volatile",
    )

    def __init__(self, obj: Persistent, participant: Joined) -> None:
        self.obj = obj
        self.participant = participant
        self.memo: dict[int, Any] = {}
        self.volatile: dict[str, Any] = {}
        self.settled: Settled
        self._take()

    def _take(self) -> None:
        self.serial = serial_of(self.obj)
        self.attributes: Overlay[str] = Overlay(attributes_of(self.obj), self.memo)
        items = items_of(self.obj)
        self.items: Overlay[Any] | None = None if items is None else Overlay(items, self.memo)

    def settle(self) -> bool:
        """Find the changes and what they lead to; return whether there are any."""
        if self.memo and may_be_shared(self.memo) and self._is_changed_in_place():
            # A value that was not read may have a part in common with one that was changed.
            self.attributes.read_all()
            if self.items is not None:
                self.items.read_all()
        changed, deleted = self.attributes.changes()
        merged = self.attributes.merged(changed, deleted)
        if self.items is None:
            self.settled = Settled((changed, deleted, {}, []), merged, None)
        else:
            items = self.items.changes()
            changes = (changed, deleted, *items)
            self.settled = Settled(changes, merged, self.items.merged(*items))
        return any(self.settled.changes)

    def _is_changed_in_place(self) -> bool:
        items = self.items
        return self.attributes.is_changed_in_place() or (
            items is not None and items.is_changed_in_place()
        )

    def merged(self) -> tuple[dict[str, Any], dict[Any, Any] | None]:
        """Return all attributes and all items at this moment."""
        self.settle()
        return self.settled.attributes, self.settled.items

    def _base(self) -> tuple[dict[str, Any], dict[Any, Any] | None]:
        return self.attributes.base, None if self.items is None else self.items.base

    def saved(self) -> tuple[Any, Any]:
        """Return what `restore` takes."""
        return self.attributes.saved(), None if self.items is None else self.items.saved()

    def restore(self, saved: tuple[Any, Any]) -> None:
        """Go back to what `saved` returned."""
        self.volatile.clear()
        self.attributes.restore(saved[0])
        if self.items is not None:
            self.items.restore(saved[1])

    def is_outdated(self) -> bool:
        """Whether somebody has committed the object since."""
        return serial_of(self.obj) != self.serial

    def resolve(self) -> bool:
        """Reconcile the changes with what was committed; return whether that was done."""
        hook = self.obj._p_resolve_conflict
        if hook is resolves_nothing:
            return False
        old, new = self._base(), self.merged()
        self.memo = {}
        self._take()
        saved = self._base()
        try:
            merged = hook(*(self._shown(state) for state in (old, saved, new)))
        except ConflictError:
            return False
        if self.items is None:
            _write(self.attributes, merged)
        else:
            _write(self.attributes, merged[0])
            _write(self.items, merged[1])
        self.settle()
        return True

    def _shown(self, state: tuple[Any, Any]) -> Any:
        """Return a state as a hook sees it: attributes, with items if there can be any."""
        attributes, items = copy.deepcopy(state, {})
        return attributes if items is None else (attributes, items)


def _write(overlay: Overlay[Any], wanted: dict[Any, Any]) -> None:
    for key in [key for key in overlay if key not in wanted]:
        del overlay[key]
    for key, value in wanted.items():
        if key not in overlay.base or fingerprint(overlay.base[key]) != fingerprint(value):
            overlay[key] = value


def check_out(obj: Persistent, participant: Joined) -> None:
    """Give a participant's context its own state of an object whose state is in memory."""
    with transitions:
        checkout = Checkout(obj, participant)
        COUNT.__set__(obj, COUNT.__get__(obj) + 1)
        set_class(obj, variants(type(obj)).local)
    participant.table[id(obj)] = checkout


def give_back(checkout: Checkout) -> None:
    """Forget a checkout."""
    if checkout.participant.table.pop(id(checkout.obj), None) is not None:
        _give_back(checkout.obj)


def take_over(checkout: Checkout, participant: Joined) -> None:
    """Have another participant write a checkout, maybe one of another context."""
    checkout.participant.table.pop(id(checkout.obj), None)
    checkout.participant = participant
    participant.table[id(checkout.obj)] = checkout


def _give_back(obj: Persistent) -> None:
    with transitions:
        count = COUNT.__get__(obj) - 1
        COUNT.__set__(obj, count)
        if count == 0 and not is_ghost(obj):
            set_class(obj, variants(type(obj)).shared)


def is_checked_out(obj: Persistent) -> bool:
    """Whether the object is checked out anywhere."""
    return bool(COUNT.__get__(obj))

"""Checkouts: the private states of objects in a thread or transaction manager."""

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
    from dobbin._slots import Slots


class CheckoutOwner(Protocol):
    """A participant of a transaction, which writes its checkouts."""

    @property
    def table(self) -> Table:
        """The checkouts of its context."""


class Table(dict[int, "Checkout"]):
    """The checkouts of a thread or a transaction manager, by the ids of their objects."""

    def give_back_all(self) -> None:
        """Give back all of them."""
        while self:
            _give_back(self.popitem()[1].obj)

    def __del__(self) -> None:
        self.give_back_all()


class Outcome(NamedTuple):
    """The changes of a checkout, and the state that they lead to.

    `changes` are attributes set and deleted, and items set and deleted.
    """

    changes: tuple[dict[str, Any], list[str], dict[Any, Any], list[Any]]
    attributes: dict[str, Any]
    items: dict[Any, Any] | None


class Checkout:
    """A context's private state of an object.

    `serial` is the transaction whose state it was taken from, and `owner` the participant that
    writes it. `items` is None unless the object is a dictionary. `volatile` are attributes that
    are not stored. `outcome` is what `find_changes` found last.
    """

    __slots__ = (
        "attributes",
        "items",
        "memo",
        "obj",
        "outcome",
        "owner",
        "serial",
        "volatile",
    )

    def __init__(self, obj: Slots, owner: CheckoutOwner) -> None:
        self.obj = obj
        self.owner = owner
        self.memo: dict[int, Any] = {}
        self.volatile: dict[str, Any] = {}
        self.outcome: Outcome
        self._take()

    def _take(self) -> None:
        self.serial = serial_of(self.obj)
        self.attributes: Overlay[str] = Overlay(attributes_of(self.obj), self.memo)
        items = items_of(self.obj)
        self.items: Overlay[Any] | None = None if items is None else Overlay(items, self.memo)

    def find_changes(self) -> bool:
        """Compute `outcome`; return whether there are changes."""
        if self.memo and may_be_shared(self.memo) and self._is_changed_in_place():
            # A value that was not read may share a part with one that was changed.
            self.attributes.read_all()
            if self.items is not None:
                self.items.read_all()
        changed, deleted = self.attributes.changes()
        merged = self.attributes.merged(changed, deleted)
        if self.items is None:
            self.outcome = Outcome((changed, deleted, {}, []), merged, None)
        else:
            items = self.items.changes()
            changes = (changed, deleted, *items)
            self.outcome = Outcome(changes, merged, self.items.merged(*items))
        return any(self.outcome.changes)

    def _is_changed_in_place(self) -> bool:
        items = self.items
        return self.attributes.is_changed_in_place() or (
            items is not None and items.is_changed_in_place()
        )

    def merged(self) -> tuple[dict[str, Any], dict[Any, Any] | None]:
        """Return all current attributes and items."""
        self.find_changes()
        return self.outcome.attributes, self.outcome.items

    def _base(self) -> tuple[dict[str, Any], dict[Any, Any] | None]:
        return self.attributes.base, None if self.items is None else self.items.base

    def saved(self) -> tuple[Any, Any]:
        """Return a copy of the state, for `restore`."""
        return self.attributes.saved(), None if self.items is None else self.items.saved()

    def restore(self, saved: tuple[Any, Any]) -> None:
        """Restore a state that `saved` returned."""
        self.volatile.clear()
        self.attributes.restore(saved[0])
        if self.items is not None:
            self.items.restore(saved[1])

    def is_outdated(self) -> bool:
        """Whether the object was committed since the checkout."""
        return serial_of(self.obj) != self.serial

    def resolve(self) -> bool:
        """Merge the changes with the committed state; return whether that succeeded."""
        hook = self.obj._p_resolve_conflict
        if hook is resolves_nothing:
            return False
        old, new = self._base(), self.merged()
        self.memo = {}
        self._take()
        saved = self._base()
        try:
            merged = hook(*(self._for_hook(state) for state in (old, saved, new)))
        except ConflictError:
            return False
        if self.items is None:
            _write(self.attributes, merged)
        else:
            _write(self.attributes, merged[0])
            _write(self.items, merged[1])
        self.find_changes()
        return True

    def _for_hook(self, state: tuple[Any, Any]) -> Any:
        """Return a state for a hook: attributes, with items if the object is a dictionary."""
        attributes, items = copy.deepcopy(state, {})
        return attributes if items is None else (attributes, items)


def _write(overlay: Overlay[Any], wanted: dict[Any, Any]) -> None:
    for key in [key for key in overlay if key not in wanted]:
        del overlay[key]
    for key, value in wanted.items():
        if key not in overlay.base or fingerprint(overlay.base[key]) != fingerprint(value):
            overlay[key] = value


def check_out(obj: Slots, owner: CheckoutOwner) -> None:
    """Give the owner's context a private state of an object whose state is in memory."""
    with transitions:
        checkout = Checkout(obj, owner)
        COUNT.__set__(obj, COUNT.__get__(obj) + 1)
        set_class(obj, variants(type(obj)).local)
    owner.table[id(obj)] = checkout


def give_back(checkout: Checkout) -> None:
    """End a checkout, and discard its changes."""
    if checkout.owner.table.pop(id(checkout.obj), None) is not None:
        _give_back(checkout.obj)


def take_over(checkout: Checkout, owner: CheckoutOwner) -> None:
    """Make another participant, possibly of another context, the owner of a checkout."""
    checkout.owner.table.pop(id(checkout.obj), None)
    checkout.owner = owner
    owner.table[id(checkout.obj)] = checkout


def _give_back(obj: Slots) -> None:
    with transitions:
        count = COUNT.__get__(obj) - 1
        COUNT.__set__(obj, count)
        if count == 0 and not is_ghost(obj):
            set_class(obj, variants(type(obj)).shared)

"""The slots that every persistent object has, in any class and variant."""

from __future__ import annotations

from typing import Any

from dobbin.exc import ConflictError


class Slots:
    """The slots of a persistent object.

    `_p_jar` is its database, `_p_oid` its number there, and `_p_serial` the transaction that
    wrote it last. `_p_items` are its items if it is a dictionary. `_p_count` is the number of
    contexts that have checked it out.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_p_count",
        "_p_items",
        "_p_jar",
        "_p_oid",
        "_p_serial",
    )

    _p_count: int
    _p_items: Any
    _p_jar: Any
    _p_oid: int | None
    _p_serial: int | None

    @staticmethod
    def _p_resolve_conflict(old: Any, saved: Any, new: Any) -> Any:  # noqa: ARG004
        """Return the state to commit, or raise `ConflictError`; to be overridden.

        `old` is the state at the checkout, `saved` the state that another transaction has
        committed since, and `new` the state that this transaction would commit. A state is a
        dictionary of attributes; for a `PersistentDict`, it is a pair of this and a dictionary
        of items.
        """
        raise ConflictError


# The slots of an object can be read and set past its own attribute access.
COUNT, ITEMS, JAR, OID, SERIAL = (
    Slots.__dict__[name] for name in ("_p_count", "_p_items", "_p_jar", "_p_oid", "_p_serial")
)
set_dict: Any = Slots.__dict__["__dict__"].__set__
resolves_nothing: Any = Slots._p_resolve_conflict


def store_of(obj: Any) -> Any:
    """Return the store of the database that an object is in, None if it is in none."""
    jar = JAR.__get__(obj)
    return None if jar is None else jar._p_store


def serial_of(obj: Slots) -> int | None:
    """Return the transaction that wrote the object last."""
    serial: int | None = SERIAL.__get__(obj)
    return serial


def items_of(obj: Slots) -> dict[Any, Any] | None:
    """Return the shared items, not to be changed; None if the object is not a dictionary."""
    items: dict[Any, Any] | None = ITEMS.__get__(obj)
    return items


def is_checked_out(obj: Slots) -> bool:
    """Whether any context has checked the object out."""
    return bool(COUNT.__get__(obj))

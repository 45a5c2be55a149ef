"""What every persistent object has, whatever its class and variant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dobbin.exc import ConflictError

if TYPE_CHECKING:
    from dobbin.persistent import Persistent


class Slots:
    """The slots of a persistent object.

    `_p_jar` is its database, `_p_oid` its number there, `_p_serial` the transaction that
    wrote it last; `_p_items` its items if it is a dictionary, `_p_count` how many threads
    have checked it out.
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

        `old` is the state that a thread began with, `saved` the one that another
        transaction has committed since, `new` the one that the thread would commit. A state
        is a dictionary of attributes; of a `PersistentDict`, the pair of that and a
        dictionary of items.
        """
        raise ConflictError


# The slots of an object can be read and set past its own attribute access.
COUNT, ITEMS, JAR, OID, SERIAL = (
    Slots.__dict__[name] for name in ("_p_count", "_p_items", "_p_jar", "_p_oid", "_p_serial")
)
set_dict: Any = Slots.__dict__["__dict__"].__set__
resolves_nothing: Any = Slots._p_resolve_conflict


def serial_of(obj: Persistent) -> int | None:
    """Return the transaction that wrote the object last."""
    serial: int | None = SERIAL.__get__(obj)
    return serial


def items_of(obj: Persistent) -> dict[Any, Any] | None:
    """Return the shared items, not to be changed; None if the object is no dictionary."""
    items: dict[Any, Any] | None = ITEMS.__get__(obj)
    return items

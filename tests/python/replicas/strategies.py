"""Hypothesis strategies for histories: commits, undos, deletions and their metadata."""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
from typing import Any

from hypothesis import strategies as st
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import POSKeyError, UndoError
from ZODB.utils import p64

from replicas.transactions import commit, delete, serial_of, undo

OBJECTS = 6
"""How many objects there are: few, so that transactions concern the same ones."""


@dataclasses.dataclass(frozen=True)
class Marker:
    """An application's object in an extension."""

    value: Any
    next: Marker | None = None


_hashable = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.complex_numbers(),
    st.datetimes(),
    st.dates(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.uuids(),
)
_values = st.recursive(
    _hashable,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(_hashable, inner, max_size=4),
        st.sets(_hashable, max_size=4),
        st.frozensets(_hashable, max_size=4),
        st.decimals(),
        st.builds(bytearray, st.binary(max_size=10)),
        st.builds(Marker, inner),
        st.builds(lambda value: Marker(value, Marker(value)), inner),
    ),
    max_leaves=12,
)
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=100)
extensions = st.dictionaries(st.text(max_size=10), _values, max_size=4)


CLASS = (("persistent.mapping", "PersistentMapping"), None)


@dataclasses.dataclass(frozen=True)
class Data:
    """The data of a record with a short repr: an object with random bytes."""

    piece: bytes
    times: int = 1

    def __bytes__(self) -> bytes:
        # ZODB fails when an undo has to unpickle data that are not an object's.
        state = {"data": {"bytes": self.piece * self.times}}
        return pickle.dumps(CLASS, 3) + pickle.dumps(state, 3)


_pieces = st.binary(max_size=100)
_data = st.one_of(st.builds(Data, _pieces), st.builds(Data, _pieces, st.integers(1, 5000)))


@dataclasses.dataclass(frozen=True)
class Commit:
    """Stores data of any number of objects, including none."""

    objects: dict[int, Data]
    user: str
    description: str
    extension: dict[str, Any]

    def apply(self, storage: Any, tids: list[bytes]) -> None:
        tid = commit(
            storage,
            {number: bytes(data) for number, data in self.objects.items()},
            user=self.user,
            description=self.description,
            extension=self.extension,
        )
        tids.append(tid)


@dataclasses.dataclass(frozen=True)
class Undo:
    """Undoes one of the last transactions, including undos, if possible."""

    back: int

    def apply(self, storage: Any, tids: list[bytes]) -> None:
        if self.back < len(tids):
            # If it cannot be undone, it is aborted, and nothing of it may be sent.
            with contextlib.suppress(UndoError):
                tids.append(undo(storage, tids[-1 - self.back]))


@dataclasses.dataclass(frozen=True)
class Delete:
    """Deletes an object if it exists."""

    number: int

    def apply(self, storage: Any, tids: list[bytes]) -> None:
        try:
            storage.getTid(p64(self.number))
        except POSKeyError:
            return
        tids.append(delete(storage, self.number))


@dataclasses.dataclass(frozen=True)
class Abort:
    """Votes, and then aborts."""

    objects: dict[int, Data]

    def apply(self, storage: Any, tids: list[bytes]) -> None:  # noqa: ARG002 -- as the others
        transaction = TransactionMetaData("nobody", "aborted")
        storage.tpc_begin(transaction)
        for number, data in self.objects.items():
            oid = p64(number)
            storage.store(oid, serial_of(storage, oid), bytes(data), "", transaction)
        storage.tpc_vote(transaction)
        storage.tpc_abort(transaction)


_numbers = st.integers(0, OBJECTS - 1)
_objects = st.dictionaries(_numbers, _data, max_size=4)
_commits = st.builds(Commit, _objects, _text, _text, extensions)

Step = Commit | Undo | Delete | Abort
steps: st.SearchStrategy[Step] = st.one_of(
    _commits,
    _commits,
    st.builds(Undo, st.integers(0, 5)),
    st.builds(Delete, _numbers),
    st.builds(Abort, _objects),
)
# ZODB 6.4 does not reopen a file of 100 bytes or more whose transactions all have no records.
_first = st.builds(
    Commit, st.dictionaries(_numbers, _data, min_size=1), _text, _text, extensions
)
histories: st.SearchStrategy[list[Step]] = st.builds(
    lambda first, rest: [first, *rest], _first, st.lists(steps, max_size=24)
)
limits = st.lists(
    st.one_of(st.integers(0, 300), st.integers(0, 10_000), st.integers(0, 200_000)), max_size=6
)
"""After how many bytes to cut each connection: in headers, in records, far on."""

"""Write references.txt: records of objects, and the oids to which they refer.

Each line has a name, the record in hexadecimal, and the oids as numbers, as returned by ZODB's
``referencesf``. If ZODB cannot read a record (protocols 4 and 5, byte strings of Python 2 that
are not ASCII), the oids are those that were written. If ZODB finds a reference of an unknown
kind, the line has "refused" instead of oids.
Run with ZODB 6 installed: ``python make_references.py > references.txt``.
"""

import io
import itertools
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import BTrees
import transaction
import zodbpickle.pickle  # type: ignore[import-untyped]
from BTrees.Length import Length
from persistent import Persistent
from persistent.list import PersistentList
from persistent.mapping import PersistentMapping
from persistent.wref import WeakRef
from ZODB import DB
from ZODB.MappingStorage import MappingStorage
from ZODB.serialize import referencesf
from ZODB.utils import p64, u64
from zodbpickle import binary

PythonPickler: Any = pickle._Pickler


class Plain(Persistent):  # type: ignore[misc]
    pass


class NewArguments(Persistent):  # type: ignore[misc]
    def __new__(cls, *_arguments: object) -> Any:
        return super().__new__(cls)

    def __getnewargs__(self) -> tuple[object, ...]:
        return ("some", b"bytes")


class Slots(Persistent):  # type: ignore[misc]
    __slots__ = ("left", "right")


class Value:
    def __init__(self, **state: object) -> None:
        self.__dict__.update(state)


class Pair(NamedTuple):
    left: object
    right: object


class DictSubclass(dict[str, object]):
    pass


class Reduced:
    def __init__(self, value: object) -> None:
        self.value = value

    def __reduce__(self) -> tuple[object, ...]:
        return Reduced, (self.value,), {"again": self.value}, iter([1]), iter([("a", 2)])

    def append(self, value: object) -> None:
        """Accept the list items of `__reduce__`."""

    def __setitem__(self, key: object, value: object) -> None:
        """Accept the dictionary items of `__reduce__`."""


def write(name: str, record: bytes, oids: list[int]) -> None:
    print(name, record.hex(), ",".join(map(str, oids)))


def build(root: Any, other: Any) -> None:
    """Fill a database with objects of many kinds."""
    leaf = root["leaf"] = Plain()
    root["mapping"] = PersistentMapping({i: Plain() for i in range(40)})
    root["list"] = PersistentList([leaf, Plain(), leaf, [Plain(), (Plain(), {"a": Plain()})]])
    for family, (kind, size) in itertools.product(
        ("OO", "IO", "LO", "OI", "LF", "II"), (("BTree", 300), ("TreeSet", 300), ("BTree", 5))
    ):
        tree = getattr(getattr(BTrees, f"{family}BTree"), f"{family}{kind}")()
        for number in range(size):
            key = f"key {number:05}" if family[0] == "O" else number
            if kind == "TreeSet":
                tree.add(key)
            else:
                tree[key] = Plain() if family[1] == "O" else number
        root[f"{family}{kind}{size}"] = tree
    root["length"] = Length(7)
    root["arguments"] = arguments = NewArguments()
    arguments.child, arguments.same = NewArguments(), leaf
    slots = root["slots"] = Slots()
    slots.left, slots.right = leaf, slots
    root["weak"] = [WeakRef(leaf), WeakRef(Plain()), leaf]
    root["weak elsewhere"] = [WeakRef(other["there"])]
    root["other"] = [other["there"], leaf, other["there too"]]
    cycle = root["cycle"] = Plain()
    cycle.itself, cycle.down = cycle, Plain()
    cycle.down.up = cycle
    odd = root["odd"] = Plain()
    odd.value = Value(a=leaf, b=Value(c=Plain()), d={Pair(leaf, Plain()): None})
    odd.reduced, odd.dictionary = Reduced(Plain()), DictSubclass(x=Plain())
    odd.ordered, odd.frozen = OrderedDict(x=Plain()), frozenset([leaf])
    odd.numbers = [None, True, False, -1, 255, 65535, 1 << 31, 1 << 90, 0.5, 1j]
    odd.texts = [
        "8 letter",
        b"8 bytes!",
        "\u20ac\x00\n",
        bytes(range(256)),
        bytearray(b"12345678"),
    ]
    odd.eight = [b"12345678", binary(b"12345678"), ("12345678", Plain)]
    big = root["big"] = Plain()
    big.data, big.text, big.leaf = b"x" * 7_000, "y" * 300, Plain()
    big.many, big.last = [Plain()] + [(i, str(i)) for i in range(400)], Plain()


def records() -> list[bytes]:
    """Return the distinct records of a database that is part of a multi-database."""
    storage = MappingStorage()
    databases: dict[str, Any] = {}
    db = DB(storage, databases=databases, database_name="first")
    DB(MappingStorage(), databases=databases, database_name="second")
    connection = db.open()
    root, other = connection.root(), connection.get_connection("second").root()
    other["there"], other["there too"] = Plain(), NewArguments()
    transaction.commit()
    build(root, other)
    transaction.commit()
    found = {record.data for txn in storage.iterator() for record in txn}
    db.close()
    return sorted(found)


class Reference:
    """Stands for a persistent object: pickled as its persistent id."""

    def __init__(self, identity: object) -> None:
        self.identity = identity


def persistent_id(value: object) -> object:
    return value.identity if isinstance(value, Reference) else None


def dump(pickler_class: Any, values: tuple[object, ...], protocol: int) -> bytes:
    out = io.BytesIO()
    pickler = pickler_class(out, protocol)
    pickler.persistent_id = persistent_id
    for value in values:
        pickler.dump(value)
    return out.getvalue()


class Python2Pickler(PythonPickler):  # type: ignore[misc]
    """Writes bytes like Python 2's strings."""

    dispatch = PythonPickler.dispatch.copy()

    def save_bytes(self, value: bytes) -> None:
        if not self.bin:
            self.write(b"S" + repr(value)[1:].encode() + b"\n")
        elif len(value) < 256:
            self.write(b"U" + bytes([len(value)]) + value)
        else:
            self.write(b"T" + len(value).to_bytes(4, "little") + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def states(wrap: Callable[[bytes], bytes]) -> Iterator[tuple[str, object, list[int]]]:
    """Yield states with references of all kinds, and the oids to follow."""
    low, high = p64(1), b"\xf0\x80\n'\"\\\x00\xff"
    for name, plain in (("low", low), ("high", high)):
        number, oid = u64(plain), wrap(plain)
        yield f"bare-{name}", {"a": Reference(oid)}, [number]
        yield f"class-{name}", [Reference((oid, Plain)), Reference((oid, Plain))], [number] * 2
        yield f"shared-{name}", [oid, Reference((oid, Plain)), (oid, oid)], [number]
        yield f"weak-{name}", [Reference(["w", (oid,)]), Reference(["w", (oid, "db")])], []
        yield (
            f"other-{name}",
            [Reference(["m", ("db", oid, Plain)]), Reference(["n", ("db", oid)])],
            [],
        )
        yield f"legacy-{name}", [Reference([oid]), Reference((oid, None))], [number]
        nested = {"x": [(Reference((oid, Plain)), {1: Value(z=Reference(oid))})]}
        yield f"nested-{name}", nested, [number] * 2


def protocols() -> Iterator[tuple[str, bytes, list[int]]]:
    """Yield names and records of every protocol, by several picklers, and their oids."""
    picklers = [
        ("zodbpickle", zodbpickle.pickle.Pickler, binary, range(1, 4)),
        ("pickle", pickle.Pickler, bytes, range(3, 6)),
        ("python2", Python2Pickler, bytes, range(1, 3)),
    ]
    for name, pickler, wrap, numbers in picklers:
        for protocol in numbers:
            for state_name, state, oids in states(wrap):
                record = dump(pickler, ((Plain, None), state), protocol)
                yield f"{name}-{protocol}-{state_name}", record, oids
    # Protocol 0 writes persistent ids as a line of text.
    lines = (
        b"(ccopy_reg\n_reconstructor\np0\nNtp1\n.(dp0\nS'a'\np1\nP12345678\ns.",
        [u64(b"12345678")],
    )
    yield "line", *lines
    yield "text", b"N.X\x08\0\0\0" + p64(5) + b"q\x00Q.", [5]


def main() -> None:
    for number, record in enumerate(records()):
        write(f"object-{number}", record, [u64(oid) for oid in referencesf(record)])
    for name, record, oids in protocols():
        try:
            found = [u64(oid) for oid in referencesf(record)]
        except AssertionError:
            print(name, record.hex(), "refused")
            continue
        except (ValueError, zodbpickle.pickle.UnpicklingError):
            pass
        else:
            assert found == oids, (name, found, oids)
        write(name, record, oids)


if __name__ == "__main__":
    main()

"""The demo's database: data like those of an application, and their comparison."""

import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import persistent
import transaction
import ZODB
import ZODB.FileStorage
from BTrees.Length import Length
from BTrees.LOBTree import LOBTree
from BTrees.OOBTree import OOBTree

WORDS = (
    "archive", "broker", "catalog", "durable", "entry", "forest", "garden", "harbour",
    "index", "journal", "kernel", "ledger", "mirror", "network", "object", "primary",
    "quorum", "replica", "secondary", "transaction", "undo", "vault", "water",
)  # fmt: skip


class Article(persistent.Persistent):  # type: ignore[misc]
    """A text with a title, which is revised."""

    def __init__(self, title: str, text: str) -> None:
        self.title = title
        self.text = text
        self.revision = 1

    def revise(self, text: str) -> None:
        """Replace the text."""
        self.text = text
        self.revision += 1


class Writer:
    """Makes changes like a busy application, the same ones in every run."""

    def __init__(self, connection: Any) -> None:
        self._root = connection.root()
        self._random = random.Random(2007)  # noqa: S311 -- variety, not secrecy

    def create(self) -> None:
        """Create the empty collections."""
        self._root["articles"] = OOBTree()
        self._root["catalog"] = LOBTree()
        self._root["visits"] = Length()

    def add_articles(self, count: int) -> None:
        """Add articles to the collection and the catalog."""
        articles, catalog = self._root["articles"], self._root["catalog"]
        for number in range(len(catalog), len(catalog) + count):
            title = f"{self._random.choice(WORDS)} {number:06}"
            articles[title] = Article(title, self.text(200))
            catalog[number] = title
        self._root["visits"].change(count)

    def revise_articles(self, count: int) -> None:
        """Give some articles a new, long text."""
        titles = self._root["articles"].keys()
        for _ in range(count):
            title = titles[self._random.randrange(len(titles))]
            self._root["articles"][title].revise(self.text(2_000))

    def remove_articles(self, count: int) -> None:
        """Remove the oldest articles."""
        catalog = self._root["catalog"]
        for number in list(catalog.keys())[:count]:
            del self._root["articles"][catalog.pop(number)]

    def text(self, length: int) -> str:
        """Return a text with this number of words."""
        return " ".join(self._random.choices(WORDS, k=length))


def build(path: Path, transactions: int, progress: Callable[[int], object]) -> None:
    """Create the database, with a history of about this number of transactions."""
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(path)))
    try:
        connection = db.open()
        writer = Writer(connection)
        writer.create()
        _commit("collections")
        for number in range(transactions):
            _change(db, writer, number)
            progress(number + 1)
        connection.close()
    finally:
        transaction.abort()
        db.close()


def _change(db: Any, writer: Writer, number: int) -> None:
    if number % 10 == 9:  # noqa: PLR2004 -- every tenth
        writer.revise_articles(5)
        _commit("a revision to be undone")
        db.undo(db.undoLog(0, 1)[0]["id"])
        _commit("undo")
    elif number % 10 == 4:  # noqa: PLR2004
        writer.remove_articles(3)
        _commit("removal")
    else:
        writer.add_articles(25)
        _commit("new articles")


def _commit(note: str) -> None:
    current = transaction.get()
    current.setUser("demo")
    current.note(note)
    transaction.commit()


def transaction_ids(path: Path) -> list[bytes]:
    """Return the ids of all transactions in a Data.fs that no process writes to."""
    return [record.tid for record in ZODB.FileStorage.FileIterator(str(path))]


def last_transaction(path: Path) -> bytes:
    """Return the last transaction's id in a Data.fs, as ZODB finds it."""
    storage = ZODB.FileStorage.FileStorage(str(path), read_only=True)
    try:
        tid: bytes = storage.lastTransaction()
    finally:
        storage.close()
    return tid


def contents(path: Path) -> tuple[int, str]:
    """Return the number of items that an application reads in a Data.fs, and their digest."""
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(path), read_only=True))
    try:
        connection = db.open()
        digest = hashlib.sha256()
        count = 0
        for item in _items(connection.root()):
            digest.update(repr(item).encode())
            count += 1
        connection.close()
    finally:
        db.close()
    return count, digest.hexdigest()


def _items(root: Any) -> Iterator[tuple[object, ...]]:
    yield "visits", root["visits"]()
    for number, title in root["catalog"].items():
        yield "catalog", number, title
    for title, article in root["articles"].items():
        yield "article", title, article.title, article.revision, article.text

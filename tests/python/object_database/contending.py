"""A program that commits until it is killed: path, and its own counter.

Each transaction increments the program's own counter and the total, which all processes
increment. Before each one the numbers must add up, or a transaction was visible in part. Prints
its own counter after each commit that has returned. With `read` as the counter it only reads.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import transaction

sys.path.insert(0, str(Path(__file__).parents[1]))

from dobbin.database import Database
from dobbin.persistent import checkout


def add_up(root: Any) -> None:
    """Raise `AssertionError` unless the total is the sum of the counters."""
    total = root["total"].count
    counted = sum(counter.count for name, counter in root.items() if name != "total")
    assert total == counted, f"{total} in total, {counted} counted"


def main(path: str, which: str) -> None:
    db = Database(path)
    while True:
        transaction.begin()
        add_up(db.root)
        if which == "read":
            db.wait()
            continue
        for name in which, "total":
            checkout(db.root[name])
            db.root[name].increment()
        transaction.commit()
        os.write(1, b"%d\n" % db.root[which].count)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

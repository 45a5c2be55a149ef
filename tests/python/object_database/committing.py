"""A program that commits to a database: path, number of commits, counter (or `new`).

Prints a line for each commit that has returned.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import transaction

sys.path.insert(0, str(Path(__file__).parents[1]))

from dobbin.database import Database
from dobbin.persistent import checkout
from object_database.things import Thing


def main(path: str, times: int, which: str) -> None:
    db = Database(path)
    for number in range(times):
        transaction.begin()
        root: Any = db.root
        if which == "new":
            checkout(root)
            root.thing = Thing(number=number)
        else:
            checkout(root[int(which)])
            root[int(which)].increment()
        transaction.commit()
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
    db.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])

"""A program that waits for commits: path, and whether it may use watches.

Prints the root's number at the beginning and after each commit. When the number is negative, it
prints how many seconds it has waited, and how many seconds of processor time that took.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import transaction

sys.path.insert(0, str(Path(__file__).parents[1]))

from dobbin.database import Database


def main(path: str, mode: str) -> None:
    db = Database(path)
    sys.stdout.write(f"{db.root.n}\n")
    sys.stdout.flush()
    if mode != "watches":
        # Then a watch cannot be created.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, files))
    start, busy = time.perf_counter(), time.process_time()
    while db.root.n >= 0:
        db.wait()
        transaction.begin()
        if db.root.n >= 0:
            sys.stdout.write(f"{db.root.n}\n")
            sys.stdout.flush()
    waited = time.perf_counter() - start
    sys.stdout.write(f"{waited} {time.process_time() - busy}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

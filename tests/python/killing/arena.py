"""Kills a process that commits and packs at random moments, and checks the files.

Arguments of the program: a directory, the number of kills, and a seed. Each process continues
with the file of the killed one. Ends with a line of JSON, or at the first error.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from ZODB.FileStorage import FileStorage as ZODBFileStorage
from ZODB.FileStorage.FileStorage import RedundantPackWarning
from ZODB.serialize import referencesf

from zc.zrs.filestorage import FileStorage

sys.path.insert(0, str(Path(__file__).parents[1]))

from killing import history

LONGEST_LIFE = 0.5  # seconds
LONGEST_PAUSE = 0.05  # seconds between packs
REOPEN_EVERY = 40  # transactions


def open_storage(class_: Any, directory: Path) -> Any:
    """Open the storage in a directory."""
    return class_(str(directory / "Data.fs"), blob_dir=str(directory / "blobs"))


class Victim:
    """Commits, packs, closes and opens, until it is killed."""

    def __init__(self, directory: Path, pipe: int, seed: int) -> None:
        self._directory = directory
        self._pipe = pipe
        self._random = random.Random(seed)  # noqa: S311 -- moments, not secrets
        self._storage = open_storage(FileStorage, directory)
        self._open = threading.Lock()

    def live(self) -> None:
        """Run until killed."""
        threading.Thread(target=self._pack, daemon=True).start()
        uploads = self._directory / "uploads"
        uploads.mkdir(exist_ok=True)
        number = history.last_number(self._storage) + 1
        serials = history.current_serials(self._storage)
        while True:
            history.commit(self._storage, number, serials, uploads)
            os.write(self._pipe, b"%d\n" % number)
            number += 1
            if number % REOPEN_EVERY == 0:
                with self._open:
                    self._storage.close()
                    self._storage = open_storage(FileStorage, self._directory)

    def _pack(self) -> None:
        while True:
            time.sleep(self._random.random() * LONGEST_PAUSE)
            try:
                with self._open:
                    if len(self._storage):
                        self._storage.pack(time.time(), referencesf)
                        os.write(self._pipe, b"packed\n")
            except RedundantPackWarning:
                pass
            except BaseException:  # noqa: BLE001 -- nothing may be missed
                traceback.print_exc()
                os._exit(1)


def live_and_die(directory: Path, life: float, seed: int) -> list[str]:
    """Run a victim for this long; return its output."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            Victim(directory, write, seed).live()
        except BaseException:  # noqa: BLE001 -- nothing may be missed
            traceback.print_exc()
        os._exit(1)
    os.close(write)
    time.sleep(life)
    os.kill(pid, signal.SIGKILL)
    with os.fdopen(read) as said:
        lines = said.read().splitlines()
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status):
        raise SystemExit(f"the process ended by itself, with status {status:#x}")
    return lines


def look(directory: Path, class_: Any, acknowledged: int) -> None:
    """Check a copy of the files: the acknowledged transactions, or one more."""
    copy = directory.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(directory, copy)
    storage = open_storage(class_, copy)
    last = history.check(storage)
    assert last in {acknowledged, acknowledged + 1}, (
        f"{acknowledged} acknowledged, {last} there"
    )
    storage.close()


def run(directory: Path, times: int, seed: int) -> dict[str, int]:
    """Kill this many processes; return counts of what they did."""
    chance = random.Random(seed)  # noqa: S311 -- moments, not secrets
    directory.mkdir()
    acknowledged, packs, unnoticed = -1, 0, 0
    for _ in range(times):
        said = live_and_die(directory, chance.random() * LONGEST_LIFE, chance.getrandbits(32))
        packs += said.count("packed")
        numbers = [int(line) for line in said if line != "packed"]
        if numbers:
            acknowledged = numbers[-1]
        look(directory, FileStorage, acknowledged)
        look(directory, ZODBFileStorage, acknowledged)
        # An unacknowledged transaction may be in the file, and stays there.
        storage = open_storage(FileStorage, directory)
        last = history.last_number(storage)
        storage.close()
        unnoticed += last > acknowledged
        acknowledged = last
    return {"transactions": acknowledged + 1, "packs": packs, "unnoticed": unnoticed}


if __name__ == "__main__":
    done = run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.write(json.dumps(done) + "\n")

# Python 2.7 runs this file too, so it cannot use modern syntax.
# ruff: noqa: ANN001, ANN002, ANN201, I001, PLC0415, T201, UP010, UP024
# mypy: allow-untyped-defs, allow-untyped-calls, ignore-errors
"""Serve a FileStorage with zc.zrs.primary.Primary until killed.

    zrs_primary.py PATH HOST:PORT [--blobs DIR] [--pack-first]
                   [--story ROUNDS] [--extension] [--large MIB] [--pack]

Runs on Python 2.7 (zc.zrs 2.x) and 3.x. Prints 'READY' when the port accepts
connections; with --story, commits the story of story.py, including blobs with --blobs and
records of this many MiB with --large, and prints 'COMMITTED tid-hex'. With --pack-first it
packs the file before it listens, with --pack after all commits, and prints 'PACKED'.
SIGTERM and SIGINT close the storage and end the process with status 0.
"""

from __future__ import print_function

import argparse
import binascii
import logging
import signal
import socket
import sys
import threading
import time

import story


def say(*words):
    print(*words)
    sys.stdout.flush()


def accepts(addr):
    try:
        socket.create_connection(addr, 1).close()
    except (OSError, IOError):
        return False
    return True


def wait_listening(addr, seconds=30):
    end = time.time() + seconds
    while not accepts(addr):
        if time.time() > end:
            sys.exit("not listening on {}:{}".format(*addr))
        time.sleep(0.02)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("addr")
    parser.add_argument("--story", type=int, metavar="ROUNDS")
    parser.add_argument("--extension", action="store_true")
    parser.add_argument("--blobs", metavar="DIR")
    parser.add_argument("--large", type=int, metavar="MIB")
    parser.add_argument("--pack", action="store_true")
    parser.add_argument("--pack-first", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)

    import ZODB
    import ZODB.FileStorage
    import ZODB.serialize
    import zc.zrs.primary

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())

    host, port = args.addr.rsplit(":", 1)
    addr = host, int(port)
    storage = ZODB.FileStorage.FileStorage(args.path, blob_dir=args.blobs)
    if args.pack_first:
        storage.pack(time.time(), ZODB.serialize.referencesf)
    primary = zc.zrs.primary.Primary(storage, addr)
    db = ZODB.DB(primary) if args.story else None
    wait_listening(addr)
    say("READY")
    if args.story:
        extension = story.EXTENSION if args.extension else {}
        tid = story.tell(db, args.story, extension)
        if args.blobs:
            tid = story.tell_blobs(db, extension)
        if args.large:
            tid = story.tell_large(db, args.large)
        if args.pack:
            db.pack()
            say("PACKED")
        say("COMMITTED", binascii.hexlify(tid).decode())
    while not stopping.is_set():
        stopping.wait(0.1)
    (db or primary).close()
    say("CLOSED")


if __name__ == "__main__":
    main()

# Python 2.7 runs this file too, so it cannot have today's form.
# ruff: noqa: ANN001, ANN002, ANN201, I001, PLC0415, T201, UP010, UP024
# mypy: allow-untyped-defs, allow-untyped-calls, ignore-errors
"""Serve a FileStorage with zc.zrs.primary.Primary until killed.

    zrs_primary.py PATH HOST:PORT [--story ROUNDS] [--extension]

Runs on Python 2.7 (zc.zrs 2.x) and 3.x. Prints 'READY' when the port accepts
connections; with --story, commits what story.py tells and prints 'COMMITTED tid-hex'.
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
    args = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)

    import ZODB
    import ZODB.FileStorage
    import zc.zrs.primary

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())

    host, port = args.addr.rsplit(":", 1)
    addr = host, int(port)
    primary = zc.zrs.primary.Primary(ZODB.FileStorage.FileStorage(args.path), addr)
    db = ZODB.DB(primary) if args.story else None
    wait_listening(addr)
    say("READY")
    if args.story:
        tid = story.tell(db, args.story, story.EXTENSION if args.extension else {})
        say("COMMITTED", binascii.hexlify(tid).decode())
    while not stopping.is_set():
        stopping.wait(0.1)
    (db or primary).close()
    say("CLOSED")


if __name__ == "__main__":
    main()

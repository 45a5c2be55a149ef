# Python 2.7 runs this file too, so it cannot use modern syntax.
# ruff: noqa: ANN001, ANN002, ANN201, I001, PLC0415, T201, UP010
# mypy: allow-untyped-defs, allow-untyped-calls, ignore-errors
"""Replicate into a FileStorage with zc.zrs.secondary.Secondary until killed.

    zrs_secondary.py PATH HOST:PORT [--blobs DIR] [--listen HOST:PORT]
                     [--reconnect SECONDS] [--keep-alive SECONDS]

Runs on Python 2.7 (zc.zrs 2.x) and 3.x. With --listen it is a primary too. Prints 'START' when the secondary is made, then
'TID hex' each time lastTransaction() has changed (checked every 20 ms). SIGTERM and
SIGINT close the storage and end the process with status 0.
"""

from __future__ import print_function

import argparse
import binascii
import logging
import signal
import sys
import threading


def say(*words):
    print(*words)
    sys.stdout.flush()


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("addr")
    parser.add_argument("--blobs", metavar="DIR")
    parser.add_argument("--listen", metavar="HOST:PORT")
    parser.add_argument("--reconnect", type=float, default=1)
    parser.add_argument("--keep-alive", type=float, default=0)
    args = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)

    import ZODB.FileStorage
    import zc.zrs.primary
    import zc.zrs.secondary

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())

    storage = ZODB.FileStorage.FileStorage(args.path, blob_dir=args.blobs)
    if args.listen:
        storage = zc.zrs.primary.Primary(storage, address(args.listen))
    secondary = zc.zrs.secondary.Secondary(
        storage,
        address(args.addr),
        reconnect_delay=args.reconnect,
        keep_alive_delay=args.keep_alive,
    )
    say("START")
    seen = b""
    while not stopping.is_set():
        tid = secondary.lastTransaction()
        if tid != seen:
            seen = tid
            say("TID", binascii.hexlify(tid).decode())
        stopping.wait(0.02)
    secondary.close()
    say("CLOSED")


if __name__ == "__main__":
    main()

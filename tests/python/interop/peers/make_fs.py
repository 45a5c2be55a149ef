# Python 2.7 runs this file too, so it cannot use modern syntax.
# ruff: noqa: ANN001, ANN201, ANN204, C408, PLC0415, PTH110, PTH123, PTH202, S311, T201, UP004, UP010
# mypy: allow-untyped-defs, allow-untyped-calls, ignore-errors
"""Make a Data.fs of a given shape, the same bytes for the same arguments.

    make_fs.py PATH TRANSACTIONS RECORDS SIZE [--seed N] [--update-every K]
               [--t0 SECONDS]

Each transaction holds RECORDS records of SIZE bytes, each a new object unless
--update-every K: then every K-th record rewrites the object made K records
before.  Records are arbitrary bytes, not pickles (a storage does not read
them), and begin with a byte with which no pickle begins.  Tids are t0 (default
2020-01-01) plus 10 ms per transaction.  Prints one JSON line.  Works with any
ZODB from 3.8 on, only through FileStorage's tpc calls; Python 2.7 and 3.
"""

from __future__ import print_function

import argparse
import binascii
import hashlib
import json
import os
import random
import struct
import sys
import time


class TxnInfo(object):
    def __init__(self, user=b"", description=b""):
        self.user = user
        self.description = description
        self.extension = self._extension = {}
        self.extension_bytes = b""


def tid_at(seconds):
    """Return the tid of a UTC time.

    Minutes since 1900, in months of 31 days, then the second in units of 60 / 2**32.
    """
    whole = int(seconds // 60)
    t = time.gmtime(whole * 60)
    minutes = ((((t[0] - 1900) * 12 + t[1] - 1) * 31 + t[2] - 1) * 24 + t[3]) * 60 + t[4]
    frac = int((seconds - whole * 60) / 60.0 * (1 << 32))
    return struct.pack(">II", minutes, frac)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("path")
    ap.add_argument("transactions", type=int)
    ap.add_argument("records", type=int)
    ap.add_argument("size", type=int)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--update-every", type=int, default=0)
    ap.add_argument("--t0", type=float, default=1577836800.0)
    args = ap.parse_args()

    import ZODB.FileStorage

    # One sync at the end suffices here.  (The package's attribute of that
    # name is the class, not the module.)
    sys.modules["ZODB.FileStorage.FileStorage"].fsync = None
    if os.path.exists(args.path):
        sys.exit("exists: " + args.path)
    fs = ZODB.FileStorage.FileStorage(args.path)

    rnd = random.Random(args.seed)
    # a pool of incompressible bytes, made the same way on 2.7 and 3
    pool, block = [], hashlib.sha256(b"%d" % args.seed).digest()
    need = max(args.size * 2, 1 << 16)
    while len(pool) * 32 < need:
        pool.append(block)
        block = hashlib.sha256(block).digest()
    pool = b"".join(pool)
    span = len(pool) - args.size

    n = 0
    serial = {}
    for i in range(args.transactions):
        tid = tid_at(args.t0 + i * 0.01)
        txn = TxnInfo(b"", b"")
        fs.tpc_begin(txn, tid, " ")
        for _ in range(args.records):
            n += 1
            number = n
            if args.update_every and n % args.update_every == 0:
                number = n - args.update_every + 1
            oid = struct.pack(">Q", number)
            at = int(rnd.random() * span) if span > 0 else 0
            data = b"\xff" + struct.pack(">Q", n) + pool[at : at + args.size]
            fs.store(oid, serial.get(number, b"\0" * 8), data[: args.size], "", txn)
            if args.update_every:
                serial[number] = tid
        fs.tpc_vote(txn)
        fs.tpc_finish(txn)
    last = fs.lastTransaction()
    fs.close()
    fd = os.open(args.path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    h = hashlib.sha256()
    with open(args.path, "rb") as f:
        for chunk in iter(lambda: f.read(1 << 20), b""):
            h.update(chunk)
    print(
        json.dumps(
            dict(
                path=args.path,
                bytes=os.path.getsize(args.path),
                transactions=args.transactions,
                records=args.records,
                size=args.size,
                seed=args.seed,
                sha256=h.hexdigest(),
                last_tid=binascii.hexlify(last).decode(),
            ),
            sort_keys=True,
        )
    )


if __name__ == "__main__":
    main()

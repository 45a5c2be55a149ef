"""A primary or a secondary of either system, as a separate process for measurements.

Usage: ``python replicas.py ROLE ours|theirs PATH HOST:PORT [OPTION ...]``, with a role of
primary, secondary, readers or storage.

Runs with this project's Python for ours and with that of ``.peers/zrs31`` for theirs, so it is
limited to the syntax of Python 3.8. A primary prints ``READY PORT``. On the input ``commit N``
it commits, at a ``--rate``, and prints ``DONE {json}`` with the time at which each commit
returned; on ``memory`` it prints its peak. A secondary prints ``BEGUN`` before it connects, and
``DONE {json}`` when it has the transaction ``--until``, or that of the input ``until TID``,
with the duration and the number of bytes over time, or with ``--moments`` the time at which
each transaction became visible.
Readers connect like ``--readers`` secondaries and read the streams, or with ``--stalled``
nothing; they print ``READY``, and on any input ``DONE {json}`` with their CPU time. A storage
restores the transactions of ``--source``, which it has read before, without replication, and
prints ``DONE {json}`` with the duration.
Times are those of the system's monotonic clock, which all processes share.
"""

# ruff: noqa: ANN001, ANN002, ANN201, D103, PLC0415, T201
# mypy: allow-untyped-defs, allow-untyped-calls

import argparse
import json
import logging
import os
import socket
import sys
import threading
import time

HALF_MILLISECOND = 0.0005


def say(*words):
    print(*words, flush=True)


def peak_memory():
    """Return the peak resident memory of this process in bytes."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
        for line in status:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return 0


def open_storage(system, engine, path):
    if system == "ours" and engine == "rust":
        from zc.zrs.filestorage import FileStorage

        return FileStorage(path)
    import ZODB.FileStorage

    return ZODB.FileStorage.FileStorage(path)


def commit(storage, number, size):
    """Commit a new object; return the transaction's id and when the commit returned."""
    from ZODB.Connection import TransactionMetaData

    transaction = TransactionMetaData(b"", b"")
    storage.tpc_begin(transaction)
    oid = (1 << 60 | number).to_bytes(8, "big")
    storage.store(oid, b"\0" * 8, b"\xff" * size, "", transaction)
    storage.tpc_vote(transaction)
    tid = storage.tpc_finish(transaction) or storage.lastTransaction()
    return tid.hex(), time.monotonic()


def commit_many(primary, arguments):
    """Commit at a rate, or as fast as possible; return the results of `commit`."""
    done = []
    start, cpu = time.monotonic(), time.process_time()
    for number in range(arguments.commits):
        if arguments.rate:
            ahead = start + number / arguments.rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
        done.append(commit(primary, arguments.first + number, arguments.size))
    seconds = time.monotonic() - start
    return {"commits": done, "seconds": seconds, "cpu": time.process_time() - cpu}


def run_primary(arguments, address):
    from zc.zrs.primary import Primary

    primary = Primary(open_storage(arguments.system, arguments.engine, arguments.path), address)
    say("READY", address[1])
    for line in sys.stdin:
        if line.startswith("commit"):
            arguments.commits = int(line.split()[1])
            say("DONE", json.dumps(commit_many(primary, arguments)))
            arguments.first += arguments.commits
        elif line.startswith("memory"):
            say("DONE", json.dumps({"memory": peak_memory()}))
    primary.close()


def listen(until):
    for line in sys.stdin:
        until[0] = bytes.fromhex(line.split()[1])


def run_secondary(arguments, address):
    from zc.zrs.secondary import Secondary

    storage = open_storage(arguments.system, arguments.engine, arguments.path)
    before = peak_memory()
    begun, cpu = time.monotonic(), time.process_time()
    say("BEGUN", begun)
    secondary = Secondary(storage, address, reconnect_delay=0.2)
    until = [bytes.fromhex(arguments.until)]
    threading.Thread(target=listen, args=(until,), daemon=True).start()
    samples: list[tuple[float, int]] = []
    moments: list[tuple[str, float]] = []
    seen = b""
    while True:
        tid = secondary.lastTransaction()
        if tid != seen:
            now, seen = time.monotonic(), tid
            if arguments.moments:
                moments.append((tid.hex(), now))
            else:
                samples.append((now - begun, os.stat(arguments.path).st_size))  # noqa: PTH116
        if seen >= until[0]:
            break
        time.sleep(HALF_MILLISECOND / 5 if arguments.moments else HALF_MILLISECOND * 10)
    done = {
        "seconds": now - begun,
        "cpu": time.process_time() - cpu,
        "memory": peak_memory(),
        "memory_before": before,
        "samples": samples,
        "moments": moments,
    }
    say("DONE", json.dumps(done))
    last_resort = threading.Timer(20, os._exit, (0,))
    last_resort.daemon = True
    last_resort.start()
    secondary.close()
    os._exit(0)  # Twisted's thread would remain


def run_storage(arguments, _):
    """Restore the transactions of a stream; no secondary with this storage can be faster."""
    from ZODB.FileStorage.FileStorage import FileIterator

    found = [(each, list(each)) for each in FileIterator(arguments.source)]
    storage = open_storage(arguments.system, arguments.engine, arguments.path)
    begun = time.monotonic()
    for each, records in found:
        storage.tpc_begin(each, each.tid, each.status)
        for record in records:
            storage.restore(record.oid, record.tid, record.data, "", record.data_txn, each)
        storage.tpc_vote(each)
        storage.tpc_finish(each)
    say("DONE", json.dumps({"seconds": time.monotonic() - begun}))
    storage.close()


def connect(address, stalled):
    """Connect as a secondary that has nothing yet."""
    reader = socket.socket()
    if stalled:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect(address)
    for message in b"zrs2.1", bytes(8):
        reader.sendall(len(message).to_bytes(4, "big") + message)
    return reader


def drain(reader):
    while reader.recv(1 << 16):
        pass


def run_readers(arguments, address):
    readers = [connect(address, arguments.stalled) for _ in range(arguments.readers)]

    if not arguments.stalled:
        for reader in readers:
            threading.Thread(target=drain, args=(reader,), daemon=True).start()
    say("READY")
    cpu = time.process_time()
    sys.stdin.readline()
    say("DONE", json.dumps({"cpu": time.process_time() - cpu}))
    os._exit(0)  # the threads wait for more data


ROLES = {
    "primary": run_primary,
    "secondary": run_secondary,
    "readers": run_readers,
    "storage": run_storage,
}


def main():
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=list(ROLES))
    parser.add_argument("system", choices=["ours", "theirs"])
    parser.add_argument("path")
    parser.add_argument("address")
    parser.add_argument("--engine", choices=["rust", "python"], default="rust")
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--until", default="ff" * 8)
    parser.add_argument("--source", default="")
    parser.add_argument("--moments", action="store_true")
    parser.add_argument("--readers", type=int, default=0)
    parser.add_argument("--stalled", action="store_true")
    arguments = parser.parse_args()
    host, port = arguments.address.rsplit(":", 1)
    ROLES[arguments.role](arguments, (host, int(port)))


if __name__ == "__main__":
    main()

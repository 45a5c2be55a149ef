"""Measure one figure for one side (SIDE FIGURE DIRECTORY COUNT), and print it as JSON.

Runs on Python 2.7 too, for dobbin 0.3.
"""
# mypy: ignore-errors

import io
import json
import os
import sys
import tempfile
import time

# Python puts the directory of the program first, which has dobbin.py.
sys.path.pop(0)

import transaction

clock = getattr(time, "perf_counter", time.time)
side, figure, directory, count = sys.argv[1:5]
count = int(count)
path = os.path.join(directory, "objects")
MANY = 100
WIDE = 1000
OPENINGS = 5
MB = 1 << 20


class Plain(object):
    pass


if side == "ZODB":
    import ZODB
    import ZODB.blob
    from persistent import Persistent

    class Thing(Persistent):
        pass

    def open_database():
        db = ZODB.DB(path, blob_dir=path + ".blobs", large_record_size=1 << 30)
        return db, db.open().root()

    def checkout(obj):
        pass

    def make_root(things):
        db, root = open_database()
        for number, thing in enumerate(things):
            setattr(thing, "n", 0)
            root[str(number)] = thing
        transaction.commit()
        return db, [root[str(number)] for number in range(len(things))]

    def close(db):
        db.close()
else:
    from dobbin.database import Database
    from dobbin.persistent import Persistent, PersistentFile, checkout

    class Thing(Persistent):
        pass

    def open_database():
        db = Database(path)
        return db, db.root

    def make_root(things):
        db = Database(path)
        root = Persistent()
        checkout(root)
        db.elect(root)
        for number, thing in enumerate(things):
            checkout(thing)
            thing.n = 0
            setattr(root, "t%d" % number, thing)
        transaction.commit()
        return db, things

    def close(db):
        if side == "dobbin":
            db.close()


def commits(objects):
    db, things = make_root([Thing() for _ in range(objects)])
    answer_with_rates(lambda number: things)


def answer_with_rates(things_of):
    """For each input line, commit this many times, and print the rate."""
    print("ready")
    sys.stdout.flush()
    number = 0
    for line in iter(sys.stdin.readline, ""):
        times = int(line)
        start = clock()
        for _ in range(times):
            number += 1
            for thing in things_of(number):
                checkout(thing)
                thing.n = number
            transaction.commit()
        print(times / (clock() - start))
        sys.stdout.flush()


def root_commits():
    """Commit one of many objects, each looked up from the root, as `commits` does."""
    db, things = make_root([Thing() for _ in range(WIDE)])
    connection_root = things[0]._p_jar.root() if side == "ZODB" else None
    del things

    def look_up(number):
        if side == "ZODB":
            return connection_root[str(number)]
        return getattr(db.root, "t%d" % number)

    answer_with_rates(lambda number: [look_up(number % WIDE)])


def reads(obj):
    obj.n
    start = clock()
    for _ in range(count // 10):
        obj.n
        obj.n
        obj.n
        obj.n
        obj.n
        obj.n
        obj.n
        obj.n
        obj.n
        obj.n
    return count / (clock() - start)


def shared_reads():
    db, (thing,) = make_root([Thing()])
    return reads(thing)


def plain_reads():
    thing = Plain()
    thing.n = 1
    return reads(thing)


def changes():
    db, things = make_root([Thing() for _ in range(min(count, 5000))])
    start = clock()
    done = 0
    while done < count:
        for thing in things:
            checkout(thing)
            thing.n = done
        done += len(things)
        transaction.abort()
    return done / (clock() - start)


def fill():
    db, things = make_root([Thing() for _ in range(MANY)])
    for number in range(count):
        thing = things[number % MANY]
        checkout(thing)
        thing.n = number
        transaction.commit()
    close(db)


def in_child(work):
    """Run something in another process, so that its data are not in memory; return its
    number."""
    readable, writable = os.pipe()
    if not os.fork():
        os.write(writable, str(work()).encode())
        os._exit(0)
    os.wait()
    os.close(writable)
    with os.fdopen(readable) as found:
        return float(found.read())


def open_once():
    start = clock()
    db, root = open_database()
    assert root is not None
    return clock() - start


def opening(index):
    in_child(lambda: fill() or 0)
    if not index:
        os.remove(path + ".index")
    return sorted(in_child(open_once) for _ in range(OPENINGS))[OPENINGS // 2]


def following():
    if side == "ZODB":
        return None
    db, (thing,) = make_root([Thing()])
    other, root = open_database()
    root.t0.n
    for number in range(count):
        checkout(thing)
        thing.n = number
        transaction.commit()
    start = clock()
    transaction.begin()
    assert root.t0.n == count - 1
    return count / (clock() - start)


def waiting(figure):
    """Let another process wait for commits; return the median delay of its wake-up in ms.

    For `idle`, return its share of a processor while there are no commits.
    """
    if side != "dobbin":
        return None
    db, (thing,) = make_root([Thing()])
    readable, writable = os.pipe()
    if not os.fork():
        db, root = open_database()
        seen = root.t0
        if figure == "idle":
            start, busy = clock(), time.process_time()
            db.wait(count)
            found = 100 * (time.process_time() - busy) / (clock() - start)
        else:
            taken = []
            while seen.n < count:
                db.wait()
                told = clock()
                transaction.begin()
                taken.append(told - seen.n_at)
            found = 1000 * sorted(taken)[len(taken) // 2]
        os.write(writable, str(found).encode())
        os._exit(0)
    for number in range(0 if figure == "idle" else count):
        time.sleep(0.02)
        checkout(thing)
        thing.n, thing.n_at = number + 1, clock()
        transaction.commit()
    os.wait()
    return float(os.read(readable, 100))


def stream(read):
    db, (thing,) = make_root([Thing()])
    source = tempfile.NamedTemporaryFile(dir=directory)
    block = os.urandom(MB)
    for _ in range(count):
        source.write(block)
    source.seek(0)
    start = clock()
    if side == "ZODB":
        thing.file = ZODB.blob.Blob()
        with thing.file.open("w") as target:
            for data in iter(lambda: source.read(MB), b""):
                target.write(data)
    else:
        checkout(thing)
        thing.file = PersistentFile(source)
    transaction.commit()
    if not read:
        return count / (clock() - start)
    start = clock()
    if side == "ZODB":
        with thing.file.open("r") as stored:
            length = sum(len(data) for data in iter(lambda: stored.read(MB), b""))
    else:
        length = sum(len(data) for data in thing.file)
    assert length == count * MB
    return count / (clock() - start)


def resident():
    with io.open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024


def memory():
    if not os.fork():
        db, things = make_root([Thing() for _ in range(count)])
        close(db)
        os._exit(0)
    os.wait()
    # Some sides load everything when they open a file.
    before = resident()
    db, root = open_database()
    if side == "ZODB":
        db = root._p_jar.db()
        root._p_jar.cacheMinimize()
        things = [root[str(number)] for number in range(count)]
    else:
        things = [getattr(root, "t%d" % number) for number in range(count)]
    for thing in things:
        thing.n
    return (resident() - before) / float(count)


taken = {
    "commits": lambda: commits(1),
    "commits100": lambda: commits(MANY),
    "root_commits": root_commits,
    "reads": shared_reads,
    "plain": plain_reads,
    "changes": changes,
    "opening": lambda: opening(True),
    "scanning": lambda: opening(False),
    "following": following,
    "told": lambda: waiting("told"),
    "idle": lambda: waiting("idle"),
    "stream_write": lambda: stream(False),
    "stream_read": lambda: stream(True),
    "memory": memory,
}[figure]()
print(json.dumps(taken))

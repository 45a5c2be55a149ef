"""Write an index file as ZODB's own `fsIndex.save` does.

Run with ZODB installed: ``python make_index.py FILE``, with Python 3 and ZODB 6 for zodb6.index,
with Python 2 and ZODB 5 for python2.index.
"""

import struct
import sys

from ZODB.fsIndex import fsIndex

POSITION = 0x8123456789
# Dense ids, ids with gaps, one id on a page, and the lowest and highest id.
OIDS = [0]
OIDS += range(1, 5000)
OIDS += range(0x50000, 0x60000, 37)
OIDS += [page << 16 | page * 7919 % 65536 for page in range(256, 300)]
OIDS += [1 << 40, (1 << 64) - 1]

index = fsIndex()
for number, oid in enumerate(OIDS):
    index[struct.pack(">Q", oid)] = 4 + number * 150
index.save(POSITION, sys.argv[1])

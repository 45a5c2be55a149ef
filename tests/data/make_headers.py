"""Write headers.txt: replication headers as pickled by various picklers.

Each line is a name, the header, and a pickle of the extension that it holds, the last two
in hexadecimal. Run with any Python 3: ``python make_headers.py > headers.txt``.
"""

import io
import pickle
import pickletools

TID = b"\x03lk\x91\x00\x00\x00\x00"
EXTENSIONS = {
    "empty": {},
    "text": {"user": "j\xfcrgen", "path": "/\u20ac"},
    "bytes": {"tid": TID, "latin1": b"\xe9"},
    "numbers": {"one": 1, "many": 1 << 70, "half": 0.5, "yes": True, "none": None},
    "nested": {"list": [1, [2, [3]]], "tuple": (1, (2, 3)), "dict": {"a": {"b": {}}}},
    "shared": {"first": TID, "again": [TID, TID], "key": "T", "latin1": "latin1"},
}


def dump(value: object, protocol: int, fast: bool) -> bytes:
    out = io.BytesIO()
    # The Python implementation frames and memoizes like the C one, but supports `fast` in all
    # versions.
    pickler = pickle._Pickler(out, protocol)
    pickler.fast = fast
    pickler.dump(value)
    return out.getvalue()


def main() -> None:
    for protocol in range(6):
        for fast in (False, True):
            for name, extension in EXTENSIONS.items():
                fields = (TID, " ", b"", b"initial \xff", extension)
                message = dump(("T", fields), protocol, fast)
                pickletools.dis(message, io.StringIO())
                label = f"{name}-protocol{protocol}{'-fast' if fast else ''}"
                print(label, message.hex(), pickle.dumps(extension, 2).hex())


if __name__ == "__main__":
    main()

"""Recorded streams and files of zc.zrs on Python 2.7 and 3.8.

They are not part of this distribution: `ZRS_GOLDEN` names their directory, by default next to
the checkout.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from streams.messages import Z64

CHECKOUT = Path(__file__).resolve().parents[3]
DIRECTORY = Path(os.environ.get("ZRS_GOLDEN") or CHECKOUT.parent / "shared" / "golden")

MAGIC_LENGTH = 4
PYTHON3_MAGIC = b"FS30"
PYTHON2_MAGIC = b"FS21"


@dataclass(frozen=True)
class Capture:
    """A Data.fs, and the streams that its primary sent."""

    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def python2(self) -> bool:
        """Whether Python 2 wrote it."""
        return not self.name.startswith("py38")

    @property
    def path(self) -> Path:
        """The path of the Data.fs."""
        return DIRECTORY / f"{self.name}.fs"

    def read(self, suffix: str) -> bytes:
        """Return the capture's file with this suffix; skip the test without captures."""
        if not DIRECTORY.is_dir():
            reason = (
                f"the recorded streams are not part of this distribution, and {DIRECTORY} is"
                " not a directory; set ZRS_GOLDEN to where they are"
            )
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        return (DIRECTORY / f"{self.name}{suffix}").read_bytes()

    @property
    def data(self) -> bytes:
        """The Data.fs, with the magic that ZODB on Python 3 requires."""
        data = self.read(".fs")
        magic = PYTHON2_MAGIC if self.python2 else PYTHON3_MAGIC
        assert data[:MAGIC_LENGTH] == magic
        return PYTHON3_MAGIC + data[MAGIC_LENGTH:]

    @property
    def facts(self) -> dict[str, Any]:
        """The contents of file and streams, noted when they were recorded."""
        facts: dict[str, Any] = json.loads(self.read(".json"))
        return facts

    @property
    def tids(self) -> list[bytes]:
        """The tids of the transactions in the file."""
        return [bytes.fromhex(found["tid"]) for found in self.facts["fs"]["transactions"]]

    @property
    def middle(self) -> bytes:
        """The tid after which the second stream begins."""
        return bytes.fromhex(self.facts["mid_tid"])

    def start(self, stream: str) -> bytes:
        """Return the tid after which the stream in the file of this suffix begins."""
        return self.middle if stream == ".mid.wire" else Z64

    def data_until(self, tid: bytes) -> bytes:
        """Return `data` as of the transaction `tid`, or of an empty file for zeros."""
        later = (
            found["at"]
            for found in self.facts["fs"]["transactions"]
            if bytes.fromhex(found["tid"]) > tid
        )
        return self.data[: min(later, default=None)]


PLAIN_AND_UNDO = [
    Capture(f"{peer}-{kind}") for peer in ("py27", "py38") for kind in ("plain", "undo")
]
STREAMS = [".wire", ".mid.wire"]

"""The samples of ``zrs-guide.txt``: finding and reading the guide."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
ORIGINALS = Path(os.environ.get("ZRS_ORIGINALS") or CHECKOUT.parent / "shared" / "originals")
GUIDE = ORIGINALS / "zrs-guide.txt"


def literal_blocks(text: str) -> list[str]:
    """Return the reStructuredText document's literal blocks, without their indentation."""
    blocks = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if not line.rstrip().endswith("::"):
            continue
        # The text of a list item begins after its number.
        indent = len(re.match(r"\s*(\d+\.\s+)?", line)[0])  # type: ignore[index]
        block = []
        for following in lines[number + 1 :]:
            if following.strip() and len(following) - len(following.lstrip()) <= indent:
                break
            block.append(following)
        blocks.append(textwrap.dedent("\n".join(block)).strip("\n"))
    return blocks


class Samples:
    """The guide's samples by kind, without the excerpts that its text repeats."""

    def __init__(self, text: str) -> None:
        blocks = literal_blocks(text)
        self.shell = [b for b in blocks if re.match(r"(wget|python2\.4|bin/\w+) ", b)]
        self.buildout = [b for b in blocks if b.startswith("[buildout]") and "[zeo]" in b]
        self.zconfig = [b for b in blocks if b.startswith("%import") and "</" in b]
        self.python = [b for b in blocks if b.startswith("import") and "DB(" in b]
        self.blocks = blocks

    def excerpts(self) -> list[str]:
        """Return the blocks that repeat a part of a sample."""
        whole = [*self.shell, *self.buildout, *self.zconfig, *self.python]
        # An excerpt is indented differently, so only the stripped lines are compared.
        texts = ["\n".join(map(str.strip, sample.splitlines())) for sample in whole]
        return [
            block
            for block in self.blocks
            if block not in whole
            and any("\n".join(map(str.strip, block.splitlines())) in text for text in texts)
        ]


def guide_samples() -> Samples:
    """Return the guide's samples; if it is missing, skip, or fail if CI is set."""
    if not GUIDE.exists():
        reason = f"{GUIDE} is missing: set ZRS_ORIGINALS to the directory of the originals"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return Samples(GUIDE.read_text())

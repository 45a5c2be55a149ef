"""Find the original documents and make doctests of them."""

from __future__ import annotations

import doctest
import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fissix.refactor import RefactoringTool, get_fixers_from_package


class OriginalsMissingError(Exception):
    """The directory of the original documents is missing."""


@dataclass(frozen=True)
class Original:
    """One of the documents: its file, checksum, and number of examples."""

    name: str
    sha256: str
    examples: int

    def text(self) -> str:
        """Return the document, exactly as it was published.

        Raises `OriginalsMissingError`, or `ValueError` if the file is not the original.
        """
        contents = (directory() / self.name).read_bytes()
        found = hashlib.sha256(contents).hexdigest()
        if found != self.sha256 or found != listed_checksum(self.name):
            raise ValueError(f"{self.name} is not the original: its SHA-256 is {found}")
        return contents.decode("ascii")


ORIGINALS = (
    Original(
        name="zrs-primary.txt",
        sha256="1eaa3a93aaf0bbdb13a4593e79356e43b107ae7c5569dc614586ea7d210b0fb5",
        examples=66,
    ),
    Original(
        name="zrs-secondary.txt",
        sha256="e2b89fbab965ebcb4a0c77a75f2c022eac34c8b4abc6b1aa15f82afb5e13869c",
        examples=99,
    ),
)


GUIDE = Original(
    name="dobbin-guide.txt",
    sha256="28e35a64964d0aa59863f68f06e36c55629a198610f24c9df5d03310b5938f3b",
    examples=126,
)


def directory() -> Path:
    """Return the directory of the originals: `ZRS_ORIGINALS`, or next to the checkout."""
    return _shared("ZRS_ORIGINALS", "originals")


def golden_directory() -> Path:
    """Return the directory of the original software's files: `ZRS_GOLDEN`, or likewise."""
    return _shared("ZRS_GOLDEN", "golden")


def _shared(variable: str, name: str) -> Path:
    checkout = Path(__file__).resolve().parents[2]
    path = Path(os.environ.get(variable) or checkout.parent / "shared" / name)
    if not path.is_dir():
        raise OriginalsMissingError(
            f"the original documents are not part of this distribution, and {path} is not "
            f"a directory; set {variable} to where they are"
        )
    return path


def listed_checksum(name: str) -> str | None:
    """Return the SHA-256 of an original, from the list in their directory."""
    for line in (directory() / "SHA256SUMS").read_text("ascii").splitlines():
        checksum, _, listed = line.partition("  ")
        if listed == name:
            return checksum
    return None


def examples(text: str, name: str) -> doctest.DocTest:
    """Make a doctest of a document, with its examples in today's Python."""
    test = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    for example in test.examples:
        example.source = translate(example.source)
    return test


@cache
def translate(source: str) -> str:
    """Translate an example from Python 2."""
    return str(_translator().refactor_string(source, "<example>"))


@cache
def _translator() -> RefactoringTool:
    return RefactoringTool(get_fixers_from_package("fissix.fixes"))

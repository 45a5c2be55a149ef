"""The oldest compiler that Cargo.toml promises; the tests usually run with a newer one.

This is the version of cargo in Debian 13.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# Syntax that older compilers refuse and clippy does not report.
LET_CHAIN = re.compile(r"&&\s*let\s|\b(?:if|while)\s+let\b[^{;]*&&")
LET_CHAINS_SINCE = (1, 88)


def promised() -> tuple[int, int]:
    """Return the oldest supported version from Cargo.toml."""
    found = re.search(
        r'^rust-version = "(\d+)\.(\d+)', (ROOT / "Cargo.toml").read_text(), re.MULTILINE
    )
    assert found
    return int(found[1]), int(found[2])


@pytest.mark.skipif(promised() >= LET_CHAINS_SINCE, reason="these compilers know let chains")
@pytest.mark.parametrize("folder", ["src", "crates", "fuzz/src"])
def test_no_let_chains_are_used(folder: str) -> None:
    files = list((ROOT / folder).rglob("*.rs"))
    assert files
    found = [
        f"{path.relative_to(ROOT)}: {chain[0]}"
        for path in files
        for chain in LET_CHAIN.finditer(path.read_text())
    ]
    assert not found


def test_let_chains_are_found() -> None:
    assert LET_CHAIN.search("if let Some(a) = b\n    && let Ok(c) = d\n{")
    assert LET_CHAIN.search("while let Some(a) = b && a > 3 {")
    assert LET_CHAIN.search("if a && let Some(b) = c {")
    assert not LET_CHAIN.search("if let Some(a) = b { c && d }")

"""The layers of the Rust core: who may use whom, and who may touch the world.

ARCHITECTURE.md draws the layers; the tables here must agree with it. What a source file
uses is read from its text, leaving out comments, literals and unit tests.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"

BASE = frozenset({"ids", "timestamp", "error"})
PURE = frozenset({"ids", "timestamp", "error", "format", "pickle", "proto"})

# What each layer may use of the crate besides itself: other layers, or single names in them.
MAY_USE: dict[str, frozenset[str]] = {
    "ids": frozenset(),
    "timestamp": frozenset({"ids"}),
    "error": frozenset({"ids", "format::Corruption"}),  # errors carry what was found, as data
    "clock": frozenset(),
    "counters": frozenset(),
    "vfs": frozenset(),
    "format": BASE,
    "pickle": BASE,
    "storage": BASE | {"clock", "format", "pickle::refs", "vfs"},
    "proto": BASE | {"pickle"},
    "replica": BASE | {"clock", "proto", "storage"},
    "net": BASE | {"clock", "counters", "proto", "replica", "storage"},
    "py": BASE | {"clock", "counters", "net", "proto", "replica", "storage"},
}

# What of the world is kept to some layers, or files of layers, by the path that names it.
ONLY_IN: dict[str, frozenset[str]] = {
    r"^std::fs\b|^std::os::unix::fs\b": frozenset({"vfs::os"}),
    r"^std::net\b|^std::os::unix::net\b": frozenset({"net", "py"}),
    r"^std::thread\b": frozenset({"storage", "replica", "net", "py"}),
    r"^std::time\b": frozenset(MAY_USE) - PURE | {"proto"},  # to proto, time is an argument
    r"\b(Instant|SystemTime)::now$": frozenset({"clock", "net", "py"}),
    r"^(tokio|tokio_util)\b": frozenset({"net"}),
    r"^(pyo3|pyo3_log)\b": frozenset({"py"}),
    r"^pyo3::exceptions\b": frozenset({"py::errors"}),
}

COMMENT_OR_LITERAL = re.compile(
    r"""//[^\n]* | /\*.*?\*/
    | b?r(?P<hashes>\#*)".*?"(?P=hashes) | b?"(?:\\.|[^"\\])*" | b?'(?:\\.[^']*|[^\\'])'""",
    re.DOTALL | re.VERBOSE,
)
TEST_ATTRIBUTE = re.compile(r"#\[cfg\(test\)\]")
USE = re.compile(r"\buse\s+(?P<tree>[^;]+);")
INLINE_PATH = re.compile(r"\b[A-Za-z_]\w*(?:\s*::\s*[A-Za-z_]\w*)+")


def without_unit_tests(code: str) -> str:
    """Cut out each item that `#[cfg(test)]` stands before."""
    while attribute := TEST_ATTRIBUTE.search(code):
        depth, end = 0, len(code)
        for end in range(attribute.end(), len(code)):
            depth += {"{": 1, "}": -1}.get(code[end], 0)
            if depth == 0 and code[end] in ";}":
                break
        code = code[: attribute.start()] + code[end + 1 :]
    return code


def split_tree(branches: str) -> Iterator[str]:
    """Split at the commas that no brace encloses."""
    depth, start = 0, 0
    for at, char in enumerate(branches):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            yield branches[start:at]
            start = at + 1
    yield branches[start:]


def use_paths(tree: str, prefix: str = "") -> Iterator[str]:
    """Yield the full paths of a `use` declaration's tree."""
    tree = tree.strip()
    if tree.endswith("}"):
        stem, _, branches = tree.partition("{")
        for branch in split_tree(branches[:-1]):
            yield from use_paths(branch, prefix + re.sub(r"\s", "", stem))
    elif tree:
        yield prefix + re.split(r"\s+as\s+", tree)[0]


def paths(code: str) -> Iterator[str]:
    """Yield every path in the code, those of `use` declarations in full."""
    for use in USE.finditer(code):
        for path in use_paths(use["tree"]):
            yield path.removeprefix("::").removesuffix("::self")
    for inline in INLINE_PATH.finditer(USE.sub("", code)):
        yield re.sub(r"\s", "", inline[0])


def in_crate(path: str, module: list[str]) -> str | None:
    """Return the path from the crate's root, None if it leads elsewhere."""
    names = path.split("::")
    if names[0] == "crate":
        return "::".join(names[1:])
    if names[0] != "super":
        return None
    here = list(module)
    while names and names[0] == "super":
        here, names = here[:-1], names[1:]
    return "::".join(here + names)


def begins_with(path: str, beginnings: frozenset[str]) -> bool:
    return any(f"{path}::".startswith(f"{beginning}::") for beginning in beginnings)


def violations(file: str, code: str) -> list[str]:
    """Return what a file, named by its path under src/, uses and must not."""
    module = [part for part in file.removesuffix(".rs").split("/") if part != "mod"]
    layer = module[0]
    if layer not in MAY_USE:
        return [f"{file}: {layer} is no layer of the table"]
    found = []
    for path in paths(without_unit_tests(COMMENT_OR_LITERAL.sub('""', code))):
        used = in_crate(path, module)
        if used and not begins_with(used, MAY_USE[layer] | {layer}):
            found.append(f"{file}: {layer} must not use {used}")
        for world, homes in ONLY_IN.items():
            if re.search(world, path) and not begins_with("::".join(module), homes):
                found.append(f"{file}: {path} belongs to {', '.join(sorted(homes))}")
    return found


def source_files() -> list[str]:
    """Return the paths under src/ of the files that belong to a layer."""
    files = (path.relative_to(SRC).as_posix() for path in SRC.rglob("*.rs"))
    return sorted(f for f in files if f != "lib.rs" and not f.endswith("/tests.rs"))


@pytest.mark.parametrize("file", source_files())
def test_source_keeps_to_its_layer(file: str) -> None:
    assert violations(file, (SRC / file).read_text()) == []


def test_every_module_of_the_crate_is_a_layer() -> None:
    declared = re.findall(r"^(?:pub )?mod (\w+);", (SRC / "lib.rs").read_text(), re.MULTILINE)
    assert set(declared) == {file.split("/")[0].removesuffix(".rs") for file in source_files()}
    assert set(declared) <= set(MAY_USE)


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("format/txn.rs", "use crate::storage::FileStorage;"),
        ("format/txn.rs", "use super::super::vfs::Vfs;"),
        ("format/txn.rs", "use crate::{ids::Tid, proto::{self, Message}};"),
        ("format/txn.rs", "fn f() { crate::vfs::os::open() }"),
        ("format/txn.rs", "use std::{io, fs::{self, File}};"),
        ("storage/mod.rs", "use crate::pickle::Header;"),
        ("storage/mod.rs", "use crate::net::Server;"),
        ("storage/mod.rs", "fn f() { tokio::spawn(g()) }"),
        ("storage/mod.rs", "fn f() { Instant::now() }"),
        ("storage/mod.rs", "#[cfg(test)] mod tests { fn f() {} }\nuse crate::net::Server;"),
        ("pickle/scan.rs", "use std::time::Duration;"),
        ("proto/primary.rs", "use std::net::TcpStream;"),
        ("proto/primary.rs", "fn f() { let c = '\"'; std::thread::spawn(g) } // \""),
        ("error.rs", "use crate::format::DataHeader;"),
        ("vfs/memory.rs", "use std::fs::File;"),
        ("net/primary.rs", "use pyo3::prelude::*;"),
        ("net/primary.rs", "use crate::py::errors;"),
        ("py/peers.rs", "use pyo3::exceptions::PyValueError;"),
        ("extras/mod.rs", ""),
    ],
)
def test_what_breaks_the_layers_is_found(file: str, code: str) -> None:
    assert violations(file, code) != []


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (
            "format/txn.rs",
            "use crate::{error::StorageError, ids::{Oid, Tid}};\nuse super::data;",
        ),
        ("format/txn.rs", '// use std::fs\nfn f() { "crate::net::Server"; }'),
        ("format/txn.rs", "#[cfg(test)]\nmod tests { use std::fs; fn f() { if a { b } } }"),
        ("storage/mod.rs", "use crate::pickle::refs::references;"),
        ("proto/secondary.rs", "use std::time::Instant;"),
        ("vfs/os.rs", "use std::fs::{self, File};"),
        ("net/primary.rs", "use tokio::net::TcpListener; use std::time::Instant;"),
        ("py/errors.rs", "use pyo3::exceptions::PyValueError;"),
    ],
)
def test_what_keeps_to_the_layers_passes(file: str, code: str) -> None:
    assert violations(file, code) == []

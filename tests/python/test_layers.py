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
PURE = BASE | {"format", "pickle", "proto"}

# The arrows of the picture. A layer may use those that its arrows reach, at any distance.
# A single name (with `::`) may be used by that layer alone.
ARROWS: dict[str, frozenset[str]] = {
    "ids": frozenset(),
    "timestamp": frozenset({"ids"}),
    "error": frozenset({"ids", "format::Corruption"}),  # errors carry what was found, as data
    "clock": frozenset(),
    "counters": frozenset(),
    "vfs": frozenset(),
    "dobbin": BASE | {"vfs"},
    "format": BASE,
    "pickle": BASE,
    "storage": frozenset({"clock", "format", "pickle::refs", "vfs"}),
    "proto": frozenset({"pickle"}),
    "replica": frozenset({"proto", "storage"}),  # the one turns events into the other's calls
    "net": frozenset({"counters", "proto", "replica"}),
    "py": frozenset({"dobbin", "net", "proto", "replica", "storage"}),
}

# What of the world is kept to some layers, or files of layers, by the path that names it.
ONLY_IN: dict[str, frozenset[str]] = {
    r"^std::fs\b|^std::os::unix::fs\b": frozenset({"vfs::os"}),
    r"^std::net\b|^std::os::unix::net\b": frozenset({"net", "py"}),
    r"^std::thread\b": frozenset({"storage", "replica", "net", "py"}),
    r"^std::time\b": frozenset(ARROWS) - PURE | {"proto"},  # to proto, time is an argument
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
TEST_MODULE = re.compile(r"#\[cfg\(test\)\]\s*(?:pub(?:\(\w+\))? )?mod (\w+);")
INLINE_MODULE = re.compile(r"\bmod\s+(\w+)\s*\{")
USE = re.compile(r"\buse\s+(?P<tree>[^;]+);")
INLINE_PATH = re.compile(r"\b[A-Za-z_]\w*(?:\s*::\s*[A-Za-z_]\w*)+")


def item_end(code: str, start: int) -> int:
    """Return where the item ends that begins at `start`: after its `;` or last brace."""
    depth = 0
    for at in range(start, len(code)):
        depth += {"{": 1, "}": -1}.get(code[at], 0)
        if depth == 0 and code[at] in ";}":
            return at + 1
    return len(code)


def without_unit_tests(code: str) -> str:
    """Cut out each item that `#[cfg(test)]` stands before."""
    while attribute := TEST_ATTRIBUTE.search(code):
        code = code[: attribute.start()] + code[item_end(code, attribute.end()) :]
    return code


def modules(code: str, module: list[str]) -> Iterator[tuple[list[str], str]]:
    """Yield the modules written out in the code, `module` last, each with its own code."""
    while inner := INLINE_MODULE.search(code):
        end = item_end(code, inner.start())
        yield from modules(code[inner.end() : end - 1], [*module, inner[1]])
        code = code[: inner.start()] + code[end:]
    yield module, code


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


def reachable(layer: str) -> frozenset[str]:
    """Return what a layer may use: itself, and what its arrows reach."""
    reached: set[str] = {layer}
    todo = [layer]
    while todo:
        new = {used for used in ARROWS[todo.pop()] if "::" not in used} - reached
        reached |= new
        todo += new
    return ARROWS[layer] | reached


def begins_with(path: str, beginnings: frozenset[str]) -> bool:
    return any(f"{path}::".startswith(f"{beginning}::") for beginning in beginnings)


def violations(file: str, code: str) -> list[str]:
    """Return what a file, named by its path under src/, uses and must not."""
    home = [part for part in file.removesuffix(".rs").split("/") if part != "mod"]
    layer = home[0]
    if layer not in ARROWS:
        return [f"{file}: {layer} is no layer of the table"]
    found = []
    code = without_unit_tests(COMMENT_OR_LITERAL.sub('""', code))
    for module, own_code in modules(code, home):
        for path in paths(own_code):
            used = in_crate(path, module)
            if used and not begins_with(used, reachable(layer)):
                found.append(f"{file}: {layer} must not use {used}")
            for world, homes in ONLY_IN.items():
                if re.search(world, path) and not begins_with("::".join(module), homes):
                    found.append(f"{file}: {path} belongs to {', '.join(sorted(homes))}")
    return found


def source_files() -> list[str]:
    """Return the paths under src/ of the files that belong to a layer, unit tests not."""
    tests = {
        (path.parent if path.stem in {"mod", "lib"} else path.with_suffix("")) / f"{name}.rs"
        for path in SRC.rglob("*.rs")
        for name in TEST_MODULE.findall(path.read_text())
    }
    product = set(SRC.rglob("*.rs")) - tests - {SRC / "lib.rs"}
    return sorted(path.relative_to(SRC).as_posix() for path in product)


@pytest.mark.parametrize("file", source_files())
def test_source_keeps_to_its_layer(file: str) -> None:
    assert violations(file, (SRC / file).read_text()) == []


def test_every_module_of_the_crate_is_a_layer() -> None:
    declared = re.findall(r"^(?:pub )?mod (\w+);", (SRC / "lib.rs").read_text(), re.MULTILINE)
    assert set(declared) == {file.split("/")[0].removesuffix(".rs") for file in source_files()}
    assert set(declared) <= set(ARROWS)


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
        ("proto/primary.rs", "use crate::format::Corruption;"),
        ("py/mod.rs", "mod native { use super::super::extras::Extra; }"),
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
        ("py/mod.rs", "mod native { use super::feed::Feed; }\nuse crate::ids::Tid;"),
        ("net/primary.rs", "use crate::pickle::Dialect; use crate::vfs::OsVfs;"),
        ("py/errors.rs", "use pyo3::exceptions::PyValueError;"),
    ],
)
def test_what_keeps_to_the_layers_passes(file: str, code: str) -> None:
    assert violations(file, code) == []

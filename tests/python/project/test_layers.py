"""The layers of the Rust code: their dependencies, and their access to the system.

Cargo keeps the dependencies between crates. The tables here are finer: they name the layers
within a crate too, and they must agree with ARCHITECTURE.md. The paths that a source file uses
are read from its text, without comments, literals and unit tests.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# The sources of each crate, and the layer of those that no rule below gives one of their own.
CRATES: dict[str, tuple[str, str | None]] = {
    "zrs_ids": ("crates/ids/src", "ids"),
    "zrs_vfs": ("crates/vfs/src", "vfs"),
    "zrs_storage": ("crates/storage/src", "storage"),
    "zrs_object_log": ("crates/object-log/src", "object_log"),
    "zrs_replication": ("crates/replication/src", None),
    "zrs": ("src", "py"),
}
# Modules at the root of a crate that are layers of their own.
OWN_LAYERS = {
    "zrs_ids": frozenset({"timestamp"}),
    "zrs_storage": frozenset({"error", "format", "pickle"}),
    "zrs_replication": frozenset({"proto", "replica", "net"}),
}

BASE = frozenset({"ids", "timestamp", "error"})
PURE = BASE | {"format", "pickle", "proto"}

# The arrows of the picture. A layer may use those that its arrows reach, at any distance.
# A single name (with `::`) may be used by that layer alone.
ARROWS: dict[str, frozenset[str]] = {
    "ids": frozenset(),
    "timestamp": frozenset({"ids"}),
    "error": frozenset({"ids", "format::Corruption"}),  # errors carry what was found, as data
    "vfs": frozenset(),
    "object_log": frozenset({"ids", "vfs"}),
    "format": BASE,
    "pickle": BASE,
    "storage": frozenset({"format", "pickle::refs", "vfs"}),
    "proto": frozenset({"pickle"}),
    "replica": frozenset({"proto", "storage"}),  # the one turns events into the other's calls
    "net": frozenset({"proto", "replica"}),
    "py": frozenset({"net", "object_log", "proto", "replica", "storage"}),
}

# What of the world is kept to some layers, or files of layers, by the path that names it.
ONLY_IN: dict[str, frozenset[str]] = {
    r"^std::fs\b|^std::os::unix::fs\b": frozenset({"vfs::os"}),
    r"^std::net\b|^std::os::unix::net\b": frozenset({"net", "py"}),
    r"^std::thread\b": frozenset({"storage", "replica", "net", "py"}),
    r"^std::time\b": frozenset(ARROWS) - PURE | {"proto"},  # to proto, time is an argument
    r"\b(Instant|SystemTime)::now$": frozenset({"net", "py"}),
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


def layered(crate: str, names: list[str]) -> list[str]:
    """Return a path in a crate as one that begins with its layer."""
    layer = CRATES[crate][1]
    if layer is None or (names and names[0] in OWN_LAYERS.get(crate, ())):
        return names
    return [layer, *names]


def in_product(path: str, crate: str, module: list[str]) -> str | None:
    """Return the path from its layer on, None if it leads to another's crate."""
    names = path.split("::")
    if names[0] in CRATES:
        return "::".join(layered(names[0], names[1:]))
    if names[0] == "crate":
        return "::".join(layered(crate, names[1:]))
    if names[0] != "super":
        return None
    here = list(module)
    while names and names[0] == "super":
        here, names = here[:-1], names[1:]
    return "::".join(layered(crate, here + names))


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
    """Return what a file, named by its path, uses and must not."""
    crate, root = next(
        (crate, root) for crate, (root, _) in CRATES.items() if file.startswith(f"{root}/")
    )
    inner = file.removeprefix(f"{root}/").removesuffix(".rs").split("/")
    home = [part for part in inner if part not in {"mod", "lib"}]
    layer = (layered(crate, home) or [""])[0]
    if layer not in ARROWS:
        return [f"{file}: the table has no layer {layer!r}"]
    found = []
    code = without_unit_tests(COMMENT_OR_LITERAL.sub('""', code))
    for module, own_code in modules(code, home):
        for path in paths(own_code):
            used = in_product(path, crate, module)
            if used and not begins_with(used, reachable(layer)):
                found.append(f"{file}: {layer} must not use {used}")
            for world, homes in ONLY_IN.items():
                if re.search(world, path) and not begins_with(
                    "::".join(layered(crate, module)), homes
                ):
                    found.append(f"{file}: {path} belongs to {', '.join(sorted(homes))}")
    return found


def source_files(*, with_roots: bool = False) -> list[str]:
    """Return the paths of the files that belong to a layer, without unit tests.

    The root of a crate whose modules are all layers belongs to none.
    """
    product = {path for root, _ in CRATES.values() for path in (ROOT / root).rglob("*.rs")}
    tests = {
        (path.parent if path.stem in {"mod", "lib"} else path.with_suffix("")) / f"{name}.rs"
        for path in product
        for name in TEST_MODULE.findall(path.read_text())
    }
    product -= tests
    if not with_roots:
        product.discard(ROOT / "crates/replication/src/lib.rs")
    return sorted(path.relative_to(ROOT).as_posix() for path in product)


@pytest.mark.parametrize("file", source_files())
def test_source_keeps_to_its_layer(file: str) -> None:
    assert violations(file, (ROOT / file).read_text()) == []


def test_every_layer_of_the_table_has_a_source_file() -> None:
    layers = {layer for _, layer in CRATES.values() if layer} | set().union(
        *OWN_LAYERS.values()
    )
    assert layers == set(ARROWS)
    folders = {path.parent.relative_to(ROOT) for path in ROOT.glob("crates/*/src")}
    assert folders == {Path(root).parent for root, _ in CRATES.values()} - {Path()}


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("crates/storage/src/format/txn.rs", "use crate::filestorage::FileStorage;"),
        ("crates/storage/src/format/txn.rs", "use zrs_vfs::Vfs;"),
        (
            "crates/storage/src/format/txn.rs",
            "use zrs_replication::{net::Server, proto::{self, Message}};",
        ),
        ("crates/storage/src/format/txn.rs", "fn f() { zrs_vfs::os::open() }"),
        ("crates/storage/src/format/txn.rs", "use std::{io, fs::{self, File}};"),
        ("crates/storage/src/lib.rs", "use crate::pickle::Header;"),
        ("crates/storage/src/lib.rs", "use zrs_replication::net::Server;"),
        ("crates/storage/src/lib.rs", "fn f() { tokio::spawn(g()) }"),
        ("crates/storage/src/lib.rs", "fn f() { Instant::now() }"),
        (
            "crates/storage/src/lib.rs",
            "#[cfg(test)] mod tests { fn f() {} }\nuse zrs_ids::Tid;\nuse tokio::net;",
        ),
        ("crates/storage/src/pickle/scan.rs", "use std::time::Duration;"),
        ("crates/replication/src/proto/primary.rs", "use std::net::TcpStream;"),
        (
            "crates/replication/src/proto/primary.rs",
            "fn f() { let c = '\"'; std::thread::spawn(g) } // \"",
        ),
        ("crates/storage/src/error.rs", "use crate::format::DataHeader;"),
        ("crates/vfs/src/memory.rs", "use std::fs::File;"),
        ("crates/replication/src/proto/primary.rs", "use zrs_storage::format::Corruption;"),
        ("src/lib.rs", "use zrs_vfs::Vfs; use tokio::net::TcpStream;"),
        ("crates/replication/src/net/primary.rs", "use pyo3::prelude::*;"),
        ("crates/replication/src/net/primary.rs", "use zrs::errors;"),
        ("src/peers.rs", "use pyo3::exceptions::PyValueError;"),
        ("crates/replication/src/extras/mod.rs", ""),
    ],
)
def test_violations_of_the_layers_are_found(file: str, code: str) -> None:
    assert violations(file, code) != []


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (
            "crates/storage/src/format/txn.rs",
            "use zrs_ids::{self, Oid, Tid};\nuse crate::error::StorageError; use super::data;",
        ),
        (
            "crates/storage/src/format/txn.rs",
            '// use std::fs\nfn f() { "zrs_replication::net::Server"; }',
        ),
        (
            "crates/storage/src/format/txn.rs",
            "#[cfg(test)]\nmod tests { use std::fs; fn f() { if a { b } } }",
        ),
        ("crates/storage/src/lib.rs", "use crate::pickle::refs::references;"),
        ("crates/replication/src/proto/secondary.rs", "use std::time::Instant;"),
        ("crates/vfs/src/os.rs", "use std::fs::{self, File};"),
        (
            "crates/replication/src/net/primary.rs",
            "use tokio::net::TcpListener; use std::time::Instant;",
        ),
        ("src/lib.rs", "mod native { use super::feed::Feed; }\nuse zrs_ids::Tid;"),
        (
            "crates/replication/src/net/primary.rs",
            "use zrs_storage::pickle::Dialect; use zrs_vfs::OsVfs;",
        ),
        ("src/errors.rs", "use pyo3::exceptions::PyValueError;"),
    ],
)
def test_code_that_respects_the_layers_passes(file: str, code: str) -> None:
    assert violations(file, code) == []

"""No circles between the modules of a Rust crate.

A module is a file. It depends on the files that define the names in its `use` declarations
and paths; a name that a `mod.rs` or `lib.rs` re-exports counts as the file that defines it.
Unit tests, comments and literals are left out.
"""

import re
from collections.abc import Iterator, Mapping

import pytest

from project.test_layers import (
    COMMENT_OR_LITERAL,
    CRATES,
    ROOT,
    USE,
    modules,
    paths,
    source_files,
    use_paths,
    without_unit_tests,
)

Module = tuple[str, ...]

DECLARATION = re.compile(r"\bmod\s+\w+\s*;")
RE_EXPORT = re.compile(r"\bpub(?:\([^)]*\))?\s+use\s+(?P<tree>[^;]+);")

# Circles that stay, each with its reason.
ACCEPTED: dict[frozenset[str], str] = {}


def code_of(text: str) -> str:
    return without_unit_tests(COMMENT_OR_LITERAL.sub('""', text))


def sources(root: str) -> dict[Module, str]:
    """Return the code of each module of a crate, without its unit tests."""
    found = {}
    for file in source_files(with_roots=True):
        if file.startswith(f"{root}/"):
            names = file.removeprefix(f"{root}/").removesuffix(".rs").split("/")
            module = tuple(name for name in names if name not in {"mod", "lib"})
            found[module] = code_of((ROOT / file).read_text())
    return found


def absolute(path: str, module: Module, crate: Mapping[Module, str]) -> Module | None:
    """Return the names of a path from the crate's root, None if it is in another crate."""
    names = path.split("::")
    if names[0] == "crate":
        return tuple(names[1:])
    if names[0] not in {"self", "super"} and (*module, names[0]) not in crate:
        return None
    here = list(module)
    while names and names[0] in {"self", "super"}:
        here = here if names[0] == "self" else here[:-1]
        names = names[1:]
    return (*here, *names)


def re_exports(crate: Mapping[Module, str]) -> dict[Module, Module]:
    """Return which path each re-exported name stands for."""
    found = {}
    for module, code in crate.items():
        for declaration in RE_EXPORT.finditer(code):
            for path in use_paths(declaration["tree"]):
                if target := absolute(path, module, crate):
                    found[module + target[-1:]] = target
    return found


def home(path: Module, crate: Mapping[Module, str], exported: dict[Module, Module]) -> Module:
    """Return the module that defines what a path names."""
    for length in range(1, len(path) + 1):
        start, end = path[:length], path[length:]
        # A module and a function in it may share a name; only the end can be the function.
        is_module = start in crate and (end or exported.get(start, ())[:-1] == start)
        if start in exported and not is_module:
            return home(exported[start] + end, crate, exported)
    while path not in crate:
        path = path[:-1]
    return path


def own_re_exports(code: str) -> Iterator[str]:
    """Yield the paths of the re-exported names that the module uses itself."""
    rest = DECLARATION.sub("", USE.sub("", code))
    for declaration in RE_EXPORT.finditer(code):
        for path in use_paths(declaration["tree"]):
            if re.search(rf"\b{path.split('::')[-1]}\b", rest):
                yield path


def dependencies(crate: Mapping[Module, str]) -> dict[Module, set[Module]]:
    """Return the modules that each module uses."""
    exported = re_exports(crate)
    used: dict[Module, set[Module]] = {}
    for file, code in crate.items():
        found = [(file, path) for path in own_re_exports(code)]
        for module, part in modules(RE_EXPORT.sub("", code), list(file)):
            found += [(tuple(module), path) for path in paths(part)]
        names = [absolute(path, module, crate) for module, path in found]
        used[file] = {home(name, crate, exported) for name in names if name is not None}
        used[file].discard(file)
    return used


def circles(used: Mapping[Module, set[Module]]) -> Iterator[frozenset[Module]]:
    """Yield the strongly connected components: sets of modules that depend on each other."""
    reached: dict[Module, set[Module]] = {}
    for module in used:
        seen: set[Module] = set()
        todo = [module]
        while todo:
            new = used.get(todo.pop(), set()) - seen
            seen |= new
            todo += new
        reached[module] = seen
    found = {
        frozenset(other for other in reached[module] if module in reached[other])
        for module in used
        if module in reached[module]
    }
    yield from sorted(found, key=sorted)


def named(circle: frozenset[Module]) -> frozenset[str]:
    return frozenset("::".join(module) or "lib" for module in circle)


@pytest.mark.parametrize("crate", sorted(CRATES))
def test_modules_do_not_use_each_other_in_circles(crate: str) -> None:
    found = {named(circle) for circle in circles(dependencies(sources(CRATES[crate][0])))}
    assert found - set(ACCEPTED) == set()


def test_accepted_circles_exist() -> None:
    found = {
        named(circle)
        for root, _ in CRATES.values()
        for circle in circles(dependencies(sources(root)))
    }
    assert set(ACCEPTED) <= found


@pytest.mark.parametrize(
    "crate",
    [
        {("a",): "use super::b::B;", ("b",): "use crate::a::A;"},
        {("a",): "fn f() { super::b::g() }", ("b",): "use crate::{a::A, c};", ("c",): ""},
        {
            ("p",): "pub use self::a::A;",
            ("p", "a"): "use crate::b;",
            ("b",): "use crate::p::A;",
        },
        {("p",): "use self::a::A;", ("p", "a"): "use super::P;"},
        {("p",): "pub use a::A; fn f(a: A) {}", ("p", "a"): "use super::P;"},
    ],
)
def test_a_circle_is_found(crate: dict[Module, str]) -> None:
    assert list(circles(dependencies({(): "", **crate})))


@pytest.mark.parametrize(
    "crate",
    [
        {("a",): "use super::b::B;", ("b",): "use std::a::A;"},
        {("p",): "pub use self::a::A;", ("p", "a"): "use super::b::B;", ("p", "b"): ""},
        {("p",): "pub use a::A;", ("p", "a"): "use super::b::B;", ("p", "b"): "use super::c;"},
        {("p",): "use self::a::A;", ("p", "a"): "fn f() { self::g() }"},
    ],
)
def test_other_dependencies_are_not_circles(crate: dict[Module, str]) -> None:
    assert list(circles(dependencies({(): "", **crate}))) == []

"""The modules of the object database, in Rust and in Python, import each other in no circle."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RUST = ROOT / "src" / "dobbin"
PYTHON = ROOT / "python" / "dobbin"

COMMENT = re.compile(r"//[^\n]*")
UNIT_TESTS = re.compile(r"^#\[cfg\(test\)\].*", re.DOTALL | re.MULTILINE)
SIBLING = re.compile(r"\bsuper::(?:\{(?P<several>[^}]*)\}|(?P<one>\w+))")


def rust_imports(code: str, modules: set[str]) -> set[str]:
    """Return the modules of the same folder that a module names, its unit tests left out."""
    code = UNIT_TESTS.sub("", COMMENT.sub("", code))
    named = [name for found in SIBLING.finditer(code) for name in found.groups() if name]
    return {name for names in named for name in re.findall(r"\w+", names)} & modules


def python_imports(code: str, modules: set[str]) -> set[str]:
    """Return the modules of the package that a module imports, also only for annotations."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module == "dobbin":
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module.removeprefix("dobbin."))
        elif isinstance(node, ast.Import):
            found.update(alias.name.removeprefix("dobbin.") for alias in node.names)
    return found & modules


def test_rust_modules_import_each_other_in_no_circle() -> None:
    files = {path.stem: path.read_text() for path in RUST.glob("*.rs") if path.stem != "mod"}
    assert len(files) > 20
    graph = {name: rust_imports(code, set(files)) for name, code in files.items()}
    assert list(TopologicalSorter(graph).static_order())


def test_python_modules_import_each_other_in_no_circle() -> None:
    files = {path.stem: path.read_text() for path in PYTHON.glob("*.py")}
    del files["__init__"]
    assert len(files) > 10
    graph = {name: python_imports(code, set(files)) for name, code in files.items()}
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("use super::log::Log;", {"log"}),
        ("use super::{log::Log, view};", {"log", "view"}),
        ("fn f() { super::log::io() } // super::view", {"log"}),
        ("#[cfg(test)]\nmod tests { use super::log::Log; }", set()),
    ],
)
def test_imports_of_rust_code_are_found(code: str, expected: set[str]) -> None:
    assert rust_imports(code, {"log", "view"}) == expected


@pytest.mark.parametrize(
    "code",
    [
        "from dobbin import database",
        "from dobbin.database import Database",
        "import dobbin.database",
        "if TYPE_CHECKING:\n    from dobbin.database import Database",
        "def f():\n    from dobbin.database import Database",
    ],
)
def test_imports_of_python_code_are_found(code: str) -> None:
    assert python_imports(code, {"database", "exc"}) == {"database"}

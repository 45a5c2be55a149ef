"""Modules do not import each other in circles, and small programs import few modules.

Circles are searched in all Python packages; `test_module_circles` searches the Rust crates. The
import rules of packages and folders are in pyproject.toml, for import-linter.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / "python"


def python_modules() -> dict[str, Path]:
    """Return the files of all Python packages by the names of their modules."""
    files = {}
    for path in PYTHON.rglob("*.py"):
        name = ".".join(path.relative_to(PYTHON).with_suffix("").parts)
        files[name.removesuffix(".__init__")] = path
    return files


def imported_names(code: str) -> Iterator[str]:
    """Yield what a module imports: in functions too, for annotations, and by a literal name."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.Call(
                func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module))],
            ):
                yield module


def python_imports(name: str, code: str, modules: set[str]) -> set[str]:
    """Return which of these modules a module imports."""
    found = set()
    for imported in imported_names(code):
        owner = imported.rpartition(".")[0]
        found.add(imported if imported in modules else owner)
    return found & modules - {name}


def test_python_modules_import_each_other_in_no_circle() -> None:
    files = python_modules()
    assert {"dobbin", "zc.zk", "zc.zkzeo", "zc.zrs", "zc.zrs.primary"} <= files.keys()
    graph = {
        name: python_imports(name, path.read_text(), set(files)) for name, path in files.items()
    }
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import a.b", {"a.b"}),
        ("from a import b, other", {"a", "a.b"}),
        ("from a.b import name", {"a.b"}),
        ("def f():\n    from a.b import name", {"a.b"}),
        ("if TYPE_CHECKING:\n    import a.b", {"a.b"}),
        ("importlib.import_module('a.b')", {"a.b"}),
        ("import_module('a.b').name", {"a.b"}),
        ("import a.here, elsewhere", set()),
    ],
)
def test_imports_of_python_code_are_found(code: str, expected: set[str]) -> None:
    assert python_imports("a.here", code, {"a", "a.b", "a.here"}) == expected


NATIVE, CONFIGURATION, DATABASE = "zc.zrs._zrs", "ZConfig", "ZODB"


@pytest.mark.parametrize(
    ("program", "most"),
    [
        # What Python, kazoo and persistent load differs between their versions.
        ("import zc.zrs.nagios", 220),
        ("import zc.zrs.last_transaction", 220),
        ("import zc.zrs.monitor", 240),
        ("import zc.zkzeo.nagios", 300),
        (
            "from zc.zrs.command import main; main(['status', '--timeout', '1', '127.0.0.1:1'])",
            320,
        ),
        ("from zc.zrs.command import main; main(['top', '--count', '1', '127.0.0.1:1'])", 320),
    ],
)
def test_small_programs_load_few_modules(program: str, most: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint('loaded', *sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = done.stdout.splitlines()[-1].split()[1:]
    assert {NATIVE, CONFIGURATION, DATABASE} & {*loaded} == set()
    assert len(loaded) <= most

"""Help and version of every program, and errors for missing packages."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

TIMEOUT = 60
INSTALL = "needs ZEO and kazoo: pip install 'zrs[zeo,zookeeper]' ("
MODULES = {
    "dobbin": "dobbin.command",
    "last-zeo-transaction": "zc.zrs.last_transaction",
    "zkrunzeo": "zc.zkzeo.runzeo",
    "zkzeo-nagios": "zc.zkzeo.nagios",
    "zrs": "zc.zrs.command",
    "zrs-nagios": "zc.zrs.nagios",
    "zrsmonitor": "zc.zrs.monitor",
}
# Names that zc.zrs has for the same programs.
ALIASES = {"zrsmonitor-script": "zc.zrs.monitor"}


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )


def without(package: str, source: str) -> subprocess.CompletedProcess[str]:
    """Run Python code without an optional package."""
    return python("-c", f"import sys\nsys.modules[{package!r}] = None\n{source}")


def test_all_programs_are_tested() -> None:
    scripts = importlib.metadata.distribution("zrs").entry_points.select(
        group="console_scripts"
    )
    assert {script.name: script.module for script in scripts} == MODULES | ALIASES


@pytest.mark.parametrize("program", MODULES)
def test_the_version(program: str) -> None:
    done = python("-m", MODULES[program], "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{program} {importlib.metadata.version('zrs')}\n"


def test_the_help_of_zkrunzeo_has_our_text_and_the_options_of_zeo() -> None:
    done = python("-m", "zc.zkzeo.runzeo", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Run a ZEO server that registers its address in ZooKeeper.\n")
    assert "-a/--address ADDRESS" in done.stdout
    assert "%s" not in done.stdout


@pytest.mark.parametrize("package", ["ZEO", "kazoo"])
@pytest.mark.parametrize("program", ["zkrunzeo", "zkzeo-nagios"])
def test_a_program_reports_what_to_install(program: str, package: str) -> None:
    done = without(package, f"from {MODULES[program]} import main\nmain(['-x'])")
    nagios = program == "zkzeo-nagios"
    # Nagios treats status 1 as a warning, and shows standard output.
    assert done.returncode == (2 if nagios else 1)
    said, nothing = (done.stdout, done.stderr) if nagios else (done.stderr, done.stdout)
    assert said.startswith(f"{program} {INSTALL}")
    assert package in said.partition("(")[2]
    assert said.count("\n") == 1
    assert nothing == ""


@pytest.mark.parametrize("use", ["zc.zkzeo.client('here', '/path')", "zc.zkzeo.ClientStorage"])
def test_the_package_reports_what_to_install_when_it_is_used(use: str) -> None:
    done = without("ZEO", f"import zc.zkzeo\nprint('imported')\n{use}")
    assert (done.returncode, done.stdout) == (1, "imported\n")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ModuleNotFoundError: zc.zkzeo {INSTALL}")


def test_names_of_the_server_can_be_imported_from_the_program() -> None:
    source = (
        "import zc.zkzeo.runzeo as program, zc.zkzeo.server as server\n"
        "assert program.Options is server.Options\n"
        "assert program.test is server.test\n"
        "assert not hasattr(program, 'nothing')"
    )
    assert python("-c", source).returncode == 0

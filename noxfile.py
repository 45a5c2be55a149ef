"""Run the Python tests on every Python here, against the oldest and the newest ZODB.

The sessions install the wheel that `make build` left in dist/: it is an abi3 wheel, so one
build serves every Python. `make matrix` builds it and starts this.
"""

import subprocess
import sys
from pathlib import Path

import nox

HERE = Path(__file__).parent
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
GROUPS = {"5.8": "test-zodb5", "6": "test"}

nox.needs_version = ">=2025.2"
nox.options.error_on_external_run = True
nox.options.reuse_venv = "yes"


def find_python(version: str) -> str | None:
    """Return the path of a Python of this version that runs, None without one."""
    found = subprocess.run(
        [HERE / "setup/find-python.sh", version], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None


PYTHONS = {version: path for version in VERSIONS if (path := find_python(version))}
for _version in VERSIONS:
    sys.stderr.write(f"Python {_version}: {PYTHONS.get(_version, 'not on this machine')}\n")


def run_tests(session: nox.Session, zodb: str) -> None:
    wheels = sorted((HERE / "dist").glob("zrs-*.whl"))
    if len(wheels) != 1:
        session.error("dist/ must hold the one wheel just built: run `make build`")
    session.run_install(
        str(Path(sys.executable).with_name("uv")),
        "sync",
        "--quiet",
        "--locked",
        "--inexact",
        f"--only-group={GROUPS[zodb]}",
        f"--python={session.virtualenv.location}",
        env={"UV_PROJECT_ENVIRONMENT": session.virtualenv.location},
        external=True,
    )
    session.install("--no-deps", "--force-reinstall", str(wheels[0]))
    session.run("pytest", *session.posargs)


def add_session(version: str, path: str, zodb: str) -> None:
    @nox.session(python=path, name=f"python{version}-zodb{zodb}")
    def tests(session: nox.Session) -> None:
        run_tests(session, zodb)


for _version, _path in PYTHONS.items():
    for _zodb in GROUPS:
        add_session(_version, _path, _zodb)

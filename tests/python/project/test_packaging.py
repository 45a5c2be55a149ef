"""The installed wheel of `make build`, with other packages in the namespace `zc`.

zc.lockfile and zc.buildout once made `zc` a namespace with an -nspkg.pth file, and now use a
native one (PEP 420). The module `zc.zrs._zrs` must be found with either kind.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import zc.zrs
import zc.zrs._zrs

CHECKOUT = Path(__file__).parents[3]
# Prefixes of the files of sibling packages and their dependencies.
SIBLINGS = ("zc", "zrs", "setuptools", "pkg_resources", "_distutils_hack")


# In THIRD-PARTY-LICENSES: a crate, and the heading of a text with the crates that it covers.
LISTED = re.compile(r"^([\w-]+) ([0-9]\S*): ", re.MULTILINE)
HEADING = re.compile(r"^={80}\n([^:\n]+: .*)\n={80}$", re.MULTILINE)
OUT_OF_DATE = "THIRD-PARTY-LICENSES is out of date: make licences"


def only_wheel() -> Path:
    (wheel,) = (CHECKOUT / "dist").glob("zrs-*.whl")
    return wheel


def test_tests_see_the_installed_package_not_the_source_tree() -> None:
    for module in (zc.zrs, zc.zrs._zrs):
        assert module.__file__ is not None
        assert not Path(module.__file__).is_relative_to(CHECKOUT / "python")


def test_zc_is_a_namespace_that_our_files_do_not_claim() -> None:
    files = importlib.metadata.files("zrs")
    assert files is not None
    names = {file.as_posix() for file in files}
    assert {"zc/zrs/__init__.py", "zc/zrs/py.typed", "zc/zrs/_zrs.pyi"} <= names
    assert "zc/__init__.py" not in names
    assert not any(name.endswith("-nspkg.pth") for name in names)


def test_version_is_that_of_the_crate() -> None:
    cargo = re.search(r'^version = "(.*)"', (CHECKOUT / "Cargo.toml").read_text(), re.MULTILINE)
    assert cargo is not None
    assert importlib.metadata.version("zrs") == re.sub(r"-dev$", ".dev0", cargo[1])


def test_native_module_is_built_for_the_stable_abi() -> None:
    assert "-cp310-abi3-" in only_wheel().name
    assert str(zc.zrs._zrs.__file__).endswith("/_zrs.abi3.so")


def link_all_but_siblings(directory: Path) -> None:
    """Make this environment's packages importable from `directory`, except the tested ones."""
    directory.mkdir()
    for entry in Path(sysconfig.get_path("platlib")).iterdir():
        if not entry.name.startswith(SIBLINGS) and entry.suffix != ".pth":
            (directory / entry.name).symlink_to(entry)


def link_all_but_ours(directory: Path) -> None:
    """Make this environment's packages importable from `directory`, without the wheel's."""
    directory.mkdir()
    for entry in Path(sysconfig.get_path("platlib")).iterdir():
        if entry.suffix == ".pth" or entry.name.startswith(("zrs-", "dobbin")):
            continue
        if entry.name != "zc":
            (directory / entry.name).symlink_to(entry)
            continue
        (directory / "zc").mkdir()
        for package in entry.iterdir():
            if package.name not in {"zk", "zkzeo", "zrs"}:
                (directory / "zc" / package.name).symlink_to(package)


@pytest.mark.parametrize("age", ["old", "new"])
def test_coexists_with_other_packages_of_the_namespace(tmp_path: Path, age: str) -> None:
    siblings = list((CHECKOUT / ".peers/siblings" / age).glob("*.whl"))
    assert len(siblings) == 3
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv/bin/python"
    link_all_but_siblings(tmp_path / "others")

    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    install = [*pip, "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*install, *map(str, siblings)], check=True)
    subprocess.run([*install, str(only_wheel())], check=True)

    imports = "import zc.lockfile, zc.buildout, zc.zrs._zrs as m; print(m.__file__)"
    imported = subprocess.run(
        [python, "-c", imports],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(tmp_path / "others")),
    )
    assert Path(imported.stdout.strip()).is_relative_to(tmp_path / "venv")


def test_the_wheel_replicates_in_an_empty_environment(tmp_path: Path) -> None:
    """With the interpreter of the tests; `make dist` tries every installed Python."""
    venv.create(tmp_path / "venv", with_pip=False)
    scripts = tmp_path / "venv/bin"
    link_all_but_ours(tmp_path / "others")
    pip = [sys.executable, "-m", "pip", "--python", str(scripts / "python")]
    install = ["--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, *install, str(only_wheel())], check=True)
    environment = dict(os.environ, PYTHONPATH=str(tmp_path / "others"))
    primary = subprocess.Popen(
        [scripts / "zrs", "primary", tmp_path / "a.fs", "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with primary:
        try:
            assert primary.stdout is not None
            addr = primary.stdout.readline().removeprefix("replication on ").strip()
            bootstrap = ["bootstrap", str(tmp_path / "b.fs"), "--from", addr, "--no-check"]
            subprocess.run(
                [scripts / "zrs", *bootstrap], check=True, env=environment, timeout=60
            )
        finally:
            primary.terminate()
    assert primary.returncode == 0
    assert (tmp_path / "a.fs").read_bytes() == (tmp_path / "b.fs").read_bytes()


@pytest.mark.parametrize(
    "extra", ["all", "cli", "prometheus", "twisted", "zeo", "zodburi", "zookeeper"]
)
def test_extras(extra: str) -> None:
    metadata = importlib.metadata.metadata("zrs")
    assert extra in metadata.get_all("Provides-Extra", [])
    assert f'extra == "{extra}"' in " ".join(metadata.get_all("Requires-Dist", [])).replace(
        "'", '"'
    )


@pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo, which resolves the crates")
def test_the_licences_of_all_linked_crates_are_shipped() -> None:
    """Most licences require that."""
    tree = ["cargo", "tree", "--locked", "--edges=normal", "--prefix=none", "--format={p}"]
    linked: set[str] = set()
    for machine in ("x86_64", "aarch64"):
        target = f"--target={machine}-unknown-linux-gnu"
        printed = subprocess.run(
            [*tree, target], cwd=CHECKOUT, check=True, capture_output=True, text=True
        )
        # A path in parentheses follows the crates of this workspace.
        linked |= set(re.findall(r"^(\S+ v\S+)(?! \(/|\S)", printed.stdout, re.MULTILINE))
    text = (CHECKOUT / "THIRD-PARTY-LICENSES").read_text()
    crates, licences = text.split(f"\n\n{'=' * 80}\n", 1)
    listed = {f"{name} v{version}" for name, version in LISTED.findall(crates)}
    assert listed == linked, OUT_OF_DATE
    covered = {
        f"{name} v{version}"
        for heading in HEADING.findall(f"{'=' * 80}\n{licences}")
        for name, version in re.findall(r"(\S+) ([0-9][^,\s]*)(?:, |$)", heading)
    }
    assert covered == listed, OUT_OF_DATE
    files = importlib.metadata.files("zrs")
    assert files is not None
    assert any(file.name == "THIRD-PARTY-LICENSES" for file in files)


def test_the_lock_file_names_the_public_index_only() -> None:
    """The index of the machine that locked may be a mirror."""
    hosts = set(re.findall(r'"https?://([^/"]*)', (CHECKOUT / "uv.lock").read_text()))
    assert hosts == {"pypi.org", "files.pythonhosted.org"}

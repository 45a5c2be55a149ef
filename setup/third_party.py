"""Write THIRD-PARTY-LICENSES: the licences of the crates that are linked into the wheel.

    python setup/third_party.py

Requires cargo, which has the crates' sources. The tests check that the file matches the crates
in Cargo.lock.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FILE = ROOT / "THIRD-PARTY-LICENSES"
METADATA = (
    "cargo",
    "metadata",
    "--format-version=1",
    "--locked",
    "--filter-platform=x86_64-unknown-linux-gnu",
)
TEXTS = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "UNLICENSE*")
HEAD = """\
The native module of zrs is linked with the crates below. Each is under its own licence, named
behind it; the texts that come with them follow, each once, below the crates that it came with.
Where a crate leaves the choice between licences, zrs takes any of them.
"""


def linked() -> list[dict[str, Any]]:
    """Return cargo's metadata of the crates in the wheel by name and version."""
    said = subprocess.run(METADATA, cwd=ROOT, check=True, capture_output=True).stdout
    metadata = json.loads(said)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    pending, seen = [root], {root}
    while pending:
        for needed in nodes[pending.pop()]["deps"]:
            normal = any(kind["kind"] is None for kind in needed["dep_kinds"])
            if normal and needed["pkg"] not in seen:
                seen.add(needed["pkg"])
                pending.append(needed["pkg"])
    found = [packages[identity] for identity in seen if packages[identity]["source"]]
    return sorted(found, key=lambda package: (package["name"], package["version"]))


def named(package: dict[str, Any]) -> str:
    """Return a crate's name, version and licence in the form of the file."""
    return f"{package['name']} {package['version']}: {package['license'] or 'see its text'}"


def texts_of(package: dict[str, Any]) -> list[str]:
    """Return the texts of its licences, without those that differ only in white space."""
    directory = Path(package["manifest_path"]).parent
    files = sorted({file for pattern in TEXTS for file in directory.glob(pattern)})
    texts = [file.read_text(errors="replace") for file in files if file.is_file()]
    return ["\n".join(line.rstrip() for line in text.strip().splitlines()) for text in texts]


def notices() -> str:
    """Return the file's text."""
    packages = linked()
    owners: dict[str, list[str]] = {}
    for package in packages:
        for text in texts_of(package):
            owners.setdefault(text, []).append(f"{package['name']} {package['version']}")
    parts = [HEAD, *map(named, packages)]
    for text, names in owners.items():
        parts += ["", "=" * 80, ", ".join(names), "=" * 80, "", text]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    FILE.write_text(notices())
    sys.stderr.write(f"{FILE.name}: {len(linked())} crates\n")

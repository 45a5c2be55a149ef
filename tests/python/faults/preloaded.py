"""Preloaded libraries that make a real process's system calls fail or lie."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def compile_shim(name: str, directory: Path) -> Path:
    """Compile a library for `LD_PRELOAD` and return its path; skip without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip(f"{name}.c, which is preloaded, requires a C compiler (cc)")
    library = directory / f"{name}.so"
    source = Path(__file__).with_name(f"{name}.c")
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    compiled = subprocess.run(command, check=False, capture_output=True, text=True)
    if compiled.returncode:
        pytest.skip(f"cc cannot build shared libraries here: {compiled.stderr.strip()}")
    return library

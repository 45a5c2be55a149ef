"""Python programs in separate processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from replicas.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PRELUDE = """
import atexit, logging, multiprocessing, os, signal, sys, threading, time
from pathlib import Path
from replicas.client import Client
from replicas.comparison import assert_identical
from replicas.opening import Opener
from replicas.transactions import commit
from replicas.waiting import wait_caught_up, wait_until
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary

directory = Path(sys.argv[1])
LOOPBACK = ("127.0.0.1", 0)
PRIMARY, SECONDARY = str(directory / "primary.fs"), str(directory / "secondary.fs")

def say(*words):
    print(*words, flush=True)
"""


@contextlib.contextmanager
def program(
    source: str,
    directory: Path,
    *args: str,
    under: Sequence[str] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[subprocess.Popen[str]]:
    """Run a program in a process that ends with the block, by SIGKILL if necessary.

    The program can use the names of `PRELUDE`. Its output goes to pipes. `under` is a command
    that runs it; `environment` is added to the environment.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        **environment,
    }
    process = subprocess.Popen(
        [
            *under,
            sys.executable,
            "-c",
            PRELUDE + textwrap.dedent(source),
            str(directory),
            *args,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def run(source: str, directory: Path, *args: str) -> str:
    """Run a program to its end, and return its output.

    It must end by itself, with status 0 and an empty standard error.
    """
    with program(source, directory, *args) as process:
        return finish(process)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait until a program ends successfully, and return its output."""
    try:
        output, errors = process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        raise AssertionError(f"the program hangs: {output}{errors}") from None
    assert errors == ""
    assert process.returncode == 0, output
    return output


def read_line(process: subprocess.Popen[str]) -> str:
    """Return the next line that a program prints, without the newline."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.kill()
        raise AssertionError(f"the program ended: {process.communicate()[1]}")
    return line.rstrip("\n")

"""The output of commands, and its errors."""

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import TextIO

from zc.zrs.commands.errors import CannotWrite


def any_encoding() -> None:
    """Replace characters that the output's encoding cannot represent."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def write(text: str) -> None:
    """Print a command's result; raise `CannotWrite` if that fails.

    Raises `BrokenPipeError` if the reader has closed the pipe.
    """
    # It is None if the program was started with standard output closed.
    output: TextIO | None = sys.stdout
    if output is None:
        raise CannotWrite("cannot write the output: it is closed")
    try:
        output.write(f"{text}\n")
        output.flush()
    except BrokenPipeError:
        discard_output()
        raise
    except OSError as error:
        discard_output()
        raise CannotWrite(f"cannot write the output: {error.strerror or error}") from error


def discard_output() -> None:
    """Discard buffered output, which Python would otherwise try to write when it exits."""
    output: TextIO | None = sys.stdout
    if output is not None:
        with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), output.fileno())


def write_error(text: str) -> None:
    """Print an error on standard error, if it can be written."""
    errors: TextIO | None = sys.stderr
    if errors is not None:
        with contextlib.suppress(OSError):
            errors.write(f"{text}\n")


def printable(text: str) -> str:
    """Return the text without control characters, because it may come from a peer."""
    return "".join(char if char.isprintable() else "?" for char in text)


def write_line(line: str) -> None:
    """Print and flush a line that another program may wait for."""
    print(line, flush=True)  # noqa: T201 -- this is the command's output

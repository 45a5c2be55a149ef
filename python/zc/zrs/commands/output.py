"""Where commands write, and what cannot be written."""

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import TextIO

from zc.zrs.commands.errors import CannotWrite


def any_encoding() -> None:
    """Let what the output's encoding has no character for be a question mark."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def write(text: str) -> None:
    """Print what a command is there to print; raise `CannotWrite` if that cannot be.

    A reader that has gone away is a `BrokenPipeError`.
    """
    # There is none where the program was started with it closed.
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
    """Throw away what is still to be written: Python would try again at its end."""
    output: TextIO | None = sys.stdout
    if output is not None:
        with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), output.fileno())


def write_error(text: str) -> None:
    """Say on standard error why there is no output, if anybody can be told."""
    errors: TextIO | None = sys.stderr
    if errors is not None:
        with contextlib.suppress(OSError):
            errors.write(f"{text}\n")


def printable(text: str) -> str:
    """Return the text without what a terminal would obey: it may come from a peer."""
    return "".join(char if char.isprintable() else "?" for char in text)


def write_line(line: str) -> None:
    """Print a line that another program may be waiting for."""
    print(line, flush=True)  # noqa: T201 -- this is the command's output

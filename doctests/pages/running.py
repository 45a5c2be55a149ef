"""Running a page: its blocks are run in order, and depend on each other."""

from __future__ import annotations

import doctest
import re
import sys
import textwrap
import threading
import time
import types
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from doctests.pages import configurations
from doctests.pages.machines import TIMEOUT, Machine, Network

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from doctests.pages.blocks import Block

_PROMPT = re.compile(r"(?P<machine>\w*)\$ (?P<command>.*)")
_CHECKER = doctest.OutputChecker()
_OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

WATCHING = re.compile(
    r"(/opt/zrs/bin/)?(zrs status|zrs top|last-zeo-transaction|zrs-nagios|zkzeo-nagios|curl|cmp)\b"
)
"""Commands that only look, and are run again until they see what the page says."""


class BlockError(Exception):
    """A block does not do what its page says; the argument has the place and the result."""


class Page:
    """A page during its run, in its own directory."""

    def __init__(self, name: str, directory: Path) -> None:
        self.network = Network(directory)
        # The names of blocks are in a module, so that their classes can be pickled.
        self._module = types.ModuleType("page_" + re.sub(r"\W", "_", name))
        sys.modules[self._module.__name__] = self._module
        self._unused: set[str] = set()
        self._run: dict[str, Callable[[Block], None]] = {
            "console": self._console,
            "python": self._python,
            "xml": self._configuration,
            "yaml": self._rules,
        }

    def run(self, block: Block) -> bool:
        """Run a block; return whether it could be run."""
        if block.instead:
            _command(str(block), self.network.machine(""), block.instead, "", fails=False)
            return True
        if block.language == "text":
            return False
        if block.language not in self._run:
            raise BlockError(f"{block}: {block.language!r} cannot be run")
        self._run[block.language](block)
        return True

    def end(self) -> None:
        """Check that all files of the page were used."""
        if self._unused:
            raise BlockError(f"no command names {', '.join(sorted(self._unused))}")

    def close(self) -> None:
        """Close objects that blocks left open, and end processes that they started."""
        for value in reversed(list(vars(self._module).values())):
            if isinstance(value, threading.Event):  # its threads wait for this
                value.set()
            if hasattr(value, "close") and not isinstance(value, type):
                with suppress(Exception):  # a page may or may not close its objects
                    value.close()
        self.network.close()
        del sys.modules[self._module.__name__]

    def _console(self, block: Block) -> None:
        session = _session(block)
        for number, (place, machine, command, wanted) in enumerate(session):
            self._unused -= {file for file in self._unused if file in command}
            followed = session[number + 1 :]
            asked = bool(followed) and followed[0][2] == "echo $?"
            _command(place, self.network.machine(machine), command, wanted, fails=asked)

    def _python(self, block: Block) -> None:
        machine = self.network.machine("")
        text = machine.substituted(block.text)
        names = vars(self._module)
        if ">>> " not in text:
            # Line numbers in tracebacks refer to the page.
            code = compile("\n" * (block.line - 1) + text, block.page, "exec")
            exec(code, names)  # noqa: S102 -- this is what is tested
            return
        test = doctest.DocTestParser().get_doctest(
            text, names, str(block), block.page, block.line - 1
        )
        runner = doctest.DocTestRunner(_CHECKER, optionflags=_OPTIONS)
        report: list[str] = []
        result = runner.run(test, out=report.append, clear_globs=False)
        names.update(test.globs)
        if result.failed:
            raise BlockError("".join(report))

    def _configuration(self, block: Block) -> None:
        path, name = block.file or ("", "")
        machine = self.network.machine(name)
        file = machine.write(path or "page.conf", block.text)
        if path:
            self._unused.add(path)
        is_server = configurations.check(file)
        if is_server and not path:
            job = machine.start("runzeo -C page.conf")
            _wait(lambda: "listening on" in job.read_text(), block, job.read_text)
            machine.run("kill %% && wait %%")

    def _rules(self, block: Block) -> None:
        configurations.check_prometheus(block.text)
        if block.file:
            path, name = block.file
            self.network.machine(name).write(path, block.text)


def _session(block: Block) -> list[tuple[str, str, str, str]]:
    """Return the commands of a console: place, machine, command and output of each."""
    found: list[tuple[str, str, str, str]] = []
    lines = iter(enumerate(block.text.splitlines(), block.line))
    for number, line in lines:
        prompt = _PROMPT.fullmatch(line)
        if prompt is None:
            if not found:
                raise BlockError(f"{block}: output before a command")
            place, machine, command, output = found.pop()
            found.append((place, machine, command, f"{output}{line}\n"))
            continue
        command = prompt["command"]
        while command.endswith("\\"):
            command = f"{command}\n{next(lines)[1]}"
        found.append((f"{block.page}:{number}", prompt["machine"], command, ""))
    return found


def _command(place: str, machine: Machine, command: str, wanted: str, *, fails: bool) -> None:
    here, wanted_here = machine.substituted(command), machine.substituted(wanted)
    if here.endswith("&"):
        job = machine.start(here.removesuffix("&"))
        _wait(lambda: _agree(wanted_here, job.read_text()), place, job.read_text)
        return
    end = time.monotonic() + (TIMEOUT if WATCHING.match(command) else 0)
    while True:
        status, got = machine.run(here)
        if _agree(wanted_here, got) and (status == 0 or fails):
            return
        if time.monotonic() > end:
            raise BlockError(
                f"{place}: {here}\nends with status {status} and prints\n"
                f"{textwrap.indent(got, '    ')}\ninstead of\n"
                f"{textwrap.indent(wanted_here, '    ')}"
            )
        time.sleep(0.1)


def _agree(wanted: str, got: str) -> bool:
    return _CHECKER.check_output(wanted, got, _OPTIONS)


def _wait(condition: Callable[[], bool], place: Any, printed: Callable[[], str]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > end:
            raise BlockError(f"{place}: the expected text was not printed, but\n{printed()}")
        time.sleep(0.05)


def run(
    name: str, blocks: list[Block], directory: Path, prepare: Callable[[Network], object]
) -> int:
    """Run the blocks of a page; return the number of blocks that were run."""
    page = Page(name, directory)
    with closing(page):
        prepare(page.network)
        count = sum(page.run(block) for block in blocks if not block.not_run)
        page.end()
    return count

"""The wall clocks of two real processes are set backward and forward."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from faults.preloaded import compile_shim
from replicas.comparison import assert_identical
from replicas.processes import program, read_line
from replicas.waiting import wait_until

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from replicas.opening import Opener

DAY = 24 * 60 * 60
YEAR = 365 * DAY

SIDE = """
import json

side, port = sys.argv[2:]
logging.disable(logging.CRITICAL)
if side == "primary":
    replica = Primary(PRIMARY, ("127.0.0.1", int(port)), close_deadline=5)
else:
    replica = Secondary(SECONDARY, ("127.0.0.1", int(port)), reconnect_delay=0.2)
say(replica.address[1] if side == "primary" else 0)
for number, line in enumerate(sys.stdin):
    if line == "commit\\n":
        commit(replica, {number % 5: b"%d" % number})
    status = replica.status()
    peers = status.get("peers", [])
    say(json.dumps({
        "time": time.time(),
        "tid": replica.lastTransaction().hex(),
        "connections": status["connections"],
        "lags": [peer["lag_seconds"] for peer in peers],
    }))
replica.close()
"""


class Side:
    """A process with a clock of its own."""

    def __init__(self, process: subprocess.Popen[str], clock: Path) -> None:
        self._process = process
        self._clock = clock
        self._wrong = 0
        self.port = read_line(process)

    def set_clock(self, wrong: int) -> None:
        """Shift its clock by this many seconds, and check that."""
        before = self.ask()["time"]
        self._clock.write_text(str(wrong))
        jump = wrong - self._wrong
        assert abs(self.ask()["time"] - before - jump) < DAY / 2
        self._wrong = wrong

    def ask(self, word: str = "status") -> dict[str, Any]:
        """Return its status, after a commit if requested."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(read_line(self._process))
        return answer

    def end(self) -> None:
        """Stop it and wait."""
        output, errors = self._process.communicate(timeout=60)
        assert (self._process.returncode, output, errors) == (0, "", "")


@pytest.mark.parametrize("jumps", [(YEAR, -YEAR, 3 * DAY, 0), (-2 * YEAR, 0, DAY)])
def test_clocks_are_set(opener: Opener, tmp_path: Path, jumps: tuple[int, ...]) -> None:
    """Tids keep increasing, and pauses before reconnecting use another clock."""
    shim = str(compile_shim("jumping_clock", tmp_path))

    with ExitStack() as stack:

        def start(side: str, port: str) -> Side:
            clock = opener.directory / f"{side}.clock"
            environment = {"LD_PRELOAD": shim, "ZRS_CLOCK": str(clock)}
            process = program(SIDE, opener.directory, side, port, environment=environment)
            return Side(stack.enter_context(process), clock)

        primary = start("primary", "0")
        port = primary.port
        secondary = start("secondary", port)
        tids: list[str] = []

        def replicate() -> None:
            tids.append(primary.ask("commit")["tid"])
            wait_until(lambda: secondary.ask()["tid"] == tids[-1])

        for jump in jumps:
            primary.set_clock(jump)
            secondary.set_clock(-jump)
            for _ in range(5):
                replicate()
            assert all(lag >= 0 for lag in primary.ask()["lags"])
        # The clock is set back by years in the middle of a pause.
        primary.end()
        secondary.set_clock(-3 * YEAR)
        primary = start("primary", port)
        replicate()
        secondary.end()
        primary.end()
    assert tids == sorted(set(tids))
    assert_identical(opener.path, opener.copy)

"""Machines that vanish silently from the network, in network namespaces."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from faults.namespaces import ADDRESSES, machines
from replicas.comparison import assert_identical
from replicas.processes import program, read_line
from replicas.waiting import wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from faults.namespaces import Machines

MANY = "ZRS_FAULTS" in os.environ

NOTICED = 300.0
"""Seconds in which a dead peer must have been noticed: the system is given 120."""

SIDE = """
import json

side, host, port = sys.argv[2:]
logging.disable(logging.CRITICAL)
if side == "primary":
    replica = Primary(PRIMARY, (host, 0), close_deadline=1)
else:
    replica = Secondary(SECONDARY, (host, int(port)), reconnect_delay=0.1)
busy = threading.Event()
stopped = threading.Event()
stopped.set()

def work():
    number = 0
    while busy.is_set():
        number += 1
        commit(replica, {number % 7: b"%d" % number * (number % 900 + 1)})
        time.sleep(0.005)

worker = None
say(replica.address[1] if side == "primary" else "open")
for line in sys.stdin:
    word = line.strip()
    if word == "commit":
        busy.set()
        worker = threading.Thread(target=work)
        worker.start()
    elif word == "rest":
        busy.clear()
        worker.join()
    status = replica.status()
    say(json.dumps({
        "tid": replica.lastTransaction().hex(),
        "connected": bool(status["peers"]) if side == "primary" else status["connected"],
        "connections": status.get("connections"),
        "errors": status["errors_by_kind"],
    }))
replica.close()
"""


class Side:
    """A process on one of the machines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = read_line(process)

    def __call__(self, word: str = "status") -> dict[str, Any]:
        """Send a command; return the status after it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(read_line(self.process))
        return answer

    def end(self) -> None:
        """Stop it and wait."""
        output, errors = self.process.communicate(timeout=60)
        assert (self.process.returncode, output, errors) == (0, "", "")


@contextlib.contextmanager
def replicating(net: Machines, directory: Path) -> Iterator[tuple[Side, Side]]:
    """Run a primary that commits and a secondary, each on its machine."""
    host = ADDRESSES["primary"]
    with contextlib.ExitStack() as stack:

        def start(side: str, port: str) -> Side:
            under = net.under(side)
            process = program(SIDE, directory, side, host, port, under=under)
            return Side(stack.enter_context(process))

        primary = start("primary", "0")
        secondary = start("secondary", primary.said)
        primary("commit")
        wait_until(lambda: secondary()["tid"] != "0" * 16)
        yield primary, secondary
        last = primary("rest")["tid"]
        wait_until(lambda: secondary()["tid"] == last, "it catches up", 120)
        secondary.end()
        primary.end()
    assert_identical(directory / "primary.fs", directory / "secondary.fs")


def test_a_short_silence(tmp_path: Path) -> None:
    """Lost data are sent again over the same connection."""
    with machines() as net, replicating(net, tmp_path) as (primary, secondary):
        for _ in range(2):
            net.part()
            before = secondary()["tid"]
            time.sleep(0.5)
            # Data in its buffers were applied long before.
            silent = secondary()["tid"]
            time.sleep(0.5)
            assert secondary()["tid"] == silent
            assert primary()["tid"] > silent >= before
            net.heal()
            wait_until(lambda: secondary()["tid"] > silent)  # noqa: B023
        assert secondary()["connections"] == 1
        assert primary()["errors"] == secondary()["errors"] == {}


@pytest.mark.skipif(not MANY, reason="a dead peer is noticed after two minutes: `make faults`")
@pytest.mark.parametrize("commits", [True, False], ids=["while it commits", "while it rests"])
def test_a_machine_that_vanishes(tmp_path: Path, *, commits: bool) -> None:
    """Both sides notice within a bounded time, and continue when it is back."""
    with machines() as net, replicating(net, tmp_path) as (primary, secondary):
        if not commits:
            last = primary("rest")["tid"]
            wait_until(lambda: secondary()["tid"] == last)
        assert primary()["connected"]
        assert secondary()["connected"]
        net.part()
        for side in primary, secondary:
            wait_until(lambda: not side()["connected"], "it notices", NOTICED)  # noqa: B023
        assert primary()["errors"].keys() == {"network"}
        assert "network" in secondary()["errors"]
        net.heal()
        if not commits:
            primary("commit")
        wait_until(lambda: secondary()["connected"], "it comes back", NOTICED)
        assert secondary()["connections"] == 2

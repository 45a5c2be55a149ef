"""Two machines and a router between them, as network namespaces of this one.

The router drops packets silently, without FIN, RST or ICMP, as when a machine loses power or a
switch fails. Network namespaces require root on Linux.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESSES = {"primary": "10.77.1.1", "secondary": "10.77.2.1"}
_GATEWAYS = {"primary": "10.77.1.2", "secondary": "10.77.2.2"}


def _ip(*arguments: str) -> None:
    command = ["ip", *arguments]
    subprocess.run(command, check=True, capture_output=True, text=True)


@dataclass
class Machines:
    """The namespaces; a process in one reaches the other only through the router."""

    prefix: str = field(default_factory=lambda: f"zrs-{os.getpid()}")

    def name(self, machine: str) -> str:
        """Return the name of a machine's namespace."""
        return f"{self.prefix}-{machine}"

    def under(self, machine: str) -> list[str]:
        """Return the prefix of a command that runs it on a machine."""
        return ["ip", "netns", "exec", self.name(machine)]

    def make(self) -> None:
        """Create the namespaces and the links between them."""
        router = self.name("router")
        for machine in (*ADDRESSES, "router"):
            _ip("netns", "add", self.name(machine))
            _ip("-n", self.name(machine), "link", "set", "lo", "up")
        forwarding = [*self.under("router"), "sysctl", "-qw", "net.ipv4.ip_forward=1"]
        subprocess.run(forwarding, check=True, capture_output=True)
        for machine, address in ADDRESSES.items():
            here, there = self.name(machine), f"to-{machine}"
            _ip(
                "-n",
                router,
                "link",
                "add",
                there,
                "type",
                "veth",
                "peer",
                "eth0",
                "netns",
                here,
            )
            for namespace, link, own in (
                (router, there, _GATEWAYS[machine]),
                (here, "eth0", address),
            ):
                _ip("-n", namespace, "address", "add", f"{own}/24", "dev", link)
                _ip("-n", namespace, "link", "set", link, "up")
            _ip("-n", here, "route", "add", "default", "via", _GATEWAYS[machine])

    def part(self) -> None:
        """Drop all packets between the machines."""
        for address in ADDRESSES.values():
            _ip("-n", self.name("router"), "route", "add", "blackhole", address)

    def heal(self) -> None:
        """Deliver packets again."""
        for address in ADDRESSES.values():
            _ip("-n", self.name("router"), "route", "del", "blackhole", address)

    def remove(self) -> None:
        """Remove everything that was created."""
        for machine in (*ADDRESSES, "router"):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", self.name(machine))


@contextlib.contextmanager
def machines() -> Iterator[Machines]:
    """Yield machines; skip the test with a reason if they cannot be created."""
    if shutil.which("ip") is None:
        pytest.skip("network namespaces require the command `ip` (iproute2)")
    made = Machines()
    try:
        try:
            made.make()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be created here: {error.stderr.strip()}")
        yield made
    finally:
        made.remove()

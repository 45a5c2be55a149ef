"""A network that damages data, or stops altogether."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind = Literal["flip", "drop", "duplicate", "swap", "insert"]
KINDS: tuple[Kind, ...] = ("flip", "drop", "duplicate", "swap", "insert")


@dataclass
class Damage:
    """Damage to the byte at a position of a connection's data from the primary.

    A swap takes place at the next position where the two bytes differ.
    """

    kind: Kind
    position: int

    def apply(self, data: bytes, begin: int) -> bytes:
        """Return the damaged form of these bytes, which begin at a position."""
        at = self.position - begin
        if not 0 <= at < len(data):
            return data
        if self.kind == "swap":
            pairs = zip(data[at:], data[at + 1 :], strict=False)
            at += next((n for n, (one, other) in enumerate(pairs) if one != other), 0)
        before, byte, after = data[:at], data[at : at + 1], data[at + 1 :]
        damaged = {
            "flip": bytes([byte[0] ^ 0x10]) + after,
            "drop": after,
            "duplicate": byte + byte + after,
            "swap": after[:1] + byte + after[1:],
            "insert": b"\x07" + byte + after,
        }
        return before + damaged[self.kind]


class Network:
    """Forwards connections to a primary, and applies the n-th damage to the n-th connection.

    If `hold_after` is given, delivery stops after this many bytes from the primary. The caller
    closes it.
    """

    def __init__(
        self,
        target: tuple[str, int],
        damages: Iterable[Damage] = (),
        hold_after: int | None = None,
    ) -> None:
        self.target = target
        self.connections = 0
        self._damages = list(damages)
        self._hold_after = hold_after
        self._whole = threading.Event()
        self._whole.set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> tuple[str, int]:
        """The address to connect to instead of the primary's."""
        address: tuple[str, int] = self._server.getsockname()
        return address

    def part(self) -> None:
        """Silently deliver nothing from now on, in either direction."""
        self._whole.clear()

    def heal(self) -> None:
        """Deliver the data that were held back, and all later data."""
        self._whole.set()

    def cut(self) -> None:
        """End all connections."""
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End everything."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()
        self.heal()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            number, self.connections = self.connections, self.connections + 1
            damage = self._damages[number] if number < len(self._damages) else None
            threading.Thread(target=self._serve, args=(client, damage), daemon=True).start()

    def _serve(self, client: socket.socket, damage: Damage | None) -> None:
        with (
            client,
            contextlib.suppress(OSError),
            socket.create_connection(self.target) as server,
        ):
            self._sockets = [client, server]
            upwards = threading.Thread(
                target=self._forward, args=(client, server, None), daemon=True
            )
            upwards.start()
            if self._hold_after is not None:
                client.sendall(_exactly(server, self._hold_after))
                self.part()
            self._forward(server, client, damage)
            upwards.join()

    def _forward(
        self, source: socket.socket, target: socket.socket, damage: Damage | None
    ) -> None:
        position = 0
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._whole.wait()
                target.sendall(damage.apply(data, position) if damage else data)
                position += len(data)
        for end in source, target:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _exactly(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := source.recv(count - len(data))):
        data += more
    return data

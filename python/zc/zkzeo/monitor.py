"""The command server of the configuration key `monitor-server`.

It replaces zc.monitor, which does not run on Python 3. A client sends a line: a command and its
arguments. The server answers and closes the connection, unless the client has sent `interactive`
first. Commands are `help`, `interactive`, `quit`, `ruok`, `stats`, and those that other
distributions add with entry points of the group `zc.zkzeo.monitor`: functions that get the
connection, which has `write(text)`, and the arguments.
"""

import importlib.metadata
import json
import logging
import shlex
import socketserver
import threading
from collections.abc import Callable
from typing import Any

from zc.zrs.system.bounded_server import BoundedServer

GROUP = "zc.zkzeo.monitor"
MAX_LINE = 4096
IDLE_TIMEOUT = 300.0  # seconds
CONNECTION_SECONDS = 3600.0
"""Maximum duration of a connection, in seconds."""
MAX_QUOTED = 200
"""Maximum number of characters of a client's line that are quoted."""

Command = Callable[..., object]

logger = logging.getLogger(__name__)


class MonitorServer:
    """A command server that runs in threads of its own.

    :param address: where to listen; port 0 takes any free port
    :param commands: further commands, by their names

    Raises `OSError` if the address cannot be bound.
    """

    def __init__(self, address: tuple[str, int], commands: dict[str, Command]) -> None:
        self._server = _Server(address, _Handler)
        self._server.commands = {**_entry_points(), **commands}
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="zkzeo monitor", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """The address that was bound."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server.close_connections()


class _Server(BoundedServer):
    connection_seconds = CONNECTION_SECONDS
    busy = b"too many connections\n"
    logger = logger
    commands: dict[str, Command]


class _Handler(socketserver.StreamRequestHandler):
    timeout = IDLE_TIMEOUT
    server: _Server

    def handle(self) -> None:
        self._interactive = False
        try:
            while line := self.rfile.readline(MAX_LINE + 1):
                if len(line) > MAX_LINE:
                    self.write("line too long\n")
                    return
                self._answer(line.decode(errors="replace"))
                if not self._interactive:
                    return
        except OSError:
            return  # the client has disconnected, or sends nothing

    def write(self, text: str) -> None:
        """Send text to the client."""
        self.wfile.write(text.encode())

    def _answer(self, line: str) -> None:
        try:
            name, *arguments = shlex.split(line) or [""]
            command = {**self.server.commands, **_COMMANDS}.get(name)
            if command is None:
                self.write(f"invalid command {name[:MAX_QUOTED]!r}; try help\n")
                return
            command(self, *arguments)
        except OSError:
            raise
        except Exception as error:  # a registered command must not end the connection
            logger.exception("command %r failed", line[:MAX_QUOTED])
            self.write(f"{type(error).__name__}: {error}\n")

    def become_interactive(self) -> None:
        """Answer more than one command."""
        self._interactive = True

    def quit(self) -> None:
        """Stop answering."""
        self._interactive = False


def _ruok(connection: _Handler) -> None:
    """Confirm that the server is running."""
    connection.write("imok\n")


def _help(connection: _Handler) -> None:
    """List the commands."""
    commands = {**connection.server.commands, **_COMMANDS}
    for name in sorted(commands):
        about = (commands[name].__doc__ or "").strip().partition("\n")[0]
        connection.write(f"{name} -- {about}\n" if about else f"{name}\n")


def _interactive(connection: _Handler) -> None:
    """Keep the connection for further commands."""
    connection.become_interactive()


def _quit(connection: _Handler) -> None:
    """Close the connection."""
    connection.write("Goodbye.\n")
    connection.quit()


_COMMANDS: dict[str, Command] = {
    "help": _help,
    "interactive": _interactive,
    "quit": _quit,
    "ruok": _ruok,
}


def _entry_points() -> dict[str, Command]:
    commands = {}
    for entry_point in importlib.metadata.entry_points(group=GROUP):
        try:
            commands[entry_point.name] = entry_point.load()
        except Exception:  # noqa: PERF203 -- one of them must not keep the others from it
            logger.exception("cannot load %s", entry_point)
    return commands


def json_command(function: Callable[[], Any], about: str) -> Command:
    """Return a command that answers with what a function returns, as JSON."""

    def command(connection: Any) -> None:
        connection.write(json.dumps(function(), sort_keys=True, default=str) + "\n")

    command.__doc__ = about
    return command

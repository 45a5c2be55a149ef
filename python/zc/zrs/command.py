"""The command ``zrs``: its subcommands, and the messages of their failures."""

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from zc.zrs.commands.arguments import add_version
from zc.zrs.commands.errors import CannotStart, CannotWrite
from zc.zrs.commands.log_file import log_handler
from zc.zrs.commands.output import discard_output, write_error

COMMANDS = (
    "primary",
    "secondary",
    "bootstrap",
    "demo",
    "check",
    "dump",
    "recover",
    "pack",
    "status",
    "top",
)
"""The subcommands, in the order of the help; each is a module of `zc.zrs.commands`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status, 1 or 2 after a failure that was explained."""
    given = sys.argv[1:] if argv is None else argv
    # Only the module of the command is imported: `zrs status` needs no storages.
    first = given[0] if given else None
    arguments = _parser([first] if first in COMMANDS else COMMANDS).parse_args(given)
    log_file = getattr(arguments, "log_file", None)
    try:
        handler = log_handler(log_file)
    except OSError as error:
        write_error(f"zrs: cannot log to {log_file}: {error.strerror}")
        return CannotStart.status
    logging.basicConfig(
        handlers=[handler],
        level=arguments.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    try:
        status: int = arguments.run(arguments)
    except (CannotStart, CannotWrite) as error:
        write_error(f"zrs: {error}")
        return error.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        discard_output()  # the reader has closed the pipe
        return 141
    return status


def _parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="zrs", description="Replicate ZODB databases.")
    add_version(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in names:
        import_module(f"zc.zrs.commands.{name}").add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())

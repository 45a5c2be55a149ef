"""The command ``zrs``: its commands, and what it says when one fails."""

import argparse
import logging
import sys
from collections.abc import Sequence

from zc.zrs.commands import (
    bootstrap,
    check,
    demo,
    dump,
    pack,
    primary,
    recover,
    secondary,
    status,
    top,
)
from zc.zrs.commands.arguments import add_version
from zc.zrs.commands.log_file import log_handler
from zc.zrs.commands.output import CannotWrite, complain, give_up
from zc.zrs.commands.service import CannotStart


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status, 1 or 2 after a failure that was explained."""
    arguments = _parser().parse_args(argv)
    log_file = getattr(arguments, "log_file", None)
    try:
        handler = log_handler(log_file)
    except OSError as error:
        complain(f"zrs: cannot log to {log_file}: {error.strerror}")
        return CannotStart.status
    logging.basicConfig(
        handlers=[handler],
        level=arguments.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    try:
        status: int = arguments.run(arguments)
    except (CannotStart, CannotWrite) as error:
        complain(f"zrs: {error}")
        return error.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        give_up()  # who read the output has seen enough
        return 141
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="zrs", description="Replicate ZODB databases.")
    add_version(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in primary, secondary, bootstrap, demo, check, dump, recover, pack, status, top:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""``zrs-nagios``: whether a secondary is up to date, for Nagios and whatever runs its plugins.

Asked are the ZEO servers on top of a primary and of a secondary, so any client of theirs
may ask. The exit status is 0 for OK, 1 for a warning, 2 for an error.
"""

import argparse
import sys
from collections.abc import Sequence

from zc.zrs.commands.arguments import add_version, duration, timeout
from zc.zrs.commands.output import CannotWrite, any_encoding, complain, write
from zc.zrs.system.severity import CRITICAL
from zc.zrs.zeo_lag.comparison import Finding, Limits, compare_servers, worst
from zc.zrs.zeo_lag.probe import DEFAULT_TIMEOUT


def main(argv: Sequence[str] | None = None) -> int:
    """Compare two servers, print what is found, and return the state."""
    parser = _parser()
    given = parser.parse_args(argv)
    any_encoding()
    try:
        if given.warning is None and given.error is None and not given.output_metrics:
            write(
                f"{parser.format_usage().rstrip()}\nno threshold given: add -w, -e (-c) or -m"
            )
            return CRITICAL
        findings = compare_servers(
            given.primary, given.secondary, Limits(given.warning, given.error), given.timeout
        )
        write(show(findings, metrics=given.output_metrics))
    except (CannotWrite, BrokenPipeError) as error:
        complain(f"zrs-nagios: {error}")
        return CRITICAL
    return worst(findings)


# The name that zc.zrs 3.1 has for it.
basic = main


def show(findings: list[Finding], *, metrics: bool) -> str:
    """Return findings as a plugin prints them.

    The first metric is behind the first line, all others behind the last, as the format of
    plugins has it.
    """
    lines = [finding.text for finding in findings]
    if metrics:
        first, *others = findings
        if first.metric is not None:
            lines[0] += f"|{first.metric}"
        if more := [finding.metric for finding in others if finding.metric is not None]:
            lines[-1] += "| " + "\n ".join(more)
    return "\n".join(lines)


def add_servers(parser: argparse.ArgumentParser) -> None:
    """Take the servers to compare, and what lag is too much."""
    parser.add_argument(
        "primary",
        metavar="PRIMARY",
        help="the primary's ZEO server, HOST:PORT; without a host, on this machine",
    )
    parser.add_argument(
        "secondary", metavar="SECONDARY", help="the secondary's ZEO server, likewise"
    )
    parser.add_argument(
        "-w",
        "--warning",
        type=duration,
        metavar="SECONDS",
        help="a secondary that is further behind is a warning",
    )
    parser.add_argument(
        "-e",
        "--error",
        "-c",
        "--critical",
        dest="error",
        type=duration,
        metavar="SECONDS",
        help="a secondary that is further behind is an error",
    )
    parser.add_argument(
        "-t",
        "--timeout",
        type=timeout,
        default=DEFAULT_TIMEOUT,
        metavar="SECONDS",
        help=f"how long each server may take to answer (default: {DEFAULT_TIMEOUT:g})",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zrs-nagios",
        description="Compare the last transactions of a primary's and a secondary's ZEO server.",
        epilog="One of -w, -e (-c) and -m must be given.",
    )
    add_version(parser)
    add_servers(parser)
    parser.add_argument(
        "-m", "--output-metrics", action="store_true", help="print the lag as a metric, too"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

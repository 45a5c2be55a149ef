"""``zrs-nagios``: a Nagios plugin that checks whether a secondary is up to date.

It queries the ZEO servers of a primary and a secondary, so it can run on any machine that can
connect to them. The exit status is 0 for OK, 1 for a warning, 2 for an error.
"""

import argparse
import sys
from collections.abc import Sequence

from zc.zrs.commands.arguments import add_version, duration, timeout
from zc.zrs.commands.errors import CannotWrite
from zc.zrs.commands.output import any_encoding, write, write_error
from zc.zrs.system.severity import CRITICAL
from zc.zrs.zeo_lag.comparison import Finding, Limits, compare_servers, worst
from zc.zrs.zeo_lag.probe import DEFAULT_TIMEOUT


def main(argv: Sequence[str] | None = None) -> int:
    """Compare two servers, print the findings, and return the state."""
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
        write_error(f"zrs-nagios: {error}")
        return CRITICAL
    return worst(findings)


# The name that zc.zrs 3.1 has for it.
basic = main


def show(findings: list[Finding], *, metrics: bool) -> str:
    """Return findings in the format of a plugin's output.

    In this format, the first metric is at the end of the first line, all others at the end of
    the last line.
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
    """Add the servers to compare, and the limits of the lag."""
    parser.add_argument(
        "primary",
        metavar="PRIMARY",
        help="ZEO server of the primary, HOST:PORT; without a host, on this machine",
    )
    parser.add_argument(
        "secondary", metavar="SECONDARY", help="ZEO server of the secondary, in the same format"
    )
    parser.add_argument(
        "-w",
        "--warning",
        type=duration,
        metavar="DURATION",
        help="report a warning if the secondary is behind by more than this",
    )
    parser.add_argument(
        "-e",
        "--error",
        "-c",
        "--critical",
        dest="error",
        type=duration,
        metavar="DURATION",
        help="report an error if the secondary is behind by more than this",
    )
    parser.add_argument(
        "-t",
        "--timeout",
        type=timeout,
        default=DEFAULT_TIMEOUT,
        metavar="DURATION",
        help=f"maximum time to wait for each server (default: {DEFAULT_TIMEOUT:g})",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zrs-nagios",
        description="Compare the last transactions of the ZEO servers of a primary and a secondary"
        " (Nagios plugin).",
        epilog="One of -w, -e (-c) and -m must be given.",
    )
    add_version(parser)
    add_servers(parser)
    parser.add_argument(
        "-m", "--output-metrics", action="store_true", help="also print the lag as a metric"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Allowed differences from the guide's output: process ids, ports, Python 2's ``u``."""

from __future__ import annotations

import doctest
import re

_PID = re.compile(r"\bpid = \d+")
_PORT = re.compile(r"\b(127\.0\.0\.1|1\.2\.3\.4|localhost):\d+")
_UNICODE = re.compile(r"\bu(?=['\"])")


class Checker(doctest.OutputChecker):
    """Compares outputs, ignoring three things that differ between runs."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        """Return whether an example's output agrees with the guide."""
        return super().check_output(normalized(want), normalized(got), optionflags)


def normalized(output: str) -> str:
    """Return an output without process ids, ports, and the prefix of unicode literals."""
    output = _PID.sub("pid = N", output)
    output = _PORT.sub(r"\1:N", output)
    return _UNICODE.sub("", output)

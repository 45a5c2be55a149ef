"""Allowed differences between the documents of 2007 and today's output."""

from __future__ import annotations

import doctest
import re

_INSTANCE = re.compile(r"<([\w.]+) (?:instance|object)(?: at 0x[0-9a-f]+)?>")
_BYTES = re.compile(r"""(?<![\w'"\\])b('(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")""")
_FAILURE = re.compile(r"<twisted\.python\.failure\.Failure ([\w.]+): [^<>\n]*>")


class Checker(doctest.OutputChecker):
    """Compares outputs, ignoring three things that do not depend on the software."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        """Return whether an example's output agrees with the document."""
        return super().check_output(_INSTANCE.sub(r"<\1>", want), today(got), optionflags)


def today(got: str) -> str:
    """Return today's output as it would have been in 2007.

    The repr of an instance has the word "instance", and may have an address; a byte string has
    no `b`; a Twisted Failure shows the class of its exception.
    """
    got = _INSTANCE.sub(r"<\1>", got)
    got = _BYTES.sub(r"\1", got)
    return _FAILURE.sub(r"<twisted.python.failure.Failure <class '\1'>>", got)

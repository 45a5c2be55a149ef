"""Find phrases that the language guide rules out, in comments, docstrings and documentation.

    python setup/check_language.py [FILE...]

Without arguments it reads the whole project. It prints FILE:LINE, the phrase and the line for
each find, and exits with 1 if there are any. It reads comments in Rust and Python, docstrings,
and Markdown without its code blocks; of CHANGELOG.md only the part above the latest release.
It does not read other strings.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = (
    "src/**/*.rs",
    "crates/**/*.rs",
    "fuzz/**/*.rs",
    "python/**/*.py",
    "python/**/*.pyi",
    "tests/**/*.py",
    "doctests/**/*.py",
    "benches/*.py",
    "docs/*.py",
    "setup/*.py",
    "noxfile.py",
    "docs/**/*.md",
    "*.md",
)

# A phrase, and what to write in its place.
PHRASES = (
    (re.compile(r"\bso (many|long|much) "), "a number: `at most N`, `this many seconds`"),
    (re.compile(r"^\W*Who(ever)? "), "the actor: `a caller that`, `anyone who`"),
    (re.compile(r" is none\b"), "`is not a ...` or `has no ...`"),
    (re.compile(r" is no [a-z]+[,.]"), "`is not a ...`"),
    (re.compile(r"\bof our(s| own kind)\b"), "the type or its owner"),
    (re.compile(r"\banew\b"), "`again`, or what happens"),
)

RUST_TOKEN = re.compile(
    r"""(?P<comment>//[^\n]* | /\*.*?\*/)
    | b?r(?P<hashes>\#*)".*?"(?P=hashes) | b?c?"(?:\\.|[^"\\])*" | b?'(?:\\.[^']*|[^\\'])'""",
    re.DOTALL | re.VERBOSE,
)
FENCE = re.compile(r"^\s*(```|~~~)")
HAS_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

Line = tuple[int, str]


def numbered(first: int, text: str) -> Iterator[Line]:
    """Yield the lines of `text`, numbered from `first`."""
    return enumerate(text.splitlines(), first)


def rust_lines(text: str) -> Iterator[Line]:
    """Yield the lines of the comments in Rust."""
    for token in RUST_TOKEN.finditer(text):
        if comment := token["comment"]:
            yield from numbered(text.count("\n", 0, token.start()) + 1, comment)


def python_lines(text: str) -> Iterator[Line]:
    """Yield the lines of the comments and docstrings in Python."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, HAS_DOCSTRING) and ast.get_docstring(node, clean=False):
            docstring = node.body[0]
            last = docstring.end_lineno or docstring.lineno
            yield from enumerate(lines[docstring.lineno - 1 : last], docstring.lineno)


def markdown_lines(text: str) -> Iterator[Line]:
    """Yield the lines of Markdown that are not in a code block."""
    fence = ""
    for number, line in numbered(1, text):
        found = FENCE.match(line)
        if found and not fence:
            fence = found[1]
        elif found and found[1] == fence:
            fence = ""
        elif not fence:
            yield number, line


def prose(path: Path) -> Iterable[Line]:
    """Return the lines of a file that people read, with their numbers."""
    text = path.read_text()
    if path.suffix == ".rs":
        return rust_lines(text)
    if path.suffix != ".md":
        return python_lines(text)
    if path.name == "CHANGELOG.md":
        text = unreleased(text)
    return markdown_lines(text)


def unreleased(changes: str) -> str:
    """Return the part above the second version of a list of changes."""
    versions = [heading.start() for heading in re.finditer(r"^## ", changes, re.MULTILINE)]
    return changes[: versions[1]] if len(versions) > 1 else changes


def finds(path: Path) -> Iterator[str]:
    """Yield a report for each phrase in a file."""
    for number, line in sorted(prose(path)):
        for phrase, rather in PHRASES:
            if phrase.search(line):
                yield f"{path}:{number}: {line.strip()}\n    rather {rather}"


def main(arguments: list[str]) -> int:
    """Print what is found in the files named, or in the project, and return the exit status."""
    here = Path.cwd()
    found = {path for pattern in SOURCES for path in ROOT.glob(pattern)}
    paths = [Path(argument) for argument in arguments] or sorted(found)
    reports = [
        report
        for path in paths
        for report in finds(path.relative_to(here) if path.is_relative_to(here) else path)
    ]
    for report in reports:
        sys.stdout.write(f"{report}\n")
    if reports:
        sys.stderr.write(f"{len(reports)} phrases to write in plain English\n")
    return 1 if reports else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

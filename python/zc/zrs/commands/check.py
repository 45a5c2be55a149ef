"""``zrs check``: find the damage in a database."""

from pathlib import Path

from ZODB.utils import oid_repr

from zc.zrs import _zrs
from zc.zrs.commands.arguments import Commands, add_log_level
from zc.zrs.commands.files import STEP, CannotRead, check_file, location, naming_file
from zc.zrs.commands.output import write_line
from zc.zrs.commands.progress import progress
from zc.zrs.commands.reference_classes import reference_classes
from zc.zrs.files.blobs import check_layout
from zc.zrs.system.quantities import format_count

DESCRIPTION = """
Check a database for transactions and data records that violate the format, an index that does
not match the file, references to objects that cannot be loaded and, with --blob-dir, blobs
without files. Nothing is changed. Exit status: 0 if no problems were found, 1 if there are
problems, 2 if the file cannot be read.
"""

_TITLES = {"scanning": ("transactions", "bytes"), "following": ("references", "objects")}


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "check", help="check a database for damage", description=DESCRIPTION
    )
    parser.set_defaults(
        run=lambda given: run_check(
            given.path,
            index=given.index,
            references=given.references,
            blob_dir=given.blob_dir,
        )
    )
    parser.add_argument("path", type=Path, help="the Data.fs")
    parser.add_argument(
        "--no-index", dest="index", action="store_false", help="do not check the index file"
    )
    parser.add_argument(
        "--no-references",
        dest="references",
        action="store_false",
        help="do not check references between objects",
    )
    parser.add_argument(
        "--blob-dir",
        type=Path,
        metavar="DIR",
        help="blob directory of the database; checks that each blob has its file",
    )
    add_log_level(parser)


def run_check(
    path: Path,
    *,
    index: bool = True,
    references: bool = True,
    blob_dir: Path | None = None,
) -> int:
    """Print the problems of a file; return 1 if it has any."""
    check_file("check", path)
    if blob_dir is not None and not blob_dir.is_dir():
        raise CannotRead(f"cannot check {path}: blob directory {blob_dir} does not exist")
    problems = 0
    with naming_file("check", path):
        blobs = None if blob_dir is None else (blob_dir, check_layout(str(blob_dir)))
    with naming_file("check", path), progress() as show:
        check = _zrs.Check(path, index=index, references=references, blobs=blobs)
        phase = ""
        while phase != "done":
            phase, done, total = check.step(STEP)
            for problem in check.take_problems():
                write_line(_line(check, problem))
                problems += 1
            if phase in _TITLES:
                title, unit = _TITLES[phase]
                show(title, done, total, unit)
        transactions, records, objects = check.counts
    if check.transformed:
        write_line(
            f"{format_count(check.transformed, 'object')} transformed by another layer, such as"
            " zc.zlibstorage: references not checked"
        )
    write_line(
        f"{format_count(transactions, 'transaction')}, {format_count(records, 'record')},"
        f" {format_count(objects, 'object')}: {format_count(problems, 'problem') if problems else 'no problems'}"
    )
    return 1 if problems else 0


def _line(check: _zrs.Check, problem: _zrs.Problem) -> str:
    if problem.reference is None:
        skipped = (
            f"; {format_count(problem.skipped, 'byte')} skipped" if problem.skipped else ""
        )
        return f"{location(problem)}: {problem.message}{skipped}"
    oid, state = problem.reference
    data = check.data(problem.pos) or b""
    own = ".".join(_zrs.record_class(data) or ("<unknown>",))
    referred = reference_classes(data).get(oid, "<unknown>")
    return f"{location(problem)} {own}: refers to invalid object {oid_repr(oid)} {state}: {referred}"

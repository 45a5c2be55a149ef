"""``zrs recover``: copy the intact transactions of a damaged database."""

from pathlib import Path

from zc.zrs import _zrs
from zc.zrs.commands.arguments import Commands, add_log_level
from zc.zrs.commands.files import STEP, CannotRead, check_file, location, naming_file
from zc.zrs.commands.output import write_line
from zc.zrs.commands.progress import progress
from zc.zrs.system.quantities import format_count

DESCRIPTION = """
Copy the intact transactions of a damaged database to a new file, and report what is lost and
what could be repaired. Blobs are not copied: use the new file with the existing blob
directory. Exit status: 0 if nothing is lost, 1 if something is lost, 2 if a file cannot be
read or written.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "recover",
        help="salvage the intact transactions of a damaged database",
        description=DESCRIPTION,
    )
    parser.set_defaults(
        run=lambda given: run_recover(given.source, given.target, partial=given.partial)
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="the damaged Data.fs")
    parser.add_argument(
        "target", type=Path, metavar="DST", help="the new file, which must not exist"
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="keep the records before the damage in a damaged transaction",
    )
    add_log_level(parser)


def run_recover(source: Path, target: Path, *, partial: bool = False) -> int:
    """Copy the intact transactions; return 1 if anything is lost."""
    with progress() as show:
        salvage = _open(source, target, partial=partial)
        with naming_file("recover", source):
            going_on = True
            while going_on:
                going_on = salvage.step(STEP)
                for problem, lost in salvage.take_findings():
                    fate = f"lost {format_count(lost, 'byte')}" if lost else "mended"
                    write_line(f"{fate}: {location(problem)}: {problem.message}")
                show("transactions", salvage.pos, salvage.size, "bytes")
    transactions, records, lost_bytes = salvage.copied
    write_line(
        f"copied {format_count(transactions, 'transaction')} with {format_count(records, 'record')};"
        f" lost {lost_bytes} of {format_count(salvage.size, 'byte')}"
    )
    return 1 if lost_bytes else 0


def _open(source: Path, target: Path, *, partial: bool) -> _zrs.Salvage:
    check_file("recover", source)
    index = Path(f"{target}.index")
    if index.exists():
        raise CannotRead(f"cannot write {target}: {index} exists")
    with naming_file("write", target), target.open("xb"):
        pass
    try:
        with naming_file("recover", source):
            return _zrs.Salvage(source, target, partial=partial)
    except BaseException:
        target.unlink()  # created above, and still empty
        raise

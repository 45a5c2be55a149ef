"""setup/check_language.py: which lines it reads, and what it reports."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "setup" / "check_language.py"

RUST = """\
//! Who calls it waits.
/// At most this many.
fn f<'a>(x: &'a str) -> char {
    let s = "so many // anew"; // a size of ours
    let raw = r#"made "anew" // anew"#;
    '"' /* made
    anew */
}
"""
PYTHON = """\
'''A module that is none.'''
TEXT = '''
made anew
'''


def f(x):
    '''Return it.

    It is no record, and waits so long as that.
    '''
    return "anew"  # whoever writes this anew
"""
MARKDOWN = """\
There is none. If there is no primary, wait.
```console
$ echo anew
```
The copy is no backup.
"""


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("a.rs", RUST, [1, 4, 7]),
        ("a.py", PYTHON, [1, 10, 10, 12]),
        ("a.md", MARKDOWN, [1, 1, 5]),
        ("CHANGELOG.md", "# Changes\n\n## 2\n\nanew\n\n## 1\n\nanew\n", [5]),
        ("b.md", "The secondary connects again.\n", []),
    ],
)
def test_phrases_are_found_in_what_people_read(
    tmp_path: Path, name: str, text: str, lines: list[int]
) -> None:
    (tmp_path / name).write_text(text)
    command = [sys.executable, str(PROGRAM), name]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = [line for line in ended.stdout.splitlines() if not line.startswith(" ")]
    assert [int(line.split(":")[1]) for line in found] == lines
    assert ended.returncode == (1 if lines else 0)

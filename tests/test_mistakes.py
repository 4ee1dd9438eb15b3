"""docs/mistakes.md and docs/hostile-input.md cannot lie about their tests: every one that they name is there, and every
row names one, but for the last table of mistakes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT, _, NOT_YET = (ROOT / "docs" / "mistakes.md").read_text(encoding="utf-8").partition("## Not yet")
HOSTILE = (ROOT / "docs" / "hostile-input.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXT + HOSTILE)))


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_every_test_that_is_named_is_there(file):
    named = {name for other, name in NAMED if other == file and name}
    assert named <= functions(ROOT / file), named - functions(ROOT / file)


def test_every_mistake_names_a_test():
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| the mistake |")]
    assert len(rows) > 50
    assert [row for row in rows if not re.search(r"\| `tests/[\w/]+\.py::test_\w+`[^|]*\|$", row)] == []
    assert "`tests/" not in NOT_YET


def test_every_hostile_input_names_a_test():
    """A table whose last column is headed "test in `FILE`" names a test in every row: of that file, or by its path."""
    file, rows = None, 0
    for line in HOSTILE.splitlines():
        if found := re.search(r"\| tests? in `(test_\w+\.py)` \|$", line):
            file = found[1]
        elif not line.startswith("|"):
            file = None
        elif file and not line.startswith("|---"):
            cell = line.split("|")[-2]
            named = set(re.findall(r"`(test_\w+)`", cell))
            assert (named or "`tests/" in cell) and named <= functions(ROOT / "tests" / "hostile" / file), line
            rows += 1
    assert rows > 50


def test_every_guard_names_a_file_and_what_is_in_it():
    """A row of the table of guards names a module of the package, and constants, functions or classes defined there."""
    table = HOSTILE.partition("## What guards what")[2].partition("\n## ")[0]
    places = [line.split("|")[2] for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(places) > 10
    for place in places:
        path = ROOT
        for name in re.findall(r"`([^`]+)`", place):
            if name.endswith(".py"):
                path = ROOT / "src" / "vidiff_cli" / name
                assert path.is_file(), name
            else:
                text = path.read_text(encoding="utf-8")
                assert re.search(rf"^(?:    )?(?:def |class )?{re.escape(name)}\b", text, re.MULTILINE), place

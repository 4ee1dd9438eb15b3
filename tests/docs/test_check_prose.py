"""tools/check_prose.py refuses the phrases it names, and nothing else."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("check_prose", ROOT / "tools" / "check_prose.py")
assert SPEC and SPEC.loader
check_prose = importlib.util.module_from_spec(SPEC)
sys.modules["check_prose"] = check_prose
SPEC.loader.exec_module(check_prose)


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('"""What a module holds."""\n', [1]),
        ('def f():\n    """Whether it fits."""\n', [2]),
        ('class A:\n    """Of a clip: its frames."""\n', [2]),
        ('x = 1\ny = f"{x} is no sidecar"\n', [2]),
        ('"""Reads a file.\n\nA video in the making.\n"""\n', [3]),
        ("x = 1  # where there is none\n", [1]),
        ('"""Reads what a clip says; None where its caption is None."""\nx = "it is no longer there"\n', []),
        ("whether = None\nwhat = 'What to write'\n", []),
    ],
)
def test_refused_phrases_are_named_by_line(tmp_path: Path, source: str, lines: list[int]) -> None:
    file = tmp_path / "module.py"
    file.write_text(source, encoding="utf-8")
    assert [finding.line for finding in check_prose.check(file)] == lines
    assert check_prose.main([str(tmp_path)]) == bool(lines)

"""Pages that are written by hand name what exists: rooms, versions, decisions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vidiff_cli import __version__

ROOT = Path(__file__).parents[2]


def test_the_table_of_rooms_has_every_room_of_the_package() -> None:
    """A module of the package's top folder, or a package in it, has a row in docs/architecture.md, and no other."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("| room | holds |")[2]
    cells = [line.split("|")[1] for line in text.partition("\n\n")[0].splitlines() if line.startswith("| `")]
    named = {name.rstrip("/") for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    package = ROOT / "src" / "vidiff_cli"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    modules = {path.name for path in package.glob("*.py") if not path.name.startswith("__")}
    assert named == rooms | modules


def test_the_citation_has_the_version_of_the_package() -> None:
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_decisions_are_numbered_without_gap() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    numbers = [int(page.name[:4]) for page in pages]
    assert numbers == list(range(1, len(pages) + 1))
    for number, page in zip(numbers, pages, strict=True):
        assert page.read_text(encoding="utf-8").startswith(f"# {number}. ")


@pytest.mark.parametrize("old", ["tasks/", "viewing/", "vidiff_cli.tasks", "vidiff_cli.data.", "optimiser", "colour"])
def test_no_page_has_a_name_of_before_the_move(old: str) -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.py")]
    assert [str(page.relative_to(ROOT)) for page in pages if old in page.read_text(encoding="utf-8")] == []

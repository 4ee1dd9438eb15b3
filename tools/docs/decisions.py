"""docs/decisions/index.md: the list of decisions, from the headings of their pages."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "decisions"
OPENING = """# Decisions

<!-- made by `make docs` from the headings of the pages -->

Each page says what was decided, why, and what was tried. A decision may be replaced by a later one, never edited away.
"""


def page() -> str:
    """Return the page: one line per decision, in the order of their numbers."""
    headings = {path.name: path.read_text(encoding="utf-8").partition("\n")[0] for path in FOLDER.glob("0*.md")}
    lines = [f"- [{heading.removeprefix('# ')}]({name})" for name, heading in sorted(headings.items())]
    return "\n".join([OPENING, *lines, ""])

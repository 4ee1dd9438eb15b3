"""Check every relative link of the Markdown files: its file exists, and its anchor is a heading of that file.

    python tools/check_links.py

Covers README.md, CONTRIBUTING.md, CHANGELOG.md, docs/ and the model card; every page of docs/ has to be on the site's
navigation (mkdocs.yml) or linked from another page. Prints FILE:LINE: the link; exit code 1 when anything was found.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[[^\]]*\]\((?![a-z]+:)([^)\s]+)\)")


def pages() -> list[Path]:
    """Return the Markdown files that people read."""
    single = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [*single, ROOT / "src/vidiff_cli/builtin/README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and mkdocs make them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(re.sub(r"\s+", "-", plain.strip()))
    return found


def broken(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, link) of the links that lead nowhere; code blocks are skipped."""
    fenced = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fenced ^= line.lstrip().startswith("```")
        for link in () if fenced else LINK.findall(re.sub(r"`[^`]*`", "", line)):
            target, _, anchor = link.partition("#")
            file = (path.parent / target).resolve() if target else path
            if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
                yield number, link


def unreachable() -> list[Path]:
    """Return the pages of docs/ that neither the navigation nor another page names."""
    named = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    linked = {
        (path.parent / link.partition("#")[0]).resolve()
        for path in pages()
        for link in LINK.findall(path.read_text(encoding="utf-8"))
    }
    docs = ROOT / "docs"
    return [
        page
        for page in sorted(docs.rglob("*.md"))
        if page not in linked and f": {page.relative_to(docs).as_posix()}" not in named
    ]


def main() -> int:
    """Check all pages; return the exit code."""
    found = [f"{page.relative_to(ROOT)}:{line}: broken link {link}" for page in pages() for line, link in broken(page)]
    found += [f"{page.relative_to(ROOT)}: not on the navigation and not linked" for page in unreachable()]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""mkdocs hook: pages that live outside docs/, and links as they read on the site.

The README becomes the home page; CONTRIBUTING.md, CHANGELOG.md and the model card become pages, pictures of
benchmarks/results become files. A link to any other file of the repository becomes its text. Formulas are drawn by
matplotlib, so that the site needs no script from elsewhere.
"""

from __future__ import annotations

import hashlib
import io
import posixpath
import re
from functools import cache
from pathlib import Path
from typing import Any

from matplotlib.mathtext import math_to_image
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "src/vidiff_cli/builtin/README.md": "model-card.md",
}
RESULTS = "benchmarks/results"
WITH_FORMULAS = ("mathematics.md", "architecture.md")
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$]+?)\$", re.DOTALL)
SPELLINGS = (  # of LaTeX, where mathtext has another one
    (r"\tfrac", r"\frac"),
    (r"\lVert", r"\Vert "),
    (r"\rVert", r"\Vert "),
    (r"\text", r"\mathrm"),
    (r"\!", ""),
    (r"\mid", r"\vert "),
    (r"\left\Vert", r"\left\|"),
    (r"\right\Vert", r"\right\|"),
)
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages and pictures from outside docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for picture in sorted((ROOT / RESULTS).iterdir()):
        if picture.suffix in (".png", ".jpg"):
            files.append(File.generated(config, f"figures/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrite the relative links of a page from the repository's tree to the site's, and draw its formulas."""
    uri = page.file.src_uri
    source = next((source for source, target in PAGES.items() if target == uri), f"docs/{uri}")

    def rewritten(found: re.Match[str]) -> str:
        mark, text, target, anchor = found[1], found[2], found[3], found[4] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in PAGES:
            site = PAGES[path]
        elif path.startswith("docs/") and (ROOT / path).is_file():
            site = path.removeprefix("docs/")
        elif path.startswith(f"{RESULTS}/"):
            site = f"figures/{posixpath.basename(path)}"
        else:
            return text
        return f"{mark}[{text}]({posixpath.relpath(site, posixpath.dirname(uri) or '.')}{anchor})"

    markdown = LINK.sub(rewritten, markdown)
    if uri in WITH_FORMULAS:
        markdown = FORMULA.sub(lambda found: picture(found[1] or found[2], bool(found[1]), config, files), markdown)
    return markdown


def picture(latex: str, display: bool, config: Any, files: Any) -> str:
    """Return the HTML of a formula, and add its picture to the site."""
    name, content, depth = drawn(" ".join(latex.split()))
    if not files.get_file_from_path(name):
        files.append(File.generated(config, name, content=content))
    style = "display:block;margin:1em auto" if display else f"vertical-align:{-depth:.1f}px"
    alt = " ".join(latex.split()).replace("|", "&#124;").replace("<", "&lt;").replace('"', "&quot;")
    return f'<img src="{name}" alt="{alt}" style="{style}">'


@cache
def drawn(latex: str) -> tuple[str, bytes, float]:
    """Return (name, SVG, depth below the baseline in pixels) of a formula."""
    text = latex
    for spelling, other in SPELLINGS:
        text = text.replace(spelling, other)
    buffer = io.BytesIO()
    depth = math_to_image(f"${text}$", buffer, dpi=72, format="svg")
    return f"formulas/{hashlib.sha256(latex.encode()).hexdigest()[:12]}.svg", buffer.getvalue(), float(depth)

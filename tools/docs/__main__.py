"""Write the generated pages of docs/, or with --check only compare them.

    python -m tools.docs [--check] [PAGE ...]      # at the root of the repository; default: all pages

Exit code 1 when a page is out of date under --check, 2 for an unknown page.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.docs import (
    architecture,
    conditioning,
    decisions,
    distillation,
    films,
    gpu,
    presets,
    reference,
    results,
    upscaling,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES: dict[str, Callable[[], str]] = {
    "cli.md": reference.page,
    "presets.md": presets.page,
    "conditioning.md": conditioning.page,
    "distillation.md": distillation.page,
    "gpu.md": gpu.page,
    "results.md": results.page,
    "films.md": films.page,
    "upscaling.md": upscaling.page,
    "architecture.svg": architecture.page,
    "decisions/index.md": decisions.page,
}


def main(arguments: Sequence[str]) -> int:
    """Write or compare the pages named; return the exit code."""
    names = [word for word in arguments if word != "--check"] or list(PAGES)
    if unknown := sorted(set(names) - set(PAGES)):
        print(f"unknown pages: {', '.join(unknown)}; known: {', '.join(PAGES)}", file=sys.stderr)
        return 2
    stale = []
    for name in names:
        text, path = PAGES[name](), DOCS / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
            print(path)
    if stale and "--check" in arguments:
        print(f"out of date: {', '.join(f'docs/{name}' for name in stale)}; run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""docs/architecture.svg: the rooms of the package in their layers, from the import contract in pyproject.toml."""

from __future__ import annotations

import tomllib
from html import escape
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
WIDTH, ROW, GAP, MARGIN = 860, 44, 18, 20  # pixels
LABELS = {  # the part of a row's name that the boxes do not say
    "cli": "command line",
    "commands": "one file or package per command",
    "diffusion": "mathematics and measurements",
    "config": "settings and time",
    "system": "ground floor",
}


def layers() -> list[list[str]]:
    """Return the layers from the top down, each a list of rooms."""
    content = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    contracts = content["tool"]["importlinter"]["contracts"]
    rows = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[name.strip() for name in row.replace(":", "|").split("|")] for row in rows]


def page() -> str:
    """Return the picture as SVG: one row of boxes per layer, arrows pointing down."""
    rows = layers()
    height = len(rows) * (ROW + GAP) + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="14" role="img" aria-label="Layers of the package; imports point downwards">',
        "<style>rect{fill:#e8eef7;stroke:#4a6fa5}text{fill:#1c2b41}.s{fill:#667;font-size:11px}"
        "path{stroke:#4a6fa5;fill:none}</style>",
        f'<rect width="{WIDTH}" height="{height}" style="fill:#fff;stroke:none"/>',
    ]
    for number, names in enumerate(rows):
        top = MARGIN + number * (ROW + GAP)
        label = next((LABELS[name] for name in names if name in LABELS), "")
        inner = WIDTH - 2 * MARGIN
        box = (inner - (len(names) - 1) * 10) / len(names)
        for place, name in enumerate(names):
            left = MARGIN + place * (box + 10)
            parts.append(f'<rect x="{left:.0f}" y="{top}" width="{box:.0f}" height="{ROW}" rx="6"/>')
            parts.append(f'<text x="{left + box / 2:.0f}" y="{top + 27}" text-anchor="middle">{escape(name)}</text>')
        if label and len(names) == 1:
            parts.append(f'<text class="s" x="{WIDTH - MARGIN - 10}" y="{top + 27}" text-anchor="end">{label}</text>')
        if number + 1 < len(rows):
            middle, below = WIDTH / 2, top + ROW
            tip = below + GAP - 3
            parts.append(f'<path d="M{middle:.0f} {below + 2}V{tip}m-4 -5l4 5l4 -5"/>')
    return "\n".join([*parts, "</svg>", ""])

"""Text on pictures: the font, and lines that fit a column."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@cache
def load_font(size: int) -> Font:
    """Loads DejaVu Sans, which matplotlib ships and which has most alphabets; else the font inside Pillow."""
    found = importlib.util.find_spec("matplotlib")  # finds the folder without the cost of importing it
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(path, size)
    return ImageFont.load_default(size)


def wrap(text: str, font: Font, width: int, max_lines: int) -> list[str]:
    """Breaks text into at most `most` lines of `width` pixels; breaks long words, and ends truncated text with '…'."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            if line and font.getlength(f"{line} {word}") > width:
                lines.append(line)
                line = ""
            line = f"{line} {word}" if line else word
            while font.getlength(line) > width:
                fits = _fitting(line, font, width)
                lines.append(line[:fits])
                line = line[fits:]
        lines.append(line)
    if len(lines) <= max_lines:
        return lines
    last = lines[max_lines - 1]
    while last and font.getlength(last + "…") > width:
        last = last[:-1]
    return [*lines[: max_lines - 1], last.rstrip() + "…"]


def _fitting(line: str, font: Font, width: int) -> int:
    """Number of characters of the line that fit, at least one."""
    fits = 1
    while fits < len(line) and font.getlength(line[: fits + 1]) <= width:
        fits += 1
    return fits

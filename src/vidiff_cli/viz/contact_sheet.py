"""Contact sheets: rows of labelled frames in one picture.

Legend: t frames, h and w pixels, c = 3 colors; a cell holds one frame on the sheet.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import evenly_spaced
from vidiff_cli.viz.fonts import load_font, wrap
from vidiff_cli.viz.picture_files import whole_picture

MIN_FRAMES, MAX_FRAMES = 8, 24  # frames that a row shows of a longer clip, evenly spaced: as many as fit in WIDE pixels
WIDE = 2400
SMALL_CELL, LARGE_CELL = 80, 128  # long side in pixels: smaller frames are enlarged, larger ones reduced
MARGIN, GAP, BORDER = 16, 4, 3
LABEL_WIDTH, LABEL_SIZE, NUMBER_SIZE = 190, 14, 11
LONGEST_LABEL = 2000  # characters that are looked at
HEIGHTS = "vidiff:rows"  # in a PNG: heights of the rows in pixels
PAGE, INK, FAINT, GIVEN = (255, 255, 255), (32, 34, 38), (130, 134, 142), (230, 120, 20)
SEAM, SEAM_WIDTH = (200, 30, 60), 3  # between given and made frames
LEGEND = (("given", "given frames"), ("seams", "seam of given and made"), ("borders", "next window"))  # of a Row


class FrameSequence(Protocol):
    """A clip (t h w c) uint8: an array, or an object that reads a frame (h w c) on access."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SheetRow:
    """A row of a sheet: frames (t h w c) uint8; `given` are the indices of frames that were not generated.

    `seams` and `borders` are indices of frames before which a line is drawn: between given and generated frames and,
    thinner, between the frames of two windows.
    """

    label: str
    frames: FrameSequence
    given: Collection[int] = field(default=())
    seams: Collection[int] = field(default=())
    borders: Collection[int] = field(default=())
    numbers: Sequence[int] = field(default=())  # of the frames in a longer clip that these were taken from


def contact_sheet(rows: Sequence[SheetRow], path: Path | str, *, scale: int | None = None) -> Path:
    """Draws rows of frames and writes the picture (format by extension, atomically); returns its path.

    `scale` enlarges every frame by a whole number; without it small frames are enlarged to about 80 pixels and large
    ones reduced to 128. Given frames are framed in orange, and a legend says so. A long row shows 8 to 24 evenly spaced
    frames, as many as fit, with their numbers, and always the two frames at its first seam. Raises VidiffError for an
    empty list of rows, and for a row that is not a clip.
    """
    path = Path(path)
    if not rows:
        raise VidiffError("A contact sheet needs at least one row", found="none")
    for row in rows:
        _check(row)
    drawn = [_draw_row(row, scale) for row in rows]
    legend = [entry for entry in LEGEND if any(getattr(row, entry[0]) for row in rows)]
    if legend:
        drawn.append(_legend(legend))
    width = max(image.width for image in drawn) + 2 * MARGIN
    height = sum(image.height + MARGIN for image in drawn) + MARGIN
    sheet = Image.new("RGB", (width, height), PAGE)
    top = MARGIN
    for image in drawn:
        sheet.paste(image, (MARGIN, top))
        top += image.height + MARGIN
    _save(sheet, path, heights=[image.height for image in drawn])
    return path


def progress_sheet(sheets: Sequence[tuple[str, Path]], path: Path | str, *, title: str) -> Path | None:
    """Stacks the first rows of several contact sheets, each with its label, below a title; returns the path.

    Of many sheets at most 24 are shown, evenly spaced, including the first and the last. A sheet that cannot be read,
    or was not made by `contact_sheet`, is skipped; returns None if all are.
    """
    path = Path(path)
    rows: list[tuple[str, Image.Image]] = []
    for label, sheet in (sheets[place] for place in evenly_spaced(len(sheets), MAX_FRAMES)):
        row = _first_row(sheet)
        rows += [(label, row)] if row is not None else []
    if not rows:
        return None
    width = LABEL_WIDTH + GAP + max(row.width for _, row in rows)
    font = load_font(LABEL_SIZE)
    heading = wrap(title[:LONGEST_LABEL] or "(no caption)", font, width, 2)
    top = MARGIN + len(heading) * (LABEL_SIZE + 4) + GAP
    picture = Image.new("RGB", (width + 2 * MARGIN, top + sum(row.height + GAP for _, row in rows) + MARGIN), PAGE)
    pen = ImageDraw.Draw(picture)
    for number, line in enumerate(heading):
        pen.text((MARGIN, MARGIN + number * (LABEL_SIZE + 4)), line, fill=INK, font=font)
    for label, row in rows:
        pen.text((MARGIN, top), label, fill=INK, font=font)
        picture.paste(row, (MARGIN + LABEL_WIDTH + GAP, top))
        top += row.height + GAP
    _save(picture, path, heights=[])
    return path


def _first_row(sheet: Path) -> Image.Image | None:
    """The frames of the first row of a contact sheet, without its label; the PNG stores the heights of its rows."""
    try:
        with Image.open(sheet) as picture:
            height = int(picture.text[HEIGHTS].split()[0])  # type: ignore[attr-defined]
            left, right = MARGIN + LABEL_WIDTH + GAP, picture.width - MARGIN
            if not (0 < height <= picture.height - 2 * MARGIN and left < right):
                return None
            return picture.crop((left, MARGIN, right, MARGIN + height)).convert("RGB")
    except (OSError, ValueError, LookupError, AttributeError, SyntaxError):  # SyntaxError: Pillow's, of a broken PNG
        return None


def _save(sheet: Image.Image, path: Path, *, heights: Sequence[int]) -> None:
    """Writes a sheet; a PNG also stores the heights of its rows."""
    facts = PngInfo()
    if heights:
        facts.add_text(HEIGHTS, " ".join(map(str, heights)))
    with whole_picture(path) as temporary:
        if path.suffix.lower() == ".png":
            sheet.save(temporary, pnginfo=facts)
        else:
            sheet.save(temporary)


def _check(row: SheetRow) -> None:
    shape = row.frames.shape
    if row.frames.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise VidiffError(
            f"The row {row.label!r} is not a clip",
            found=f"{row.frames.dtype} {shape}",
            expected="uint8 (frames, height, width, 3)",
        )


def _draw_row(row: SheetRow, scale: int | None) -> Image.Image:
    total = len(row.frames)
    cell_width = max(_cell(row.frames[0], scale).width + 2 * BORDER, 2 * NUMBER_SIZE)  # tall frames: room for numbers
    fitting = WIDE // (cell_width + GAP)
    indices = thin_row(evenly_spaced(total, min(max(fitting, MIN_FRAMES), MAX_FRAMES)), row.seams)
    total_frames = row.numbers[-1] + 1 if row.numbers else total
    note = f"{len(indices)} of {total_frames} frames" if len(indices) < total_frames else ""
    cells = [_cell(row.frames[index], scale) for index in indices]
    cell_height = cells[0].height + 2 * BORDER
    label = _label(row.label, note, cell_height + NUMBER_SIZE + GAP)
    cell_height = max(cell_height, label.height - NUMBER_SIZE - GAP)
    left = LABEL_WIDTH + GAP
    image = Image.new("RGB", (left + len(cells) * (cell_width + GAP) - GAP, cell_height + NUMBER_SIZE + GAP), PAGE)
    image.paste(label, (0, 0))
    pen = ImageDraw.Draw(image)
    given = set(row.given)
    for place, (index, cell) in enumerate(zip(indices, cells, strict=True)):
        x = left + place * (cell_width + GAP)
        if place:
            _line(pen, x, image.height, row, range(indices[place - 1] + 1, index + 1))
        if index in given:
            pen.rectangle((x, 0, x + cell.width + 2 * BORDER - 1, cell.height + 2 * BORDER - 1), fill=GIVEN)
        image.paste(cell, (x + BORDER, BORDER))
        number = (x + cell.width / 2 + BORDER, cell.height + 2 * BORDER + GAP / 2)
        pen.text(
            number,
            str(row.numbers[index] if row.numbers else index),
            fill=GIVEN if index in given else FAINT,
            font=load_font(NUMBER_SIZE),
            anchor="ma",
        )
    return image


def _line(pen: ImageDraw.ImageDraw, x: float, height: int, row: SheetRow, between: range) -> None:
    """Draws a line in the gap left of a cell if a seam, or else a window border, is between the two frames."""
    center = x - GAP / 2
    if any(index in between for index in row.seams):
        center += 2 * ((between[0] - 1 in row.given) - (between[-1] in row.given))  # away from the frame in orange
        pen.rectangle((center - 1, 0, center + SEAM_WIDTH - 2, height - 1), fill=SEAM)
    elif any(index in between for index in row.borders):
        pen.line((center, 0, center, height - 1), fill=FAINT)


def thin_row(indices: list[int], seams: Collection[int]) -> list[int]:
    """Replaces some of the shown indices so that both frames at the first seam are included; keeps their number."""
    inside = [seam for seam in seams if 0 < seam <= indices[-1]]
    if not inside or len(indices) < 4:
        return indices
    seam = min(inside)
    kept = {indices[0], seam - 1, seam, indices[-1]}
    others = sorted((index for index in indices if index not in kept), key=lambda index: -abs(index - seam))
    return sorted({*kept, *others[: len(indices) - len(kept)]})


def _cell(frame: np.ndarray, scale: int | None) -> Image.Image:
    """A frame enlarged by a whole number without smoothing, so that every pixel is visible, or reduced by area."""
    image = Image.fromarray(np.ascontiguousarray(frame))
    side = max(image.size)
    if scale is None and side > LARGE_CELL:
        width, height = (max(1, round(length * LARGE_CELL / side)) for length in image.size)
        return image.resize((width, height), Image.Resampling.BOX)
    factor = scale or max(1, round(SMALL_CELL / side))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _label(text: str, note: str, height: int) -> Image.Image:
    """The label wrapped to its column, at least `height` tall, with the note below in gray."""
    font = load_font(LABEL_SIZE)
    line_height = LABEL_SIZE + 4
    max_lines = max(4, height // line_height - bool(note))
    lines = [(line, INK) for line in wrap(text[:LONGEST_LABEL], font, LABEL_WIDTH - 2 * GAP, max_lines)]
    lines += [(note, FAINT)] if note else []
    image = Image.new("RGB", (LABEL_WIDTH, max(height, len(lines) * line_height)), PAGE)
    pen = ImageDraw.Draw(image)
    for number, (line, color) in enumerate(lines):
        pen.text((0, number * line_height), line, fill=color, font=font)
    return image


def _legend(entries: Sequence[tuple[str, str]]) -> Image.Image:
    """A line of (name, text): a sample of each mark and its meaning."""
    font, side, space = load_font(LABEL_SIZE), LABEL_SIZE, 28
    widths = [side + 8 + round(font.getlength(text)) + space for _, text in entries]
    image = Image.new("RGB", (LABEL_WIDTH + GAP + sum(widths), side + 6), PAGE)
    pen = ImageDraw.Draw(image)
    left = LABEL_WIDTH + GAP
    for (name, text), width in zip(entries, widths, strict=True):
        center = left + side // 2
        marks = {
            "given": partial(pen.rectangle, (left, 1, left + side, 1 + side), outline=GIVEN, width=BORDER),
            "seams": partial(pen.rectangle, (center - 1, 0, center + SEAM_WIDTH - 2, side + 2), fill=SEAM),
            "borders": partial(pen.line, (center, 0, center, side + 2), fill=FAINT),
        }
        marks[name]()
        pen.text((left + side + 8, 0), text, fill=INK, font=font)
        left += width
    return image

"""The plan of a generation, before anything is made: which frame is made in which window, from which frames.

A frame is a rank in the plan (see frames.py). Windows are numbered from 1 where people read it, from 0 elsewhere. Knows
no tensor and no video.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import Window
from vidiff_cli.viz.fonts import load_font
from vidiff_cli.viz.picture_files import whole_picture

PAGE, INK, FAINT, GIVEN = (255, 255, 255), (32, 34, 38), (130, 134, 142), (230, 120, 20)
# What a frame is in the row of a window. The highest one is seen where several frames share a pixel.
MISSING, THERE, SEEN, START, COPIED, MADE = range(6)
COLORS = np.array([PAGE, (224, 227, 231), (150, 200, 240), GIVEN, (160, 90, 185), (22, 84, 165)], dtype=np.uint8)
NAMES = {
    START: "given",
    MADE: "made",
    SEEN: "observed, made before",
    COPIED: "repeats a given frame",
    THERE: "there, not observed",
}
WIDE, WIDEST_CELL, GRID_CELL = 1400, 28, 5  # pixels of all columns, of one at most, of one with a line beside it
MARGIN, LABELS, NOTES, TEXT, SMALL_TEXT, TICKS = 20, 108, 150, 14, 11, 56
TALL, LOW, FEW = 22, 11, 30  # pixels of a row where there are up to FEW windows, and where there are more
MOST_ROWS, MOST_LINES = 120, 40  # windows in the picture, and in the terminal; of more the first and the last ones
MOST_RANGES = 6  # in a line of the terminal


def plan_picture(
    path: Path | str,
    windows: Sequence[Window],
    *,
    total: int,
    given: Collection[int],
    times: Sequence[Fraction],
    written: Sequence[int] | None = None,
    copies: Mapping[int, int] | None = None,
    runs: Sequence[range] = (),
) -> Path:
    """Draws the plan and writes the picture (by extension, atomically); returns its path.

    Columns are the `total` frames, shown at `times` (seconds). The first row says what each will be. Below come the
    windows in their order: what each makes and observes, and which of the other frames are there by then. A dot marks
    frames that are observed but not `written`. `runs` are windows (numbers) made as one batch: a bracket joins them. Of
    more than 120 windows the first and the last 60 are drawn.
    """
    path, copies = Path(path), copies or {}
    if total < 1:
        raise VidiffError("there is no plan to draw", found="no frames")
    rows = _ends(len(windows), MOST_ROWS)
    height = TALL if len(rows) <= FEW else LOW
    span, left, top = min(WIDE, total * WIDEST_CELL), MARGIN + LABELS, MARGIN + 2 * TEXT
    first = top + TALL + 18
    bottom = first + len(rows) * (height + 2)
    unwritten = sorted(set(range(total)) - set(range(total) if written is None else written))
    names = [name for kind, name in NAMES.items() if kind != COPIED or copies]
    legend = [
        *names,
        *(["not written"] if unwritten else []),
        *(["one batch"] if any(len(r) > 1 for r in runs) else []),
    ]
    summary = _summary(windows, total, given, written, copies, runs)
    widest = max(span + NOTES, sum(map(_entry_width, legend)), round(load_font(TEXT).getlength(summary)) - LABELS)
    image = Image.new("RGB", (left + widest + MARGIN, bottom + 3 * SMALL_TEXT + 3 * TEXT + MARGIN), PAGE)
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN, MARGIN), summary, fill=INK, font=load_font(TEXT))
    pen.text((MARGIN, top + TALL / 2), "the video", fill=INK, font=load_font(TEXT), anchor="lm")
    becomes = np.full(total, MADE)
    becomes[list(given)], becomes[list(copies)] = START, COPIED
    image.paste(_strip(becomes, span, TALL), (left, top))
    for frame in unwritten:
        _dot(pen, left + (frame + 0.5) * span / total, top + TALL + 6)
    seen_as = np.where(becomes == MADE, SEEN, becomes)
    maker = np.full(total, -1)  # the window that makes each frame; -1 where it is there from the beginning
    for number, window in enumerate(windows):
        maker[list(window.makes)] = number
    for place, number in enumerate(rows):
        y = first + place * (height + 2)
        if number is None:
            text = f"{len(windows) - len(rows) + 1} windows more"
            pen.text((left, y + height / 2), text, fill=FAINT, font=load_font(LOW), anchor="lm")
            continue
        window = windows[number]
        kinds = np.where(maker < number, THERE, MISSING)
        seen = list(window.observed)
        kinds[seen] = seen_as[seen]
        kinds[list(window.makes)] = MADE
        image.paste(_strip(kinds, span, height), (left, y))
        font = load_font(TEXT if height == TALL else LOW - 1)
        note = f"makes {len(window.makes)} from {len(window.observed)}"
        pen.text((MARGIN, y + height / 2), f"window {number + 1}", fill=INK, font=font, anchor="lm")
        pen.text((left + span + 10, y + height / 2), note, fill=FAINT, font=font, anchor="lm")
    for run in runs:
        lines = [first + place * (height + 2) for place, number in enumerate(rows) if number in run]
        if len(lines) > 1:
            _bracket(pen, left - 6, lines[0] + 1, lines[-1] + height - 2)
    _axis(pen, left, bottom + 2, span, times)
    _legend(image, left, image.height - MARGIN - TEXT, legend)
    with whole_picture(path) as temporary:
        image.save(temporary)
    return path


def plan_lines(
    windows: Sequence[Window],
    *,
    total: int,
    given: Collection[int],
    times: Sequence[Fraction],
    written: Sequence[int] | None = None,
    copies: Mapping[int, int] | None = None,
    runs: Sequence[range] = (),
) -> list[str]:
    """The same plan as lines for a terminal: a summary, then one line a window (of more than 40 the ends)."""
    lines = [_summary(windows, total, given, written, copies or {}, runs)]
    batch = {number: place for place, run in enumerate(runs, 1) for number in run if len(run) > 1}
    digits = len(str(len(windows)))
    rows = _ends(len(windows), MOST_LINES)
    for number in rows:
        if number is None:
            lines.append(f"... {len(windows) - len(rows) + 1} windows more ...")
            continue
        window = windows[number]
        made = sorted(window.makes)
        when = f"{float(times[made[0]]):.2f} to {float(times[made[-1]]):.2f} s"
        source = f" from {_ranges(window.observed)}" if window.observed else ""
        together = f", batch {batch[number]}" if number in batch else ""
        lines.append(f"window {number + 1:>{digits}}: makes {_ranges(made)}{source} ({when}{together})")
    return lines


def _summary(
    windows: Sequence[Window],
    total: int,
    given: Collection[int],
    written: Sequence[int] | None,
    copies: Mapping[int, int],
    runs: Sequence[range],
) -> str:
    """For example "24 frames: 8 given, 16 to make in 2 windows"; without windows a model has no part in it."""
    made = sum(len(window.makes) for window in windows) or total - len({*given, *copies})
    how = f"make in {len(windows)} window{'s' * (len(windows) != 1)}" if windows else "estimate"
    parts = [f"{len(set(given))} given", f"{made} to {how}"]
    parts += [f"{len(copies)} that repeat{'s' * (len(copies) == 1)} a given one"] if copies else []
    if written is not None:
        different = len(set(written))
        parts += [f"{total - different} not written"] if different < total else []
        parts += [f"{len(written) - different} held at the end"] if different < len(written) else []
    batches = f" ({len(runs)} batch{'es' * (len(runs) != 1)})" if runs and len(runs) < len(windows) else ""
    return f"{total} frame{'s' * (total != 1)}: {', '.join(parts[:2])}{batches}{''.join(f', {p}' for p in parts[2:])}"


def _ends(count: int, most: int) -> list[int | None]:
    """All numbers below `count`; of more than `most` the first and the last ones, with None between."""
    if count <= most:
        return list(range(count))
    return [*range(most // 2), None, *range(count - most // 2, count)]


def _ranges(frames: Iterable[int]) -> str:
    """Frames in few characters: "0-7, 12, 16-40 by 4"; "..." stands for the rest of a long list."""
    left, parts = sorted(frames), list[str]()
    while left:
        step = left[1] - left[0] if len(left) > 1 else 1
        length = next((n for n in range(1, len(left)) if left[n] - left[n - 1] != step), len(left))
        if step > 1 and length < 3:
            length = 1
        run, left = left[:length], left[length:]
        parts.append(str(run[0]) if length == 1 else f"{run[0]}-{run[-1]}" + (f" by {step}" if step > 1 else ""))
    return ", ".join(parts if len(parts) <= MOST_RANGES else [*parts[: MOST_RANGES - 1], "..."])


def _strip(kinds: np.ndarray, span: int, height: int) -> Image.Image:
    """One row of cells; wide ones have a line between them."""
    total = len(kinds)
    frames = np.arange(span) * total // span  # of every pixel, the first one
    row = COLORS[np.maximum.reduceat(kinds, frames)]
    if span >= total * GRID_CELL:
        row[np.flatnonzero(np.diff(frames, append=total))] = PAGE
    return Image.fromarray(np.tile(row, (height, 1, 1)))


def _dot(pen: ImageDraw.ImageDraw, x: float, y: float) -> None:
    pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=INK)


def _bracket(pen: ImageDraw.ImageDraw, x: int, top: int, bottom: int) -> None:
    pen.line(((x + 3, top), (x, top), (x, bottom), (x + 3, bottom)), fill=INK)


def _axis(pen: ImageDraw.ImageDraw, left: int, top: int, span: int, times: Sequence[Fraction]) -> None:
    """Numbers and seconds of some frames, as many as there is room for."""
    total, font = len(times), load_font(SMALL_TEXT)
    for row, name in enumerate(("frame", "seconds")):
        pen.text((MARGIN, top + 5 + row * (SMALL_TEXT + 3)), name, fill=FAINT, font=font)
    steps = (step * 10**power for power in range(9) for step in (1, 2, 5))
    step = next(step for step in steps if step * span / total >= TICKS)
    for frame in range(0, total, step):
        x = left + (frame + 0.5) * span / total
        pen.line((x, top, x, top + 3), fill=FAINT)
        for row, text in enumerate((str(frame), f"{float(times[frame]):.2f}")):
            pen.text((x, top + 5 + row * (SMALL_TEXT + 3)), text, fill=FAINT, font=font, anchor="ma")


def _entry_width(name: str) -> int:
    return TEXT + 8 + round(load_font(TEXT).getlength(name)) + 22


def _legend(image: Image.Image, left: int, top: int, names: Sequence[str]) -> None:
    """A sample of each mark and what it stands for, in a line."""
    pen, kinds = ImageDraw.Draw(image), {name: kind for kind, name in NAMES.items()}
    for name in names:
        if name in kinds:
            image.paste(_strip(np.array([kinds[name]]), TEXT, TEXT), (left, top))
        elif name == "not written":
            _dot(pen, left + TEXT / 2, top + TEXT / 2)
        else:
            _bracket(pen, left + TEXT // 2, top, top + TEXT)
        pen.text((left + TEXT + 8, top + TEXT / 2), name, fill=INK, font=load_font(TEXT), anchor="lm")
        left += _entry_width(name)

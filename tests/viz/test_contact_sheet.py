"""Contact sheets hold what they were given: every pixel, the border of given frames, labels that are not cut."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import evenly_spaced
from vidiff_cli.viz.contact_sheet import (
    BORDER,
    FAINT,
    GAP,
    GIVEN,
    LABEL_WIDTH,
    MARGIN,
    SEAM,
    SheetRow,
    contact_sheet,
    progress_sheet,
    thin_row,
)
from vidiff_cli.viz.fonts import load_font, wrap

LEFT = MARGIN + LABEL_WIDTH + GAP


def clip(frames: int, side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, side, side, 3)).astype(np.uint8)


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def cell(sheet: np.ndarray, place: int, side: int) -> np.ndarray:
    left, top = LEFT + place * (side + 2 * BORDER + GAP) + BORDER, MARGIN + BORDER
    return sheet[top : top + side, left : left + side]


@pytest.mark.parametrize(("scale", "factor"), [(None, 5), (3, 3)])
def test_small_frames_are_enlarged_without_smoothing(tmp_path: Path, scale: int | None, factor: int) -> None:
    frames = clip(4, 16)
    sheet = opened(contact_sheet([SheetRow(label="noise", frames=frames)], tmp_path / "new" / "sheet.png", scale=scale))
    for place, frame in enumerate(frames):
        assert (cell(sheet, place, 16 * factor) == frame.repeat(factor, 0).repeat(factor, 1)).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sheet.png"]


def test_only_given_frames_have_the_border(tmp_path: Path) -> None:
    sheet = opened(contact_sheet([SheetRow(label="a", frames=clip(4, 16), given=[0, 2])], tmp_path / "sheet.png"))
    for place in range(4):
        x = LEFT + place * (80 + 2 * BORDER + GAP)
        assert (tuple(sheet[MARGIN + 20, x]) == GIVEN) == (place in (0, 2))


def lines(sheet: np.ndarray, color: tuple[int, int, int]) -> list[int]:
    """Columns of the sheet's first row that are of this color from top to bottom."""
    return np.flatnonzero((sheet[MARGIN : MARGIN + 80] == color).all(axis=(0, 2))).tolist()


@pytest.mark.parametrize("given", [range(3), range(3, 6)])
def test_seams_and_window_borders_are_drawn_between_their_frames(tmp_path: Path, given: range) -> None:
    row = SheetRow(label="a", frames=clip(6, 16), given=given, seams=[3], borders=[3, 5])
    sheet = opened(contact_sheet([row], tmp_path / "sheet.png"))
    step = 80 + 2 * BORDER + GAP
    seam, border = lines(sheet, SEAM), lines(sheet, FAINT)
    assert len(seam) == 3 and all(LEFT + 2 * step + 80 + BORDER <= x < LEFT + 3 * step + BORDER for x in seam)
    assert all(tuple(sheet[MARGIN + 20, x]) == (255, 255, 255) for x in (seam[0] - 1, seam[-1] + 1))  # clear of orange
    assert len(border) == 1 and LEFT + 4 * step + 80 + BORDER < border[0] < LEFT + 5 * step + BORDER
    for place, frame in enumerate(row.frames):
        assert (cell(sheet, place, 80) == frame.repeat(5, 0).repeat(5, 1)).all()  # no line covers a picture
        assert (tuple(sheet[MARGIN + 20, LEFT + place * step]) == GIVEN) == (place in given)
    plain = opened(contact_sheet([SheetRow(label="a", frames=row.frames)], tmp_path / "plain.png"))
    assert lines(plain, SEAM) == lines(plain, FAINT) == [] and plain.shape[0] < sheet.shape[0]  # nor a legend


def test_a_thinned_row_shows_both_frames_at_its_seam() -> None:
    for total, seam in ((300, 1), (300, 2), (300, 150), (300, 171), (300, 299), (25, 13)):
        shown = thin_row(evenly_spaced(total, 24), [seam, 299])
        assert {0, seam - 1, seam, total - 1} <= set(shown) and len(shown) == 24 and shown == sorted(set(shown))
    assert thin_row([0, 5, 9, 14], []) == [0, 5, 9, 14] == thin_row([0, 5, 9, 14], [0, 15])


def test_large_frames_are_reduced_and_long_clips_thinned(tmp_path: Path) -> None:
    sheet = opened(contact_sheet([SheetRow(label="long", frames=clip(300, 200))], tmp_path / "sheet.png"))
    assert sheet.shape[1] < 2800 and sheet.shape[0] < 300


def test_rows_of_different_sizes_share_a_sheet(tmp_path: Path) -> None:
    rows = [
        SheetRow(label="small", frames=clip(2, 16)),
        SheetRow(label="wide", frames=np.zeros((3, 40, 70, 3), np.uint8)),
    ]
    assert opened(contact_sheet(rows, tmp_path / "sheet.jpg")).ndim == 3


def test_labels_are_wrapped_and_never_wider_than_their_column() -> None:
    font = load_font(14)
    text = "a small red square moving right slowly in_a_file_with_a_name_that_never_seems_to_end_at_all.mp4 数字"
    lines = wrap(text, font, 150, 20)
    assert all(font.getlength(line) <= 150 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    short = wrap(text, font, 150, 2)
    assert len(short) == 2 and short[-1].endswith("…") and font.getlength(short[-1]) <= 150
    assert wrap("", font, 150, 2) == []


@pytest.mark.parametrize(
    "frames", [np.zeros((0, 4, 4, 3), np.uint8), np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 4, 3), np.float32)]
)
def test_what_is_no_clip_is_a_clear_error(tmp_path: Path, frames: np.ndarray) -> None:
    with pytest.raises(VidiffError, match="'odd' is not a clip"):
        contact_sheet([SheetRow(label="odd", frames=frames)], tmp_path / "sheet.png")
    with pytest.raises(VidiffError, match="at least one row"):
        contact_sheet([], tmp_path / "sheet.png")
    with pytest.raises(VidiffError, match="unsupported picture format"):
        contact_sheet([SheetRow(label="fine", frames=clip(1, 8))], tmp_path / "sheet.txt")
    assert list(tmp_path.iterdir()) == []


# --- one prompt over the steps -----------------------------------------------------------------------------------


def color(value: int, frames: int = 3) -> np.ndarray:
    return np.full((frames, 8, 8, 3), value, np.uint8)


def test_a_progress_sheet_shows_the_first_row_of_every_sheet(tmp_path: Path) -> None:
    """The frames of the first prompts, in order, untouched; however long the labels on the sheets were."""
    sheets = []
    for step, value in ((0, 40), (10, 120), (20, 200)):
        rows = [
            SheetRow(label="a very long label " * 9, frames=color(value)),
            SheetRow(label="other", frames=color(255 - value)),
        ]
        sheets.append((f"step {step}", contact_sheet(rows, tmp_path / f"step-{step}.png")))
    path = progress_sheet(sheets, tmp_path / "progress.png", title="a prompt")
    assert path is not None
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert Image.open(path).width == Image.open(sheets[0][1]).width  # without the labels of the sheets
    gray = (pixels == pixels[..., :1]).all(axis=-1)
    found = [value for value in (40, 120, 200) if (gray & (pixels[..., 0] == value)).sum() >= 3 * 80 * 80]
    assert found == [40, 120, 200]
    tops = [int(np.argwhere(gray & (pixels[..., 0] == value))[:, 0].min()) for value in found]
    assert tops == sorted(tops) and len(set(tops)) == 3
    for value in (255 - 40, 255 - 120, 255 - 200):
        assert (gray & (pixels[..., 0] == value)).sum() < 100


def test_a_progress_sheet_of_many_shows_the_first_and_the_last(tmp_path: Path) -> None:
    sheets = [
        (f"step {n}", contact_sheet([SheetRow(label="", frames=color(n + 60, 1))], tmp_path / f"{n}.png"))
        for n in range(40)
    ]
    path = progress_sheet(sheets, tmp_path / "progress.png", title="")
    assert path is not None
    shown = {value for value in range(60, 100) if (np.asarray(Image.open(path)) == value).all(axis=-1).sum() >= 6400}
    assert len(shown) == 24 and {60, 99} <= shown


def test_sheets_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    good = contact_sheet([SheetRow(label="", frames=color(90))], tmp_path / "good.png")
    (tmp_path / "half.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (300, 300)).save(tmp_path / "foreign.png")
    others = [(name, tmp_path / f"{name}.png") for name in ("half", "text", "foreign", "missing")]
    assert progress_sheet(others, tmp_path / "out.png", title="x") is None and not (tmp_path / "out.png").exists()
    with_good = progress_sheet([*others, ("good", good)], tmp_path / "out.png", title="x")
    alone = progress_sheet([("good", good)], tmp_path / "alone.png", title="x")
    assert with_good is not None and alone is not None and with_good.read_bytes() == alone.read_bytes()

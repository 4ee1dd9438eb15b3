"""Contact sheets hold what they were given: every pixel, the border of given frames, labels that are not cut."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import noise, pixels
from PIL import Image

from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import evenly_spaced
from vidiff_cli.viz import contact_sheet as module
from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet, progress_sheet, thin_row
from vidiff_cli.viz.fonts import load_font, wrap

LEFT = module.MARGIN + module.LABEL_WIDTH + module.GAP
TOP = module.MARGIN


def cell(sheet: np.ndarray, place: int, side: int) -> np.ndarray:
    left, top = LEFT + place * (side + 2 * module.BORDER + module.GAP) + module.BORDER, TOP + module.BORDER
    return sheet[top : top + side, left : left + side]


@pytest.mark.parametrize(("scale", "factor"), [(None, 5), (3, 3)])
def test_small_frames_are_enlarged_without_smoothing(tmp_path, scale, factor):
    frames = noise(4, 16)
    sheet = pixels(contact_sheet([SheetRow(label="noise", frames=frames)], tmp_path / "new" / "sheet.png", scale=scale))
    for place, frame in enumerate(frames):
        assert (cell(sheet, place, 16 * factor) == frame.repeat(factor, 0).repeat(factor, 1)).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sheet.png"]


def lines(sheet: np.ndarray, color: tuple[int, int, int]) -> list[int]:
    """Columns of the sheet's first row that are of this color from top to bottom."""
    return np.flatnonzero((sheet[TOP : TOP + 80] == color).all(axis=(0, 2))).tolist()


@pytest.mark.parametrize("given", [range(3), [3, 5]])
def test_given_frames_seams_and_window_borders_are_marked_between_the_frames(tmp_path, given):
    row = SheetRow(label="a", frames=noise(6, 16), given=given, seams=[3], borders=[3, 5])
    sheet = pixels(contact_sheet([row], tmp_path / "sheet.png"))
    step = 80 + 2 * module.BORDER + module.GAP
    seam, border = lines(sheet, module.SEAM), lines(sheet, module.FAINT)
    assert len(seam) == 3 and all(LEFT + 2 * step + 80 < x - module.BORDER < LEFT + 3 * step for x in seam)
    assert all(tuple(sheet[TOP + 20, x]) == (255, 255, 255) for x in (seam[0] - 1, seam[-1] + 1))  # clear of orange
    assert len(border) == 1 and LEFT + 4 * step + 80 + module.BORDER < border[0] < LEFT + 5 * step + module.BORDER
    for place, frame in enumerate(row.frames):
        assert (cell(sheet, place, 80) == frame.repeat(5, 0).repeat(5, 1)).all()  # no line covers a picture
        assert (tuple(sheet[TOP + 20, LEFT + place * step]) == module.GIVEN) == (place in given)
    plain = pixels(contact_sheet([SheetRow(label="a", frames=row.frames)], tmp_path / "plain.png"))
    assert lines(plain, module.SEAM) == lines(plain, module.FAINT) == []
    assert plain.shape[0] < sheet.shape[0], "no legend either"


def test_a_thinned_row_shows_both_frames_at_its_seam():
    for total, seam in ((300, 1), (300, 150), (300, 299), (25, 13)):
        shown = thin_row(evenly_spaced(total, 24), [seam, 299])
        assert {0, seam - 1, seam, total - 1} <= set(shown) and len(shown) == 24 and shown == sorted(set(shown))
    assert thin_row([0, 5, 9, 14], []) == [0, 5, 9, 14] == thin_row([0, 5, 9, 14], [0, 15])


def test_large_frames_are_reduced_long_clips_thinned_and_sizes_mixed(tmp_path):
    rows = [SheetRow(label="long", frames=noise(300, 200)), SheetRow(label="small", frames=noise(2, 16))]
    height, width, _ = pixels(contact_sheet(rows, tmp_path / "sheet.jpg")).shape
    assert width < 2800 and height < 500


def test_labels_are_wrapped_and_never_wider_than_their_column():
    font = load_font(14)
    text = "a small red square moving right slowly in_a_file_with_a_name_that_never_seems_to_end_at_all.mp4 数字"
    wrapped = wrap(text, font, 150, 20)
    assert all(font.getlength(line) <= 150 for line in wrapped)
    assert "".join(wrapped).replace(" ", "") == text.replace(" ", "")
    short = wrap(text, font, 150, 2)
    assert len(short) == 2 and short[-1].endswith("…") and font.getlength(short[-1]) <= 150


def test_what_is_no_clip_is_a_clear_error(tmp_path):
    def refused(said, rows, name="sheet.png"):
        with pytest.raises(VidiffError, match=said):
            contact_sheet(rows, tmp_path / name)

    for shape, dtype in (((0, 4, 4, 3), np.uint8), ((2, 4, 4), np.uint8), ((2, 4, 4, 3), np.float32)):
        refused("'odd' is not a clip", [SheetRow(label="odd", frames=np.zeros(shape, dtype))])
    refused("at least one row", [])
    refused("unsupported picture format", [SheetRow(label="fine", frames=noise(1, 8))], "sheet.txt")
    assert list(tmp_path.iterdir()) == []


# --- one prompt over the steps -----------------------------------------------------------------------------------


def gray(value: int, frames: int = 3) -> np.ndarray:
    return np.full((frames, 8, 8, 3), value, np.uint8)


def test_a_progress_sheet_shows_the_first_row_of_every_sheet_in_order(tmp_path):
    sheets, values = [], (40, 120, 200)
    for step, value in enumerate(values):
        rows = [
            SheetRow(label="a very long label " * 9, frames=gray(value)),
            SheetRow(label="b", frames=gray(255 - value)),
        ]
        sheets.append((f"step {step}", contact_sheet(rows, tmp_path / f"step-{step}.png")))
    shown = pixels(progress_sheet(sheets, tmp_path / "progress.png", title="a prompt"))
    assert shown.shape[1] == pixels(sheets[0][1]).shape[1]  # without the labels of the sheets
    areas = [np.argwhere((shown == value).all(axis=-1)) for value in values]
    assert all(len(area) >= 3 * 80 * 80 for area in areas)
    tops = [int(area[:, 0].min()) for area in areas]
    assert tops == sorted(tops) and len(set(tops)) == 3
    assert all((shown == 255 - value).all(axis=-1).sum() < 100 for value in values)


def test_a_progress_sheet_of_many_shows_the_first_and_the_last(tmp_path):
    rows = [[SheetRow(label="", frames=gray(n + 60, 1))] for n in range(40)]
    sheets = [(f"step {n}", contact_sheet(row, tmp_path / f"{n}.png")) for n, row in enumerate(rows)]
    page = pixels(progress_sheet(sheets, tmp_path / "progress.png", title=""))
    shown = {value for value in range(60, 100) if (page == value).all(axis=-1).sum() >= 6400}
    assert len(shown) == 24 and {60, 99} <= shown


def test_sheets_that_cannot_be_read_are_left_out(tmp_path):
    good = contact_sheet([SheetRow(label="", frames=gray(90))], tmp_path / "good.png")
    (tmp_path / "half.png").write_bytes(good.read_bytes()[:60])
    Image.new("RGB", (300, 300)).save(tmp_path / "foreign.png")
    others = [(name, tmp_path / f"{name}.png") for name in ("half", "foreign", "missing")]
    assert progress_sheet(others, tmp_path / "out.png", title="x") is None and not (tmp_path / "out.png").exists()
    with_good = progress_sheet([*others, ("good", good)], tmp_path / "out.png", title="x")
    alone = progress_sheet([("good", good)], tmp_path / "alone.png", title="x")
    assert with_good.read_bytes() == alone.read_bytes()

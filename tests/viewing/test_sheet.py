"""Contact sheets hold what they were given: every pixel, the border of given frames, labels that are not cut."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidiff_cli.errors import VidiffError
from vidiff_cli.viewing.sheet import BORDER, GAP, GIVEN, LABEL_WIDTH, MARGIN, Row, _evenly, _font, _wrap, contact_sheet

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
    sheet = opened(contact_sheet([Row(label="noise", frames=frames)], tmp_path / "new" / "sheet.png", scale=scale))
    for place, frame in enumerate(frames):
        assert (cell(sheet, place, 16 * factor) == frame.repeat(factor, 0).repeat(factor, 1)).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sheet.png"]


def test_only_given_frames_have_the_border(tmp_path: Path) -> None:
    sheet = opened(contact_sheet([Row(label="a", frames=clip(4, 16), given=[0, 2])], tmp_path / "sheet.png"))
    for place in range(4):
        x = LEFT + place * (80 + 2 * BORDER + GAP)
        assert (tuple(sheet[MARGIN + 20, x]) == GIVEN) == (place in (0, 2))


def test_large_frames_are_reduced_and_long_clips_thinned(tmp_path: Path) -> None:
    sheet = opened(contact_sheet([Row(label="long", frames=clip(300, 200))], tmp_path / "sheet.png"))
    assert sheet.shape[1] < 2800 and sheet.shape[0] < 300
    assert _evenly(300, 24)[0] == 0 and _evenly(300, 24)[-1] == 299 and len(set(_evenly(300, 24))) == 24
    assert _evenly(5, 24) == [0, 1, 2, 3, 4]


def test_rows_of_different_sizes_share_a_sheet(tmp_path: Path) -> None:
    rows = [Row(label="small", frames=clip(2, 16)), Row(label="wide", frames=np.zeros((3, 40, 70, 3), np.uint8))]
    assert opened(contact_sheet(rows, tmp_path / "sheet.jpg")).ndim == 3


def test_labels_are_wrapped_and_never_wider_than_their_column() -> None:
    font = _font(14)
    text = "a small red square moving right slowly in_a_file_with_a_name_that_never_seems_to_end_at_all.mp4 数字"
    lines = _wrap(text, font, 150, 20)
    assert all(font.getlength(line) <= 150 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    short = _wrap(text, font, 150, 2)
    assert len(short) == 2 and short[-1].endswith("…") and font.getlength(short[-1]) <= 150
    assert _wrap("", font, 150, 2) == []


@pytest.mark.parametrize(
    "frames", [np.zeros((0, 4, 4, 3), np.uint8), np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 4, 3), np.float32)]
)
def test_what_is_no_clip_is_a_clear_error(tmp_path: Path, frames: np.ndarray) -> None:
    with pytest.raises(VidiffError, match="'odd' is not a clip"):
        contact_sheet([Row(label="odd", frames=frames)], tmp_path / "sheet.png")
    with pytest.raises(VidiffError, match="at least one row"):
        contact_sheet([], tmp_path / "sheet.png")
    with pytest.raises(VidiffError, match="no name for a picture"):
        contact_sheet([Row(label="fine", frames=clip(1, 8))], tmp_path / "sheet.txt")
    assert list(tmp_path.iterdir()) == []

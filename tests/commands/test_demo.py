"""What the demo measures of a person's own clips: the true frames, the simple ways, losses first."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidiff_cli.metrics.fidelity import psnr
from vidiff_cli.video import decode, encode

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def film(path: Path, *, count: int = 40, width: int = 48, height: int = 32, step: int = 5) -> Path:
    """A film at 24 fps that grows lighter by `step` levels a frame."""
    frames = (np.arange(count)[:, None, None, None] * step % 200 + np.arange(width)[:, None]).astype(np.uint8)
    encode(path, np.broadcast_to(frames, (count, height, width, 3)), Fraction(24), lossless=True)
    return path


@pytest.mark.parametrize(("start", "count", "wanted"), [(0.0, 5, 5), (0.5, 6, 6), (1.0, 30, 8)])
def test_a_piece_is_what_the_film_shows_then(tmp_path: Path, start: float, count: int, wanted: int) -> None:
    """Every second frame at half the rate, from the place that was asked for to the end at most."""
    from clips_report import cut

    source, target = film(tmp_path / "film.mkv"), tmp_path / "piece.mkv"
    cut(source, start, count, target, side=100, fps=Fraction(12))
    piece, whole = decode(target), decode(source).frames
    first = round(start * 24)
    assert piece.fps == 12 and (piece.frames == whole[first::2][:wanted]).all()
    cut(source, start, count, target.with_name("square.mkv"), side=16, fps=Fraction(12), square=True)
    assert decode(target.with_name("square.mkv")).frames.shape == (wanted, 16, 16, 3)


def test_the_table(run: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Freezing and blending are what they say of the true frames, a loss is told as one, and the worst comes first."""
    from clips_report import EXACT, measure

    monkeypatch.setitem(EXACT, "steps", 2)
    files = [(f"film {step}", film(tmp_path / f"{step}.mkv", count=8, width=32, step=step)) for step in (9, 2)]
    files.append(("too short", film(tmp_path / "short.mkv", count=3, width=32)))
    found = measure(run, files, tmp_path / "sheets")
    told = capsys.readouterr().err
    for kind, rival in (("extension", "freezing"), ("in_betweens", "blending")):
        clips = found[kind]["clips"]
        assert {clip["clip"] for clip in clips} == {"film 9", "film 2"} and Path(found[kind]["sheet"]).is_file()
        assert [clip["ahead_db"] for clip in clips] == sorted(clip["ahead_db"] for clip in clips)
        for clip in clips:
            assert clip["ahead_db"] == pytest.approx(clip["ours_db"] - clip[f"{rival}_db"])
            truth = decode(dict(files)[clip["clip"]], size=(clip["width"], clip["height"])).frames
            assert clip[f"{rival}_db"] == pytest.approx(simply(kind, truth), abs=1e-6)
        losses = sum(clip["ahead_db"] < 0 for clip in clips)
        assert f"behind {rival} in {losses} of 2" in told
    assert json.loads(json.dumps(found)) == found and "too short" not in told


def simply(kind: str, truth: np.ndarray) -> float:
    """PSNR of freezing the fourth of eight frames, or of the mean of the two neighbors, halves up."""
    if kind == "extension":
        made, true = np.repeat(truth[3:4], 4, axis=0), truth[4:]
    else:
        made, true = ((truth[0:5:2].astype(int) + truth[2:7:2] + 1) // 2).astype(np.uint8), truth[1:6:2]
    return min(100.0, float(-10 * np.log10(max(np.mean(10 ** (-psnr(made, true) / 10)), 1e-99))))


def test_held_out_clips_are_taken_and_else_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from demo import _own_clips

    for name in ("a.mp4", "b.mp4", "photo.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "pictures").mkdir()

    def row(source: str, split: str, frames: int = 16) -> dict[str, Any]:
        return {"source": source, "split": split, "frames": frames, "start_seconds": 1.25}

    rows = [row("a.mp4", "train"), row("b.mp4", "val"), row("photo.png", "val", 1), row("pictures", "val")]
    assert [path.name for _, path in _own_clips(rows, tmp_path)] == ["b.mp4"]
    assert capsys.readouterr().err == ""
    rows[1]["split"] = "train"
    assert [path.name for _, path in _own_clips(rows, tmp_path)] == ["a.mp4"]
    assert "a.mp4 at 1.2 s, which the model was trained on" in capsys.readouterr().err
    assert _own_clips(rows[2:], tmp_path) == []

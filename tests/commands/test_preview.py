"""What a preview shows is what is there: the right frames, the right words, and a reason where there is nothing."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from vidiff_cli.commands.preview import PreviewReport, entries, preview
from vidiff_cli.commands.preview.entries import LONGEST_SECONDS, sample_frames
from vidiff_cli.commands.sample import sample
from vidiff_cli.config.preview import COUNTS, PreviewSettings
from vidiff_cli.dataset.dataset import open_dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Note
from vidiff_cli.video.decode import DecodedVideo
from vidiff_cli.video.encode import encode
from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet

Told = Callable[[EventStream[Any]], tuple[Any, list[Note]]]


def look(path: Path, **more: Any) -> PreviewReport:
    return preview(PreviewSettings.model_validate({"path": path} | more))


def test_clips_of_a_dataset_have_their_frames_captions_and_scores(dataset: Path) -> None:
    stored, report = open_dataset(dataset), look(dataset, count=4, frames=3)
    assert (report.kind, report.total, len(report.entries)) == ("dataset", len(stored), 4)
    for place, (entry, strip) in enumerate(zip(report.entries, report.strips, strict=True)):
        index = place * len(stored) // 4
        clip, frames = stored.clips[index], stored.frames(index)
        assert entry.prompt == " / ".join(clip.captions) and clip.source in entry.name
        assert (entry.width, entry.height, entry.frames, entry.fps) == (16, 16, 8, "8")
        assert entry.scores == pytest.approx(clip.scores) and entry.facts["split"] == clip.split
        assert strip is not None and (strip == frames[[0, 4, 7]]).all()


def test_only_what_is_picked_is_opened(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evenly, or at random by a seed."""
    opened, kept = list[int](), entries._clip
    monkeypatch.setattr(
        entries, "_clip", lambda stored, number, *rest: opened.append(number) or kept(stored, number, *rest)
    )
    look(dataset, count=2)
    assert opened == [0, len(open_dataset(dataset)) // 2]
    names = [tuple(entry.name for entry in look(dataset, count=3, seed=seed).entries) for seed in (1, 1, 2, 3)]
    assert names[0] == names[1] and len({*names}) > 1 and all(len({*each}) == 3 for each in names)


def test_sorting_puts_what_lacks_the_value_last_and_names_what_is_known(dataset: Path, tmp_path: Path) -> None:
    motions = [entry.scores["motion"] for entry in look(dataset, sort="motion").entries]
    assert motions == sorted(motions) and len(motions) == COUNTS["terminal"]
    with pytest.raises(VidiffError, match=r"unknown key to sort by: found speed, expected name, prompt, .*motion"):
        look(dataset, sort="speed")
    for name in ("a.mp4", "b.mp4"):
        encode(tmp_path / name, np.zeros((2, 16, 16, 3), np.uint8), Fraction(8))
    (tmp_path / "b.txt").write_text("only this has words")
    assert [entry.name for entry in look(tmp_path, sort="prompt").entries] == ["b.mp4", "a.mp4"]


def test_a_gallery_keeps_to_its_size_and_says_what_it_left_out(dataset: Path, tmp_path: Path, told: Told) -> None:
    whole = look(dataset, output=tmp_path / "whole.html")
    assert whole.left_out == 0 and whole.bytes == (tmp_path / "whole.html").stat().st_size
    half = PreviewSettings(path=dataset, output=tmp_path / "half.html", megabytes=whole.bytes / 4e6)
    report, notes = told(preview.events(half))
    assert 0 < report.left_out == len(whole.entries) - len(report.entries)
    warned = [note.text for note in notes if note.level == "warning"]
    assert len(warned) == 1 and warned[0].startswith(f"{report.left_out} left out: a gallery may have")
    page = (tmp_path / "half.html").read_text(encoding="utf-8")
    assert f"<p>{report.left_out} left out: a gallery may have" in page and page.count("<li ") == len(report.entries)
    with pytest.raises(VidiffError, match="nothing fits"):
        look(dataset, output=tmp_path / "none.html", megabytes=1e-4)


def test_results_tell_how_they_were_made(settings: Callable[..., Any], tmp_path: Path) -> None:
    sample(settings("sample", prompts=("a red square", "<b>blue</b>"), output=tmp_path / "out", compare=True))
    sample(settings("sample", prompts=("frames",), output=tmp_path / "out" / "frames", num_frames=8, seed=9))
    report = look(tmp_path / "out")
    told = {entry.prompt: entry for entry in report.entries}
    assert told.keys() == {"a red square", "<b>blue</b>", "frames"}, "and no sheet beside a video"
    assert [told[prompt].seed for prompt in ("a red square", "<b>blue</b>", "frames")] == [3, 4, 9]
    entry = told["frames"]
    assert entry.facts["sampler"] == "dpmpp-2m" and entry.facts["steps"] == "2" and entry.facts["checkpoint"]
    assert (entry.name, entry.frames, entry.fps) == ("frames", 8, "8")
    page = look(tmp_path / "out", output=tmp_path / "gallery.html").output
    assert page is not None and "&lt;b&gt;blue&lt;/b&gt;" in page.read_text() and "<b>" not in page.read_text()


def test_what_a_sidecar_says_is_never_trusted(clip) -> None:
    path = clip(3, name="clip.mp4")
    sound = {"command": "sample", "settings": {"prompt": [1, None], "sampler": ["x"]}, "seed": "three"}
    sound |= {"checkpoint": {"path": 5, "sha256": 6}, "versions": {}}
    for wrong, scores in (
        ({"seam_jump": "x"}, {}),
        ({"seam_jump": [1, math.nan, True, "2", 1.5], "fps": [1]}, {"seam jump": 1.5}),
        ({"prompt": {"a": 1}, "fps": "1/0"}, {}),
    ):
        path.with_suffix(".json").write_text(json.dumps(sound | wrong))
        entry = look(path).entries[0]
        assert entry.seed is None and entry.fps == "8" and set(entry.facts) == {"made by"} and entry.scores == scores


def test_a_broken_video_is_an_entry_with_a_reason(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "broken.mp4").write_bytes(b"this is no video")
    (folder / "empty.mp4").touch()
    whole = tmp_path / "whole.mp4"
    encode(whole, np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3)).astype(np.uint8), Fraction(10))
    (folder / "cut.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    shutil.copy(whole, folder / "whole.mp4")
    report = look(folder)
    problems = {entry.name: entry.problem for entry in report.entries}
    assert problems["whole.mp4"] is None and all(problems[name] for name in ("broken.mp4", "empty.mp4", "cut.mp4"))
    assert str(folder) not in "".join(filter(None, problems.values())), "names, not places on a disk"
    seen = {entry.name: strip is not None for entry, strip in zip(report.entries, report.strips, strict=True)}
    assert seen == {"broken.mp4": False, "empty.mp4": False, "cut.mp4": True, "whole.mp4": True}
    for output in (tmp_path / "sheet.png", tmp_path / "gallery.html"):
        assert len(look(folder, output=output).entries) == 4 and output.stat().st_size > 1000


def test_of_a_long_video_the_beginning_is_shown(tmp_path: Path) -> None:
    dark = np.zeros((16, 16, 3), np.uint8)
    encode(tmp_path / "long.mp4", (dark + (number > LONGEST_SECONDS) * 255 for number in range(90)), Fraction(1))
    report = look(tmp_path / "long.mp4", output=tmp_path / "gallery.html")
    assert report.entries[0].frames is None and report.entries[0].facts["looked at"] == f"its first {LONGEST_SECONDS} s"
    strip = look(tmp_path / "long.mp4").strips[0]
    assert strip is not None and strip.max() < 100


@given(count=st.integers(1, 400), most=st.integers(1, 24), block=st.integers(1, 64))
@hypothesis_settings(max_examples=60, deadline=None)
def test_frames_are_evenly_spread_over_a_video_of_any_length(count: int, most: int, block: int) -> None:
    """A second reading begins anew."""
    frames = np.arange(count)[:, None, None, None].repeat(3, 3)

    def reading() -> Any:
        blocks = (([Fraction(0)], frames[first : first + block]) for first in range(0, count, block))
        return DecodedVideo(info=None, decoder="", fps=Fraction(1), blocks=blocks)  # type: ignore[arg-type]

    shown, numbers, total, damage = sample_frames([reading(), reading()], most)
    assert (total, damage, len(numbers)) == (count, None, min(count, most))
    assert [int(frame[0, 0, 0]) for frame in shown] == list(numbers) and numbers[0] == 0
    gaps = np.diff([*numbers, count])
    assert (gaps > 0).all()
    if most > 1 and count > most:
        assert gaps.max() <= 4 * count / most + 1, "no large part is left out"


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    """A run folder with sheets of two steps, a loss plot, and rows of which the last is being written."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    for step, value in ((0, 40), (250, 90), (1000, 200)):
        row = SheetRow(label="a prompt", frames=np.full((4, 16, 16, 3), value, np.uint8))
        contact_sheet([row], run / "samples" / f"step-{step:06d}.png")
    Image.new("RGB", (300, 200), (1, 2, 3)).save(run / "loss.png")
    train = {"preset": "tiny", "steps": 2000, "dataset": "data", "batch_size": 8}
    config = {"train": train, "model": {"frames": 8, "width": 16, "height": 16}}
    (run / "config.json").write_text(json.dumps(config))
    rows = '{"step": 990, "loss": 0.5}\n{"step": 1000, "validation_loss": 0.25}\n{"step": 1010, "lo'
    (run / "metrics.jsonl").write_text(rows)
    return run


def test_a_run_shows_its_newest_sheets_first_and_what_it_says_of_itself(watched: Path, tmp_path: Path) -> None:
    report = look(watched, output=tmp_path / "gallery.html")
    names = ["loss.png", *(f"samples/step-{step:06d}.png" for step in (1000, 250, 0))]
    assert report.kind == "run" and [entry.name for entry in report.entries] == names
    facts = {"preset": "tiny", "dataset": "data", "steps": "2000", "batch size": "8", "makes": "8 frames of 16x16"}
    assert report.facts == facts | {"steps made": "1000", "loss": "0.5", "held-out loss": "0.25"}
    assert [entry.scores for entry in report.entries] == [{}, {"step": 1000.0}, {"step": 250.0}, {"step": 0.0}]
    shutil.rmtree(watched / "samples")
    (watched / "loss.png").unlink()
    with pytest.raises(VidiffError, match="has no sheets or plots yet"):
        look(watched)


def test_the_sheet_of_a_run_goes_over_its_steps(watched: Path, tmp_path: Path) -> None:
    look(watched, output=tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        colors = [value for _, value in picture.convert("L").getcolors() or [] if value in (40, 90, 200)]
        column = np.asarray(picture.convert("L"))[:, 240]
    assert sorted(colors) == [40, 90, 200]
    runs = [(value, len(list(equal))) for value, equal in groupby(column.tolist())]
    assert [value for value, length in runs if value in (40, 90, 200) and length > 9] == [40, 90, 200]  # no lettering


def test_what_cannot_be_shown_or_written_is_one_sentence(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "there.png").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.html").mkdir()
    refused: list[tuple[dict[str, Any], str]] = [
        ({"path": tmp_path / "none"}, "does not exist: expected a dataset, a run"),
        ({"path": tmp_path / "empty"}, "no video or image in"),
        ({"path": tmp_path / "notes.txt"}, "cannot be previewed: found a .txt file"),
        ({"output": tmp_path / "there.png"}, "exists; choose another name, or pass --overwrite"),
        ({"output": tmp_path / "folder.html"}, "is a folder"),
        ({"output": tmp_path / "a.pdf"}, r"unsupported name of a preview: found a.pdf, expected .*\.png.*\.html"),
    ]
    before = sorted(tmp_path.rglob("*"))
    for more, sentence in refused:
        with pytest.raises(VidiffError, match=sentence) as caught:
            look(more.pop("path", dataset), **more)
        assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
    look(dataset, output=tmp_path / "there.png", overwrite=True)
    assert (tmp_path / "there.png").stat().st_size > 1000

from __future__ import annotations

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import content
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from vidiff_cli.commands.prep import prep
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.dataset.dataset import open_dataset, read_rows
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Note
from vidiff_cli.preparation import decode as prep_decode
from vidiff_cli.preparation import extract as extract_module
from vidiff_cli.preparation.extract import ClipSpec, ExtractJob, clip_starts
from vidiff_cli.preparation.scan import scan
from vidiff_cli.preparation.selection import spread_evenly
from vidiff_cli.system.worker_pool import CRASHED, TOO_LONG, Outcome

MakeClip = Callable[..., Path]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, make_clip):
    """Eight sources of every kind, of which four can be kept, and five other files."""
    folder = tmp_path_factory.mktemp("mixed")
    make_clip(folder / "a.mp4", frames=20)
    make_clip(folder / "b short.mp4", frames=5)
    make_clip(folder / "-c.mkv", frames=12)
    make_clip(folder / "sub" / "d.webm", frames=9, size="32x48")
    Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save(folder / "e.png")
    (folder / "f broken.mp4").write_bytes((folder / "a.mp4").read_bytes()[:400])
    (folder / "g empty.mp4").write_bytes(b"")
    (folder / "h text.mp4").write_text("not a video")
    for name in ("a", "b short", "-c", "e"):
        (folder / f"{name}.txt").write_text(f"caption of {name}\n")
    (folder / "notes.md").write_text("x")
    return folder


def settings(source: Path, output: Path, **more: Any) -> PrepSettings:
    standard: dict[str, Any] = {"size": 16, "frames": 8, "preview": 0, "workers": 2}
    standard |= {"min_contrast": 0, "min_difference": 0}  # all videos here show the same, and the picture is plain
    return PrepSettings.model_validate({"sources": (str(source),), "output": output, **standard, **more})


@pytest.fixture(scope="module")
def prepared(mixed, tmp_path_factory):
    """What prep says and makes of `mixed`; copy the folder before a change."""
    folder = tmp_path_factory.mktemp("prepared") / "out"
    return prep(settings(mixed, folder)), folder


def ledger(folder: Path) -> dict[str, dict[str, Any]]:
    rows = list(read_rows(folder / "ledger.jsonl"))
    by_name = {row["source"]: row for row in rows}
    assert len(by_name) == len(rows)
    return by_name


def test_every_source_is_accounted_for_once_and_captions_never_shift(mixed, prepared):
    report, folder = prepared
    rows = ledger(folder)
    media = {".mp4", ".mkv", ".webm", ".png"}
    assert set(rows) == {str(path.relative_to(mixed)) for path in mixed.rglob("*") if path.suffix in media}
    kept = {name for name, row in rows.items() if row["status"] == "kept"}
    assert kept == {"a.mp4", "-c.mkv", "sub/d.webm", "e.png"}
    assert rows["b short.mp4"]["reason"] == "too short: 5 frames at 10 fps, 8 needed"
    assert all(row["reason"] for name, row in rows.items() if name not in kept)
    assert (report.sources, report.kept, sum(report.rejected.values()), report.other_files) == (8, 4, 4, 5)
    assert (report.captions_matched, report.captions_missing) == (3, 1)
    assert rows["a.mp4"]["clips"] == 2
    assert report.seconds_of_video == pytest.approx(0.1 * 8 * 4)

    dataset = open_dataset(folder)
    assert {clip.source for clip in dataset.clips} == kept
    for clip in dataset.clips:
        expected = [] if clip.source.startswith("sub") else [f"caption of {clip.source.partition('.')[0]}"]
        assert clip.captions == expected
        assert (clip.fps, clip.frames) == (("0", 1) if clip.source == "e.png" else ("10", 8))
    assert [clip.start_seconds for clip in dataset.clips if clip.source == "a.mp4"] == [0.0, 0.8]
    image = next(index for index, clip in enumerate(dataset.clips) if clip.source == "e.png")
    np.testing.assert_array_equal(dataset.frames(image), np.full((1, 16, 16, 3), 200))
    assert not (folder / ".journal").exists()
    assert report.clips == len(dataset) == 5
    assert report.clips_per_split["val"] > 0


def test_interrupted_and_uninterrupted_runs_give_the_same_bytes(mixed, prepared, tmp_path, monkeypatch):
    asked: list[str] = []
    real = prep_decode.worker_pool.run

    def counting(function: Any, jobs: Any, **more: Any) -> Any:
        for outcome in real(function, jobs, **more):
            asked.append(outcome.job.source.name)
            yield outcome

    monkeypatch.setattr(prep_decode.worker_pool, "run", counting)
    steps = prep.events(settings(mixed, tmp_path / "halves", workers=1))
    while len(asked) < 3:
        next(steps)
    with pytest.raises(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt())
    assert not (tmp_path / "halves" / "dataset.json").exists()
    with pytest.raises(VidiffError, match="unfinished"):
        open_dataset(tmp_path / "halves")
    finished = len(list((tmp_path / "halves" / ".journal").rglob("*.safetensors")))
    report = prep(settings(mixed, tmp_path / "halves", workers=3))
    assert report.resumed == finished >= 3
    assert len(asked) == 8 - finished + 3 and len(set(asked[3:])) == len(asked) - 3, "no source is decoded twice"
    assert content(tmp_path / "halves") == content(prepared[1])


@pytest.mark.parametrize("step", ["write_shards", "write_spec"])
def test_an_interruption_while_writing_is_made_good(mixed, tmp_path, monkeypatch, step):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"vidiff_cli.preparation.write_dataset.{step}", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prep(settings(mixed / "a.mp4", tmp_path / "out"))
    assert not (tmp_path / "out" / "dataset.json").exists()
    assert prep(settings(mixed / "a.mp4", tmp_path / "out")).resumed == 1
    assert len(open_dataset(tmp_path / "out")) == 2


def test_a_complete_dataset_is_left_alone(mixed, prepared, tmp_path, monkeypatch):
    first, before = prepared[0], content(shutil.copytree(prepared[1], tmp_path / "out"))
    with monkeypatch.context() as patch:
        patch.setattr(prep_decode.worker_pool, "run", None)
        notes = [event.text for event in prep.events(settings(mixed, tmp_path / "out")) if isinstance(event, Note)]
        again = prep(settings(mixed, tmp_path / "out", workers=1))
    assert any(note.startswith("Nothing to do") for note in notes)
    assert again.already_complete
    assert (again.clips, again.rejected, again.sources) == (first.clips, first.rejected, first.sources)
    assert content(tmp_path / "out") == before
    with pytest.raises(VidiffError, match=r"other settings: found frames = 8 there, expected 4; .*--overwrite"):
        prep(settings(mixed, tmp_path / "out", frames=4))
    with pytest.raises(VidiffError, match=r"other sources or captions.*--overwrite"):
        prep(settings(mixed / "a.mp4", tmp_path / "out"))
    with pytest.raises(VidiffError, match="other sources or captions"):
        prep(settings(mixed, tmp_path / "out", captions="none"))
    with pytest.raises(VidiffError, match="no clip is left"):  # it stays until the new one is decoded
        prep(settings(mixed / "a.mp4", tmp_path / "out", frames=500, overwrite=True))
    assert content(tmp_path / "out") == before
    prep(settings(mixed / "a.mp4", tmp_path / "out", frames=4, overwrite=True))
    assert open_dataset(tmp_path / "out").spec.frames == 4


def test_other_folders_are_never_touched(mixed, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(VidiffError, match=r"not empty and does not contain a dataset: found thesis\.tex"):
            prep(settings(mixed, tmp_path / "mine", overwrite=overwrite))
    assert content(tmp_path / "mine") == {"thesis.tex": b"years of work"}
    with pytest.raises(VidiffError, match="is a file"):
        prep(settings(mixed, tmp_path / "mine" / "thesis.tex"))


def test_no_clip_is_an_error_with_the_reason_and_nothing_like_a_dataset(mixed, tmp_path):
    only_videos = settings(mixed, tmp_path / "out", frames=999, sources=(f"{mixed}/*.mp4",))
    with pytest.raises(VidiffError, match=r"no clip is left of 5 sources"):
        prep(only_videos)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"ledger.jsonl"}
    assert {row["status"] for row in ledger(tmp_path / "out").values()} == {"rejected"}
    with pytest.raises(VidiffError, match="no clip is left"):
        prep(only_videos)


@pytest.mark.parametrize(
    ("color", "fix"), [((200, 30, 30), "flat.*--min-contrast 0"), ((0, 0, 0), "black.*--min-contrast 0")]
)
def test_where_a_filter_takes_all_its_flag_is_named(tmp_path, color, fix):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (16, 16), color).save(tmp_path / "in" / "a.png")
    with pytest.raises(VidiffError, match=fix):
        prep(settings(tmp_path / "in", tmp_path / "out", min_contrast=2.0))


def test_strict_names_the_first_rejected_source(mixed, tmp_path):
    with pytest.raises(VidiffError, match=r"4 of 8 sources were rejected and --strict is set: found b short\.mp4: too"):
        prep(settings(mixed, tmp_path / "out", strict=True))
    assert len(ledger(tmp_path / "out")) == 8
    assert prep(settings(mixed, tmp_path / "out")).resumed == 8


def test_a_decoder_that_breaks_is_a_row_in_the_ledger(mixed, tmp_path, monkeypatch):
    (source,) = scan([str(mixed / "a.mp4")]).sources
    cuts = {"size": 16, "aspect": "square", "frames": 8, "fps": Fraction(10), "stride": 8, "scenes": True}
    clip_spec = ClipSpec(**cuts, decoder="auto", images_fps=Fraction(25))
    job = ExtractJob(source=source, segments=(), clip_spec=clip_spec, path=tmp_path / "extracted.safetensors")

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("internal\n  trouble")

    with monkeypatch.context() as patch:
        patch.setattr(extract_module, "stream_frames", broken)
        extracted = extract_module.extract(job)
    assert extracted.reason == "cannot be decoded: RuntimeError: internal trouble"
    assert not job.path.exists(), "another run may have more luck"
    assert [cut.start for cut in extract_module.extract(job).candidates] == [0, 8] and job.path.exists()


@pytest.mark.parametrize("kind", [TOO_LONG, CRASHED])
def test_a_decoder_that_takes_its_process_along_is_a_row_in_the_ledger(mixed, tmp_path, monkeypatch, kind):
    """Another run tries again."""
    real, decoders = prep_decode.worker_pool.run, []

    def dying(function: Any, jobs: Any, **more: Any) -> Any:
        for job in jobs:
            if job.source.name == "a.mp4":
                decoders.append(job.clip_spec.decoder)
                yield Outcome(job, None, f"{kind}: no end after 1 s", kind)
            else:
                yield from real(function, [job], **more)

    with monkeypatch.context() as patch:
        patch.setattr(prep_decode.worker_pool, "run", dying)
        report = prep(settings(mixed, tmp_path / "out"))
    assert decoders == ["auto"] and report.rejected[kind] == 1
    assert ledger(tmp_path / "out")["a.mp4"]["reason"] == f"{kind}: no end after 1 s"


def test_a_column_keeps_sources_together_and_holds_out_a_value(make_clip, tmp_path):
    folder = tmp_path / "people"
    lines = ["file_name,text,person"]
    for person in ("p0", "p1", "p2"):
        for take in range(2):
            make_clip(folder / f"{person}_{take}.mp4", frames=9)
            lines.append(f"{person}_{take}.mp4,someone moves,{person}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    prep(settings(folder, tmp_path / "held", split_by="person", hold_out=("p1",)))
    sides = {(clip.group, clip.split) for clip in open_dataset(tmp_path / "held").clips}
    assert sides == {("p0", "train"), ("p1", "val"), ("p2", "train")}
    prep(settings(folder, tmp_path / "drawn", split_by="person"))
    drawn = {(clip.group, clip.split) for clip in open_dataset(tmp_path / "drawn").clips}
    assert len(drawn) == 3
    assert sum(side == "val" for _, side in drawn) == 1
    with pytest.raises(VidiffError, match="--hold-out p7 is not a value"):
        prep(settings(folder, tmp_path / "x", split_by="person", hold_out=("p7",)))
    with pytest.raises(VidiffError, match=r"--split-by actor is not a column .* file_name, text, person"):
        prep(settings(folder, tmp_path / "x", split_by="actor"))
    with pytest.raises(ValidationError, match="--hold-out needs --split-by"):
        settings(folder, tmp_path / "x", hold_out=("p1",))
    assert not (tmp_path / "x").exists()


def test_clip_starts_fit_and_spread():
    def starts(total: int, frames: int, stride: int, most: int | None) -> tuple[int, ...]:
        return spread_evenly(clip_starts((0, total), total, (0,), frames, stride), most)

    assert starts(16, 16, 16, None) == (0,)
    assert starts(15, 16, 16, None) == ()
    assert starts(48, 16, 16, None) == (0, 16, 32)
    assert starts(47, 16, 16, None) == (0, 16)
    assert starts(100, 10, 10, 3) == (0, 30, 60)
    assert starts(20, 10, 10, 5) == (0, 10)


@given(
    total=st.integers(0, 200),
    inside=st.tuples(st.integers(0, 220), st.integers(0, 220)).map(sorted),
    cuts=st.sets(st.integers(1, 199), max_size=6),
    frames=st.integers(1, 40),
    stride=st.integers(1, 50),
)
def test_clips_lie_in_their_interval_and_contain_no_cut(total, inside, cuts, frames, stride):
    scenes = (0, *sorted(cut for cut in cuts if cut < total))
    starts = clip_starts((inside[0], inside[1]), total, scenes, frames, stride)
    assert list(starts) == sorted(set(starts))
    for start in starts:
        assert inside[0] <= start and start + frames <= min(inside[1], total)
        assert not any(start < cut < start + frames for cut in scenes)
    free = [
        start
        for start in range(total)
        if inside[0] <= start <= min(inside[1], total) - frames
        and not any(start < cut < start + frames for cut in scenes)
    ]
    assert bool(starts) == bool(free), "wherever one fits there is one"

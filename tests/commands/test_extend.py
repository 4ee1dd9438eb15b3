"""extend: how many frames, which of them are given, at which rate and size."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidiff_cli.commands.extend import extend
from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import Window
from vidiff_cli.generation.seams import seam_jumps
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.video import ffmpeg
from vidiff_cli.video.decode import decode
from vidiff_cli.video.probe import probe


@pytest.mark.parametrize(("count", "new", "before"), [(1, 9, False), (3, 2, False), (7, 5, True)])
def test_given_frames_stay_and_new_ones_follow(settings, clip, frames_of, count: int, new: int, before: bool) -> None:
    source = clip(count)
    report = extend(settings("extend", input=source, num_frames=new, before=before, lossless=True))
    made, given = frames_of(report.path), frames_of(source)
    assert (report.given, report.made, len(made)) == (count, new, count + new)
    assert np.array_equal(made[new:] if before else made[:count], given)
    assert report.path.name == f"clip-extended_s{report.seed}_{count + new}f_16x16.mkv"
    assert report.fps == probe(report.path).fps == 8
    assert len(report.drift.windows) == report.windows


def test_photo(settings, tmp_path: Path, frames_of) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "my photo.png")
    report = extend(settings("extend", input="my photo.png", num_frames=5, lossless=True))
    made = frames_of(report.path)
    assert len(made) == 6 and np.array_equal(made[0], pixels)
    assert report.fps == probe(report.path).fps == 8 and report.seam_jump is None
    faster = extend(settings("extend", input="my photo.png", seconds=0.5, fps="12", output="fast.mp4"))
    assert (faster.made, probe(faster.path).fps) == (6, 12)


def test_scheme_and_overlap_decide_the_windows(settings, clip) -> None:
    """As --dry-run tells them: which frames each window makes, and which it observes."""
    source = clip(4)
    plans = [
        extend(settings("extend", input=source, num_frames=24, scheme=scheme, overlap=overlap, dry_run=True)).lines
        for scheme, overlap in (("autoregressive", 2), ("autoregressive", 1), ("hierarchical", 2))
    ]
    assert len(set(plans)) == 3


def test_seconds(settings, clip) -> None:
    source = clip(3, fps="30000/1001")
    report = extend(settings("extend", input=source, seconds=0.4))
    assert report.made == 12 and report.fps == probe(report.path).fps == Fraction(30000, 1001)
    assert extend(settings("extend", input=clip(3, name="other.mkv"))).made == 16


@pytest.mark.parametrize(
    ("condition", "sampler"), [("reconstruction", "ddpm"), ("replacement", "ddim"), ("learned", "dpmpp-2m")]
)
def test_every_condition_and_every_sampler(settings, clip, frames_of, condition: str, sampler: str) -> None:
    """What is made follows from the seed; another seed makes other frames."""
    source, made = clip(3), []
    for seed in (3, 3, 4):
        more = {"condition": condition, "sampler": sampler, "seed": seed, "output": f"{len(made)}.mkv"}
        report = extend(settings("extend", input=source, num_frames=4, lossless=True, **more))
        made.append(frames_of(report.path))
        assert report.condition == condition and len(made[-1]) == 7
        assert np.array_equal(made[-1][:3], frames_of(source))
    assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])


@pytest.mark.parametrize(("size", "scaled", "crop"), [((16, 16), (16, 16), (16, 16)), ((33, 73), (16, 35), (16, 34))])
def test_size(settings, clip, told, frames_of, size, scaled, crop) -> None:
    """Short side the model's, long side cropped to the network's multiple; where that changes the size it is said."""
    source = clip(3, width=size[0], height=size[1])
    report, notes = told(extend.events(settings("extend", input=source, num_frames=1, lossless=True)))
    assert (report.width, report.height) == crop
    assert np.array_equal(frames_of(report.path)[:3], decode(source, size=scaled, crop=crop).frames)
    about = [note.text for note in notes if "The result has" in note.text]
    expected = f"The result has {crop[0]}x{crop[1]} (the input is {size[0]}x{size[1]}; --size film keeps the input's)."
    assert about == ([] if size == crop else [expected])


@pytest.mark.parametrize("before", [False, True])
def test_audio_stays_with_its_frames(settings, loud, before: bool) -> None:
    report = extend(settings("extend", input=loud(8), num_frames=8, before=before))
    info = probe(report.path)
    assert info.has_audio and len(decode(report.path).frames) == 16
    assert info.duration_seconds == pytest.approx(2, abs=0.1)
    heard = re.search(r"Audio: .* start (\d\.\d+)", ffmpeg.run(ffmpeg.input_arguments(report.path))[1])
    begins = float(heard[1]) if heard else 0.0
    assert begins == pytest.approx(1 if before else 0, abs=0.03), "the sound of the given frames begins with them"


@pytest.mark.parametrize("name", ["out.mp4", "frames"])
def test_outputs_by_extension(settings, clip, frames_of, name: str) -> None:
    report = extend(settings("extend", input=clip(3), num_frames=3, output=name, compare=True))
    assert report.path == Path(name)
    assert json.loads(report.path.with_suffix(".json").read_text())["made"] == 3
    assert report.sheet == Path(f"{Path(name).stem}_sheet.png") and report.sheet.is_file()
    if name == "frames":
        assert [path.name for path in sorted(report.path.iterdir())] == [f"{n:06d}.png" for n in range(6)]
        assert np.array_equal(np.asarray(Image.open("frames/000001.png")), frames_of(Path("clip.mkv"))[1])
    else:
        assert len(frames_of(report.path)) == 6


@pytest.mark.parametrize("more", [{"output": "clip.mkv"}, {"output": "other.mkv", "compare": True}])
def test_nothing_is_overwritten_unasked(settings, clip, frames_of, more: dict) -> None:
    """Neither the input, nor the video, nor what is written beside it."""
    source = clip(3)
    for name in ("clip.json", "other.json", "other_sheet.png"):
        Path(name).write_text("mine")
    before = source.read_bytes()
    with pytest.raises(VidiffError, match="exists"):
        extend(settings("extend", input=source, num_frames=2, **more))
    assert source.read_bytes() == before and Path("other.json").read_text() == "mine"
    report = extend(settings("extend", input=source, num_frames=2, overwrite=True, **more))
    assert len(frames_of(report.path)) == 5


def test_wrong_usage(settings, clip) -> None:
    source = clip(3)
    with pytest.raises(VidiffError, match="keeps its own rate"):
        extend(settings("extend", input=source, fps="12"))
    with pytest.raises(VidiffError, match="--overlap leaves nothing to make"):
        extend(settings("extend", input=source, overlap=4, output="new/out.mp4"))
    assert not Path("new").exists()


def test_one_prompt_per_window(settings, clip, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, original = [], UNetModel.denoiser

    def denoiser(self, times, given, prompts, **more):
        seen.append(list(prompts))
        return original(self, times, given, prompts, **more)

    monkeypatch.setattr(UNetModel, "denoiser", denoiser)
    asked = settings("extend", input=clip(2), num_frames=8, overlap=2, prompt=("red", "blue"))
    assert extend(asked).windows == 4
    assert seen[1:] == [["red"], ["blue"], ["blue"], ["blue"]]  # the first is the estimate's


def test_seam_jumps() -> None:
    """Levels 0 2 4 | 14 15 16: the seam is a step of 10 where steps of 2 are usual; 25 times, squared."""
    levels = np.array([0, 2, 4, 14, 15, 16], np.uint8)
    pixels = np.broadcast_to(levels[:, None, None, None], (6, 2, 2, 3))
    frames = pixels.__getitem__
    window = Window(frames=(1, 2, 3, 4, 5), observed=frozenset({1, 2}), makes=frozenset({3, 4, 5}))
    assert seam_jumps(frames, [window], [0, 1, 2]) == (25.0,)
    between = Window(frames=(0, 1, 2, 3), observed=frozenset({0, 2, 3}), makes=frozenset({1}))
    uneven = np.broadcast_to(np.array([0, 2, 6, 8], np.uint8)[:, None, None, None], (4, 2, 2, 3))
    assert seam_jumps(uneven.__getitem__, [between], [0, 2, 3]) == (4.0,), "of two seams the worse one counts"
    assert seam_jumps(frames, [window], [0]) is None
    assert seam_jumps(np.zeros_like(pixels).__getitem__, [window], [0, 1, 2]) is None

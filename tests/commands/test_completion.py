"""What extend and interpolate have in common: plans of every kind, the input's own size, exactness, bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.config.generate import ExtendSettings, InterpolateSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation import completion, frame_store, generate
from vidiff_cli.models import unet_model
from vidiff_cli.video.decode import decode
from vidiff_cli.video.encode import encode
from vidiff_cli.video.probe import probe


def scene(count: int, color: tuple[int, int, int], *, side: int = 16) -> np.ndarray:
    """A bright square that moves a pixel a frame over one color (n h w c)."""
    frames = np.empty((count, side, side, 3), np.uint8)
    frames[:] = color
    for number in range(count):
        frames[number, 4:8, number % (side - 4) : number % (side - 4) + 4] = (250, 240, 20)
    return frames


def stored(frames: np.ndarray, name: str, fps: int = 8) -> Path:
    encode(name, frames, Fraction(fps), lossless=True)
    return Path(name)


def test_a_loop_goes_on_from_the_end_to_the_beginning(settings, clip, frames_of, monkeypatch) -> None:
    seen, original = [], completion.plans
    monkeypatch.setattr(
        completion, "plans", lambda line, **more: seen.append((line, original(line, **more))) or seen[-1][1]
    )
    report = extend(settings("extend", input=clip(4), num_frames=2, loop=True, lossless=True))
    made = frames_of(report.path)
    assert len(made) == 6 and np.array_equal(made[:4], frames_of(Path("clip.mkv")))
    assert (report.given, report.made) == (4, 2)
    (timeline, windows) = seen[0]
    assert all(any(rank >= 6 for rank in window.observed) for window in windows), "the beginning is seen ahead"
    assert timeline.given[6] == 0


def test_two_clips_are_joined(settings, clip, frames_of) -> None:
    first, second = clip(4, name="a.mkv"), clip(3, width=32, height=24, fps="4", name="b.mkv")
    report = interpolate(settings("interpolate", input=first, to=second, gap=3, lossless=True))
    made = frames_of(report.path)
    after = decode(second, size=(21, 16), crop=(16, 16), fps=Fraction(8)).frames
    assert (report.given, report.made, len(made)) == (4 + len(after), 3, 7 + len(after))
    assert np.array_equal(made[:4], frames_of(first)) and np.array_equal(made[7:], after)
    assert report.fps == probe(report.path).fps == 8 and report.given_difference == 0


def test_two_photos_are_joined(settings, frames_of) -> None:
    for number, name in enumerate(("a.png", "b.png")):
        Image.fromarray(scene(1, (10, 60 * number, 90))[0]).save(name)
    report = interpolate(settings("interpolate", input="a.png", to="b.png", gap=5, fps="12", lossless=True))
    made = frames_of(report.path)
    assert (len(made), report.fps) == (7, 12)
    for place, name in ((0, "a.png"), (6, "b.png")):
        assert np.array_equal(made[place], np.asarray(Image.open(name)))


@pytest.mark.parametrize(("detail", "width", "height"), [("model", 64, 64), ("estimate", 20, 30)])
def test_joins_have_the_size_of_the_first(settings, clip, frames_of, detail: str, width: int, height: int) -> None:
    first, other = clip(3, width=32, height=32, name="a.mkv"), clip(4, width=width, height=height, name="b.mkv")
    asked = settings("interpolate", input=first, to=other, size="film", detail=detail, gap=2, lossless=True)
    report = interpolate(asked)
    made = frames_of(report.path)
    assert made.shape == (9, 32, 32, 3) and np.array_equal(made[:3], frames_of(first)) and report.given_difference == 0


def test_nothing_is_made_across_a_cut(settings, frames_of) -> None:
    frames = np.concatenate([scene(8, (20, 90, 160)), scene(8, (200, 30, 60))[:, ::-1]])
    source = stored(frames, "cut.mkv")
    report = interpolate(settings("interpolate", input=source, factor=3, lossless=True))
    made = frames_of(report.path)
    assert np.array_equal(made[:46:3], frames)
    assert np.array_equal(made[22], frames[7]) and np.array_equal(made[23], frames[7]), "held until the cut"
    assert report.held == 2 + 2
    anyway = interpolate(settings("interpolate", input=source, factor=3, scenes=False, output="no.mkv", lossless=True))
    assert anyway.held == 2 and not np.array_equal(frames_of(anyway.path)[22], frames[7])


def test_only_the_last_scene_is_extended(settings, monkeypatch) -> None:
    frames = np.concatenate([scene(8, (20, 90, 160)), scene(8, (200, 30, 60))[:, ::-1][:3]])
    alone = extend(settings("extend", input=stored(frames[8:], "last.mkv"), num_frames=4, overlap=3))
    source, windows, original = stored(frames, "cut.mkv"), [], completion.plans
    monkeypatch.setattr(completion, "plans", lambda line, **more: windows.extend(original(line, **more)) or windows)
    report = extend(settings("extend", input=source, num_frames=4, overlap=3))
    assert windows and all(min(window.observed) >= 8 for window in windows)
    assert report.seam_jump == alone.seam_jump and report.drift == alone.drift, "the cut is no usual change"


def test_between_equal_frames_nothing_is_made(settings, frames_of) -> None:
    frames = scene(6, (20, 90, 160))
    frames[3] = frames[2]
    report = interpolate(settings("interpolate", input=stored(frames, "held.mkv"), factor=2, lossless=True))
    made = frames_of(report.path)
    assert np.array_equal(made[5], frames[2]) and not np.array_equal(made[3], frames[1])
    assert report.held == 2


@pytest.mark.parametrize(("task", "detail"), [(extend, "both"), (interpolate, "model")])
def test_film_size(settings, frames_of, task, detail: str) -> None:
    """The input's frames at its own size, untouched; what is made is as large and no smaller."""
    rng = np.random.default_rng(0)
    frames = np.clip(scene(4, (60, 90, 160), side=48)[:, :30] + rng.integers(0, 9, (4, 30, 48, 3)), 0, 255)
    command = "extend" if task is extend else "interpolate"
    source = stored(frames.astype(np.uint8), "large.mkv")
    report = task(settings(command, input=source, size="film", detail=detail, lossless=True))
    made = frames_of(report.path)
    assert (report.width, report.height) == (48, 30) == made.shape[2:0:-1]
    places = slice(0, 4) if task is extend else slice(0, 7, 2)
    assert np.array_equal(made[places], frames) and report.given_difference == 0


def test_a_dry_run_only_draws(settings, clip, told) -> None:
    asked = settings("extend", input=clip(4), num_frames=9, dry_run=True, output="out.mp4")
    before = set(Path().iterdir())
    report, notes = told(extend.events(asked))
    assert report.path == Path("out_plan.png") and Image.open(report.path).width > 100
    assert set(Path().iterdir()) - before == {report.path}
    assert (report.frames, report.given, report.made) == (13, 4, 9)
    with pytest.raises(VidiffError, match=r"out_plan\.png exists"):
        extend(asked)
    assert extend(asked.model_copy(update={"overwrite": True})).path == report.path
    assert len([note for note in notes if "window" in note.text.lower()]) >= report.windows


def test_compare_shows_the_input_beside_the_result(settings, clip, frames_of) -> None:
    asked = settings("extend", input=clip(3), num_frames=3, output="out.mp4", compare=True)
    report = extend(asked)
    beside = frames_of(Path("out_compare.mp4"))
    assert len(beside) == report.given + report.made and beside.shape[2] > beside.shape[1]
    for name in ("out.mp4", "out.json", "out_sheet.png"):
        Path(name).unlink()
    with pytest.raises(VidiffError, match=r"out_compare\.mp4 exists"):
        extend(asked)


def test_a_given_frame_that_changed_is_an_error(settings, clip, monkeypatch) -> None:
    asked = settings("extend", input=clip(3), num_frames=2, lossless=True, output="bad.mkv")
    original = frame_store.DiskFrameArray.read

    def wrong(self, ranks):
        frames = original(self.made, ranks)
        return frames ^ 1 if frames.ndim == 5 else frames

    monkeypatch.setattr(frame_store.FrameStore, "read", wrong)
    with pytest.raises(VidiffError, match=r"the given frames in .* are not those"):
        extend(asked)


def test_sound_follows_slow_motion_or_is_left_out(settings, loud) -> None:
    source = loud(8)
    slow = probe(interpolate(settings("interpolate", input=source, slow_motion=2, output="slow.mp4")).path)
    assert slow.has_audio and slow.duration_seconds == pytest.approx(2, abs=0.1)
    silent = interpolate(settings("interpolate", input=source, audio=False, output="silent.mp4"))
    assert not probe(silent.path).has_audio


def test_a_join_has_the_sound_of_both(settings, loud) -> None:
    report = interpolate(settings("interpolate", input=loud(8, "a.mp4"), to=loud(6, "b.mp4"), gap=4))
    info = probe(report.path)
    assert info.has_audio and info.duration_seconds == pytest.approx(18 / 8, abs=0.3)


def test_settings_of_the_beginning_and_of_guidance_reach_the_network(settings, clip, frames_of) -> None:
    """Each makes other frames than none of them; checkpointing makes the same."""
    source = clip(4)

    def made(number: int, **more) -> np.ndarray:
        asked = settings("extend", input=source, num_frames=3, lossless=True, output=f"{number}.mkv", **more)
        return frames_of(extend(asked).path)

    guided = {"condition": "reconstruction", "steps": 4, "reconstruction_weight": 1e6}
    ways = [{}, {"start_noise": "freenoise"}, {"start_noise": "previous"}, {"freeinit": 2}]
    ways += [guided | {"reconstruction_schedule": name} for name in ("constant", "snr")]
    videos = [made(number, **way) for number, way in enumerate(ways)]
    assert all(np.array_equal(video[:4], videos[0][:4]) for video in videos)
    assert all(not np.array_equal(one[4:], other[4:]) for one, other in combinations(videos, 2))
    assert np.array_equal(made(9, gradient_checkpointing="on", **ways[-1]), videos[-1])


def test_windows_made_together_are_those_made_alone(settings, clip, frames_of, monkeypatch) -> None:
    """But for the last bits of a network that is handed more at a time."""
    source, made, batches = clip(9), [], []
    original = generate.sample_windows
    monkeypatch.setattr(
        generate, "sample_windows", lambda *given, **more: batches.append(given[1]) or original(*given, **more)
    )
    for most in (1, 8):
        monkeypatch.setattr(unet_model, "WINDOWS_AT_ONCE", most)
        asked = settings("interpolate", input=source, factor=3, lossless=True, output=f"{most}.mkv")
        made.append(frames_of(interpolate(asked).path).astype(int))
    assert max(map(len, batches[0])) == 1 < max(map(len, batches[1]))
    assert np.abs(made[0] - made[1]).max() <= 1


def test_drift_control_holds_colors(settings, frames_of) -> None:
    """The barely trained network of the tests makes gray noise: with the anchor its means are those of the input."""
    source = stored(scene(6, (20, 90, 220)), "blue.mkv")
    means = {}
    for name in ("none", "first"):
        asked = settings("extend", input=source, num_frames=6, drift_control=name, output=f"{name}.mkv", lossless=True)
        report = extend(asked)
        means[name] = frames_of(report.path)[6:].mean(axis=(0, 1, 2))
    true = scene(6, (20, 90, 220)).mean(axis=(0, 1, 2))
    assert np.abs(means["first"] - true).max() < 0.5 * np.abs(means["none"] - true).max()
    recorded = json.loads(Path("first.json").read_text())["drift"]
    assert len(recorded["windows"]) == report.windows == len(report.drift.windows)
    assert recorded["given"]["mean"] == pytest.approx(report.drift.given.mean)


LONG = """
    import sys
    from pathlib import Path
    import torch
    from vidiff_cli.config.generate import ExtendSettings
    from vidiff_cli.device import peak_memory, restart_peak
    from vidiff_cli.commands.extend import extend
    from vidiff_cli.models.unet_model import UNetModel

    UNetModel.denoiser = lambda *_, **__: lambda z, level: z  # what the network would do costs time alone
    for count in (100, int(sys.argv[3])):
        restart_peak(torch.device("cpu"))
        settings = {"model": sys.argv[1], "input": sys.argv[2], "num_frames": count, "steps": 1, "condition": "learned"}
        extend(ExtendSettings.model_validate(settings | {"output": f"{count}.mkv", "overlap": 1, "sidecar": False}))
        print(peak_memory(torch.device("cpu")))
"""


def test_memory_does_not_grow_with_the_length(run, clip) -> None:
    """300 more frames of 1024x16 are 15 MB, 59 MB as the network sees them (benchmarks/long.py makes 5,000)."""
    source = clip(4, width=1024)
    command = [sys.executable, "-c", textwrap.dedent(LONG), str(run), str(source), "400"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    short, long = map(int, done.stdout.split()[-2:])
    assert len(decode("400.mkv", size=(32, 16)).times) == 404
    assert long - short < 10e6


def shift(count: int, *, speed: float = 1.5, side: int = 64) -> np.ndarray:
    """A smooth texture that moves evenly (n h w c)."""
    y, x = np.mgrid[0:side, 0:side].astype(float)
    waves = [(0.31, 0.17, 0.0), (0.12, -0.29, 1.0), (0.23, 0.37, 2.0), (0.08, 0.05, 0.5)]
    frames = []
    for number in range(count):
        at = x - speed * number
        level = sum(np.sin(a * at + b * y + c) for a, b, c in waves) / len(waves)
        frames.append(np.stack([127 + 90 * level, 127 - 60 * level, 127 + 40 * np.cos(0.2 * at)], axis=-1))
    return np.stack(frames).round().astype(np.uint8)


def off(made: np.ndarray, true: np.ndarray) -> float:
    return float(np.abs(made.astype(float) - true)[:, 6:-6, 6:-6].mean())


@pytest.fixture
def no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidiff_cli.generation.load_model.RUNS", Path("nowhere"))


def test_without_a_model_motion_is_estimated(no_run, frames_of, told) -> None:
    """The default where there is no run: nearer to the truth than blending, given frames untouched."""
    true = shift(9, speed=3.0)
    source = stored(true[::2], "slow.mkv")
    asked = InterpolateSettings(input=source, factor=2, hold=False, lossless=True)
    report, notes = told(interpolate.events(asked))
    assert any("without a model" in note.text for note in notes)
    made = frames_of(report.path)
    assert report.condition == "estimate" and np.array_equal(made[::2], true[::2]) and made.shape == true.shape
    assert json.loads(report.path.with_suffix(".json").read_text())["checkpoint"] is None
    blend = (true[:-2:2].astype(float) + true[2::2]) / 2
    assert off(made[1::2], true[1::2]) < 0.2 * off(blend, true[1::2])


@pytest.mark.parametrize("before", [False, True])
def test_an_extension_without_a_model_goes_on(no_run, frames_of, before: bool) -> None:
    true = shift(20)
    given = true[4:] if before else true[:16]
    asked = ExtendSettings(input=stored(given, "given.mkv"), num_frames=4, before=before, lossless=True)
    made = frames_of(extend(asked).path)
    new, wanted = (made[:4], true[:4]) if before else (made[16:], true[16:])
    frozen = np.repeat(given[:1] if before else given[-1:], 4, axis=0)
    assert off(new, wanted) < 0.3 * off(frozen, wanted)


def test_a_model_that_knows_nothing_takes_nothing_away(settings, frames_of) -> None:
    """The barely trained network of the tests, against the estimate alone."""
    true = shift(33, side=32)
    source, made = stored(true[::2], "slow.mkv"), {}
    for detail in ("estimate", "both", "model"):
        asked = settings("interpolate", input=source, factor=2, size="film", detail=detail, lossless=True, hold=False)
        made[detail] = frames_of(interpolate(asked.model_copy(update={"output": Path(f"{detail}.mkv")})).path)
    errors = {detail: np.square(frames[1::2] - true[1::2].astype(float)).mean() for detail, frames in made.items()}
    assert errors["model"] > 2 * errors["estimate"]
    assert errors["both"] < 1.023 * errors["estimate"], "a tenth of a decibel"


@pytest.mark.parametrize(("size", "expected"), [(24, (30, 24)), ("film", (40, 32)), ("model", (20, 16))])
def test_sizes(settings, clip, frames_of, size: int | str, expected: tuple[int, int]) -> None:
    source = clip(6, width=40, height=32)
    report = interpolate(settings("interpolate", input=source, size=size, detail="both", lossless=True))
    assert (report.width, report.height) == expected == frames_of(report.path).shape[2:0:-1]


def test_what_needs_a_model_says_so(no_run, clip) -> None:
    source = clip(4)
    for more, named in (({"detail": "model"}, "--detail model"), ({"size": "model"}, "--size model")):
        with pytest.raises(VidiffError, match=f"{named} needs a model: found no run under runs/; name one with"):
            extend(ExtendSettings.model_validate({"input": source} | more))


def test_samples_are_averaged(settings, clip, frames_of) -> None:
    """The mean of two samples lies between them, and differs from either."""
    source, made = clip(4), {}
    for count, seed in ((1, 3), (1, 4), (2, 3)):
        asked = settings("interpolate", input=source, samples=count, seed=seed, lossless=True)
        asked = asked.model_copy(update={"output": Path(f"{count}-{seed}.mkv")})
        made[count, seed] = frames_of(interpolate(asked).path).astype(int)
    mean = (made[1, 3] + made[1, 4] + 1) // 2
    assert not np.array_equal(made[1, 3], made[1, 4]) and np.array_equal(made[2, 3], mean)

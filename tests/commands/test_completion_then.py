"""extend and interpolate with upscalers after the model: --then, and a cascade as one model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import sentence_of, vidiff
from PIL import Image
from tiny_model import tiny_network, tiny_settings, write_model
from torch import Tensor

from vidiff_cli.commands.cascade import cascade
from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.commands.many import many
from vidiff_cli.config.cascade import CascadeSettings
from vidiff_cli.config.generate import ExtendSettings, InterpolateSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation import complete_video, upscaling
from vidiff_cli.generation.calibrate import Gains
from vidiff_cli.generation.cascade import open_stages
from vidiff_cli.generation.frame_store import FrameStore, MemoryFrameArray
from vidiff_cli.generation.large_frames import upscale_made
from vidiff_cli.pixels import clip_from_uint8
from vidiff_cli.sampling.merge import FULL_GAIN, Gain, constant_gain
from vidiff_cli.timeline import Timeline
from vidiff_cli.video.decode import decode
from vidiff_cli.video.encode import encode

SIDE, FILM = 8, 32  # pixels: of the model's frames, and of the films here
LARGE = {"patch_size": 2, "temporal": "convolution", "attention_max_size": 0, "upscale": 2}
PLAIN = {"seed": 5, "dtype": "fp32", "device": "cpu", "lossless": True, "steps": 1}
KINDS = {extend: (ExtendSettings, {"num_frames": 5}), interpolate: (InterpolateSettings, {"factor": 2, "hold": False})}
COMMANDS = pytest.mark.parametrize("command", [extend, interpolate])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained models: a base, upscalers in one step and in two (which observe frames), and gray ones."""
    folder = tmp_path_factory.mktemp("models")
    large = {"frames": 3, "augmentation": 0.3, "fps": "8"}
    for name, channels in (("", 3), ("gray-", 1)):
        write_model(folder / f"{name}base.safetensors", tiny_settings(tiny_network(channels=channels), SIDE))
        network = tiny_network(channels=channels, **LARGE)
        write_model(folder / f"{name}one.safetensors", tiny_settings(network, 32, **large))
    two = tiny_settings(tiny_network(**LARGE), 32, **large, distilled={"steps": 2, "guidance_scale": 1.0})
    write_model(folder / "two.safetensors", two, seed=1)
    return folder


@pytest.fixture
def film() -> np.ndarray:
    """Seven frames of a picture that moves (n h w c), in film.mkv."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    still = np.asarray(Image.fromarray(coarse).resize((FILM, FILM), Image.Resampling.BICUBIC))
    frames = np.stack([np.roll(still, 2 * number, axis=1) for number in range(7)])
    encode("film.mkv", frames, Fraction(8), lossless=True)
    return frames


@pytest.fixture
def asked(models: Path, film: np.ndarray) -> Callable[..., Any]:
    """asked(extend, ...): settings of one lossless call with the base and film.mkv, unless told otherwise."""

    def make(command: Any, **more: Any) -> Any:
        kind, own = KINDS[command]
        values = {"input": "film.mkv", "model": models / "base.safetensors"} | own | PLAIN
        return kind.model_validate(values | more)

    return make


@pytest.fixture
def then(models: Path) -> list[Path]:
    return [models / "two.safetensors", models / "one.safetensors"]


def frames_of(path: Path) -> np.ndarray:
    return decode(path).frames


def some_gain(gain: Gain, *_: Any) -> Iterator[Any]:
    """In the place of a calibration: so much of what the model and its upscalers correct is right."""
    yield from ()
    return Gains(small=lambda rank: gain, large=lambda rank: gain)


def is_given(command: Any, count: int) -> np.ndarray:
    """Which frames of a result are the film's."""
    numbers = np.arange(count)
    return numbers < 7 if command is extend else numbers % 2 == 0


@pytest.fixture
def perfect(film: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Every upscaler makes frames of one color each (n h w c, by rank), which are returned; it is shown true frames in
    their order."""
    flat = np.empty((20, FILM, FILM, 3), np.uint8)
    flat[:] = np.random.default_rng(1).integers(60, 200, (20, 1, 1, 3), np.uint8)

    def upscale(
        setup: Any, clip: Any, windows: Any, store: Any, *, seed: int, start: int = 0
    ) -> Iterator[list[Tensor]]:
        for window in windows[start:]:
            height, width = (setup.scale * side for side in clip.read(window.frames).shape[1:3])
            yield [clip_from_uint8(np.ascontiguousarray(flat[sorted(window.makes), :height, :width]))]

    monkeypatch.setattr(upscaling, "upscale_windows", upscale)
    return flat


@COMMANDS
@pytest.mark.parametrize("detail", ["both", "model"])
def test_made_frames_are_the_upscalers_and_given_ones_the_films(
    asked, then, film, perfect, command, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As large as the result, they are taken as they are: by their own weight, or (--detail model) in the colors of the
    given frames beside them."""
    monkeypatch.setattr(complete_video, "calibrate", partial(some_gain, FULL_GAIN))
    report = command(asked(command, then=then, detail=detail))
    made, given = frames_of(report.path), is_given(command, report.frames)
    assert np.array_equal(made[given], film) and report.given_difference == 0
    new = made[~given]
    if detail == "both":
        assert np.abs(new.astype(int) - perfect[: len(made)][~given]).max() <= 1
    else:
        assert np.ptp(new, axis=(1, 2)).max() == 0, "one color each, whatever the match makes of it"
    without = command(asked(command, detail=detail, output="without.mkv"))
    assert np.ptp(frames_of(without.path)[~given], axis=(1, 2)).min() > 0


@COMMANDS
def test_the_size_of_the_model_is_that_of_its_last_stage(asked, then, film, perfect, command) -> None:
    report = command(asked(command, then=then[:1], detail="model", size="model"))
    made, given = frames_of(report.path), is_given(command, report.frames)
    assert (report.width, report.height) == (2 * SIDE, 2 * SIDE)
    assert np.array_equal(made[given], decode(Path("film.mkv"), size=(2 * SIDE, 2 * SIDE)).frames)
    assert np.array_equal(made[~given], perfect[: len(made), : 2 * SIDE, : 2 * SIDE][~given])


@COMMANDS
@pytest.mark.parametrize("detail", ["both", "model"])
def test_a_cascade_is_its_base_and_its_stages(asked, models: Path, then, command, detail: str, told) -> None:
    cascade(CascadeSettings(base=models / "base.safetensors", upscalers=tuple(then), output=Path("all")))
    whole = command(asked(command, then=then, detail=detail, output="whole.mkv"))
    as_one, notes = told(command.events(asked(command, model="all", detail=detail, output="one.mkv")))
    assert as_one.path.read_bytes() == whole.path.read_bytes()
    assert [note.text.partition(" makes ")[2] for note in notes if "times larger" in note.text] == [
        "its frames 2 times larger, to 16x16.",
        "its frames 2 times larger, to 32x32.",
    ]
    other = command(asked(command, model="all", then=then[1:], detail="model", size="model", output="other.mkv"))
    assert other.width == 2 * SIDE


@COMMANDS
def test_a_sidecar_names_the_stages_and_repeats_them(asked, models: Path, then, command) -> None:
    cascade(CascadeSettings(base=models / "base.safetensors", upscalers=tuple(then), output=Path("all")))
    first = command(asked(command, model="all", detail="model", output="first.mkv")).path
    told = json.loads(Path("first.json").read_text())
    assert [stage["path"] for stage in told["stages"]] == told["settings"]["then"] and len(told["stages"]) == 2
    again = vidiff(command.__name__, "--from-json", "first.json", "-o", "again.mkv")
    assert again.exit_code == 0, again.stderr
    assert Path("again.mkv").read_bytes() == first.read_bytes()


def test_only_frames_near_made_ones_are_upscaled(models: Path, then, asked) -> None:
    """Those of the same scene, half a window further at each stage; given ones are known at the size of each stage."""
    stages, ranks = open_stages(asked(extend), then), range(40)
    small = np.random.default_rng(0).integers(0, 256, (40, 1, 4, 4, 3), np.uint8)
    line = Timeline(
        times=tuple(Fraction(rank, 8) for rank in ranks),
        given={rank: rank for rank in ranks if rank not in (3, 18, 20)},
        written=tuple(ranks),
        fps=Fraction(8),
        segments=(range(19), range(19, 40)),
    )
    seen, read = set[int](), list[tuple[set[int], tuple[int, int]]]()

    class Watched(MemoryFrameArray):
        def read(self, numbers):
            seen.update(numbers)
            return super().read(numbers)

    def given(numbers, size):
        read.append((set(numbers), size))
        return ((number, np.full((*size, 3), number, np.uint8)) for number in numbers)

    def large(made: list[int], stages: Any) -> np.ndarray:
        more = {"given": given, "seed": 0, "folder": Path()}
        return upscale_made(stages, FrameStore(Watched(small)), line, made, **more).read(range(40))[:, 0]

    frames = large([20], stages)
    assert frames.shape == (40, 16, 16, 3) and seen == {19, 20, 21}
    assert read == [({19, 21, 22}, (8, 8)), ({19, 21}, (16, 16))]
    assert (frames[19] == 19).all() and (frames[21] == 21).all() and np.ptp(frames[20]) > 0
    seen.clear()
    assert large([3, 18, 20], stages[:1]).shape == (40, 8, 8, 3) and seen == {2, 3, 4, 17, 18, 19, 20, 21}


def test_a_stage_is_shown_the_given_frames_at_its_size(asked, then, film, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit the film's, where the stage is as large; and one frame of the window before."""
    known, original = list[tuple[Tensor, Tensor]](), upscaling.upscale_window

    def upscale(setup: Any, low: Tensor, shown: Tensor, observed: Tensor, **more: Any) -> Tensor:
        known.append((shown, observed))
        return original(setup, low, shown, observed, **more)

    monkeypatch.setattr(upscaling, "upscale_window", upscale)
    interpolate(asked(interpolate, then=[then[1], then[0]], detail="model"))
    last = [each for each in known if each[0].shape[-1] == FILM]
    assert last and all(observed.any() for _, observed in known)
    there = clip_from_uint8(film)[0].transpose(0, 1)
    for frames, observed in last:
        for frame in frames[0].transpose(0, 1)[observed[0]]:
            assert any(torch.equal(frame, each) for each in there) or frame.std() > 0
    assert sum(torch.equal(frame, there[0]) for frames, _ in last for frame in frames[0].transpose(0, 1)) == 1


@COMMANDS
def test_killed_the_same_command_gives_the_same_bytes(asked, then, killed, told, command) -> None:
    """Killed in the second stage: the windows of the model and of the first stage are kept."""
    settings = asked(command, then=then, detail="model", output="out.mkv")
    whole = command(asked(command, then=then, detail="model", output="whole.mkv")).path
    killed(upscaling, "upscale_windows", lambda: command(settings), at=2)
    kept = [path.name for path in Path().glob(".*.partial")]
    assert sorted(kept) == [".out.mkv.partial", ".out.mkv_stage-1_s5.partial"]
    report, notes = told(command.events(settings))
    assert sum("Continuing after window" in note.text for note in notes) == 2, notes
    assert report.path.read_bytes() == whole.read_bytes() and not list(Path().glob(".*"))


KILLED = """
    import os, signal, sys
    from pathlib import Path
    import torch
    from vidiff_cli.commands.extend import extend
    from vidiff_cli.config.generate import ExtendSettings
    from vidiff_cli.generation import upscaling

    torch.set_num_threads(1)
    original, stages = upscaling.upscale_windows, []

    def upscale(*given, **more):
        stages.append(given)
        if len(stages) == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        yield from original(*given, **more)

    upscaling.upscale_windows = upscale
    extend(ExtendSettings.model_validate_json(sys.argv[1]))
"""


def test_killed_for_good_the_same_command_gives_the_same_bytes(asked, then) -> None:
    settings = asked(extend, then=then, detail="model", output="out.mkv")
    whole = extend(settings.model_copy(update={"output": Path("whole.mkv")})).path
    command = [sys.executable, "-c", textwrap.dedent(KILLED), settings.model_dump_json()]
    assert subprocess.run([*command, "2"], check=False).returncode == -signal.SIGKILL
    assert Path(".out.mkv.partial").exists() and not Path("out.mkv").exists()
    assert subprocess.run([*command, "0"], env=os.environ, check=False).returncode == 0
    assert Path("out.mkv").read_bytes() == whole.read_bytes() and not list(Path().glob(".*"))


def test_nothing_is_kept_for_another_upscaler(asked, then, killed, told) -> None:
    Path("own.safetensors").write_bytes(then[0].read_bytes())
    settings = asked(extend, then=["own.safetensors"], detail="model", output="out.mkv")
    killed(upscaling, "upscale_windows", lambda: extend(settings))
    Path("own.safetensors").write_bytes(then[1].read_bytes())
    report, notes = told(extend.events(settings))
    assert any("of other settings or another input" in note.text for note in notes)
    other = extend(asked(extend, then=then[1:], detail="model", output="other.mkv"))
    assert report.path.read_bytes() == other.path.read_bytes()


def test_stages_beyond_the_result_are_left_out(asked, then, told) -> None:
    """32 pixels need two of three; a result as large as the model's frames needs none."""
    three, notes = told(extend.events(asked(extend, then=[*then, then[0]], detail="model", output="three.mkv")))
    assert sum("is not needed" in note.text for note in notes) == 1
    assert (
        three.path.read_bytes() == extend(asked(extend, then=then, detail="model", output="two.mkv")).path.read_bytes()
    )
    small = extend(asked(extend, then=then, detail="model", size=SIDE, output="small.mkv"))
    plain = extend(asked(extend, detail="model", size=SIDE, output="plain.mkv"))
    assert small.path.read_bytes() == plain.path.read_bytes()
    assert len(json.loads(Path("three.json").read_text())["stages"]) == 3


@pytest.mark.parametrize("is_right", [True, False])
def test_the_weight_of_upscaled_frames_is_measured_on_held_back_ones(
    asked, then, film, monkeypatch: pytest.MonkeyPatch, told, is_right: bool
) -> None:
    """Upscalers that are right get nearly all of the weight, though the model makes noise; of no help, nothing."""

    def upscale(
        setup: Any, clip: Any, windows: Any, store: Any, *, seed: int, start: int = 0
    ) -> Iterator[list[Tensor]]:
        for window in windows:
            seen, (height, _) = min(window.observed), (setup.scale * side for side in clip.read([0]).shape[1:3])
            number = int(
                np.argmin(
                    [np.abs(each - store.read([seen])[0, 0, :height].astype(int)).sum() for each in large[height]]
                )
            )
            frames = large[height][[min(6, number + rank - seen) for rank in sorted(window.makes)]]
            yield [clip_from_uint8(frames if is_right else 255 - frames)]

    large = {FILM: film, 2 * SIDE: decode(Path("film.mkv"), size=(2 * SIDE, 2 * SIDE)).frames}
    monkeypatch.setattr(upscaling, "upscale_windows", upscale)
    report, notes = told(extend.events(asked(extend, then=then)))
    told_shares = [note.text for note in notes if note.text.startswith("At 32x32")]
    if is_right:
        shares = told_shares[0].removeprefix("At 32x32: ").split(" of ")[0].split()
        assert all(float(share) > 0.85 for share in shares), told_shares
        return
    assert not told_shares and any("upscalers are of no help" in note.text for note in notes)
    alone = extend(asked(extend, output="alone.mkv"))
    assert report.path.read_bytes() == alone.path.read_bytes()


def test_between_given_frames_upscalers_are_for_the_models_frames_alone(asked, then, told) -> None:
    report, notes = told(interpolate.events(asked(interpolate, then=then)))
    assert any("upscalers are taken with --detail model alone" in note.text for note in notes)
    alone = interpolate(asked(interpolate, output="alone.mkv"))
    assert report.path.read_bytes() == alone.path.read_bytes()


@COMMANDS
def test_gray_stages_follow_a_gray_model(asked, models: Path, command, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a film of color they add the same to all three colors."""
    monkeypatch.setattr(complete_video, "calibrate", partial(some_gain, constant_gain(0.1)))
    gray = {"model": models / "gray-base.safetensors", "then": [models / "gray-one.safetensors"]}
    both = frames_of(command(asked(command, **gray)).path).astype(int)
    alone = frames_of(command(asked(command, model=None, detail="estimate", output="alone.mkv")).path).astype(int)
    added, inside = both - alone, ((both > 0) & (both < 255)).all(axis=-1)
    assert np.abs(added).max() > 8 and np.ptp(added, axis=-1)[inside].max() <= 1


def test_a_photo_a_join_and_placed_pictures(asked, models: Path, then, film) -> None:
    Image.fromarray(film[0][:, :24]).save("photo.png")
    report = extend(asked(extend, input="photo.png", then=then[:1], at=("3=photo.png",), size="film"))
    made = frames_of(report.path)
    assert made.shape == (6, FILM, 24, 3) and np.array_equal(made[0], film[0][:, :24])
    assert np.array_equal(made[3], film[0][:, :24])
    earlier = extend(asked(extend, then=then, before=True, detail="model", output="earlier.mkv"))
    assert earlier.given_difference == 0 and np.array_equal(frames_of(earlier.path)[5:], film)
    joined = interpolate(asked(interpolate, factor=None, to="photo.png", gap=3, then=then, output="joined.mkv"))
    assert joined.given_difference == 0 and (joined.given, joined.made) == (8, 3)


def test_several_samples_are_upscaled_as_their_mean(asked, then) -> None:
    report = extend(asked(extend, then=then, samples=2, detail="model"))
    one = extend(asked(extend, then=then, detail="model", output="one.mkv"))
    assert not np.array_equal(frames_of(report.path), frames_of(one.path)) and report.given_difference == 0


def test_many_films_know_the_results_of_a_cascade(asked, models: Path, then) -> None:
    cascade(CascadeSettings(base=models / "base.safetensors", upscalers=tuple(then), output=Path("all")))
    settings = asked(interpolate, model="all", output="out", detail="model")
    for status in ("made", "finished"):
        assert [film.status for film in many(interpolate, settings, [Path("film.mkv")]).films] == [status]
    other = settings.model_copy(update={"then": tuple(then[:1])})
    (film,) = many(interpolate, other, [Path("film.mkv")]).films
    assert film.status == "failed" and "made otherwise" in str(film.reason)


def test_a_dry_run_says_the_stages(asked, then, told) -> None:
    before = set(Path().iterdir())
    _, notes = told(extend.events(asked(extend, then=[*then, then[1]], dry_run=True)))
    texts = [note.text for note in notes]
    assert f"{then[0]} makes its frames 2 times larger, to 16x16." in texts
    assert f"{then[1]} is not needed: the frames before it are as large as the result." in texts
    assert set(Path().iterdir()) == before


@COMMANDS
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ("--then", "base"),
            "does not make videos larger: found a model that makes videos; name an upscaler with --then",
        ),
        (("--then", "gray-one"), "found a stage of gray frames, expected one of frames in color"),
        (("--then", "missing"), "is not a model: found no such file or folder"),
        (("--size", "model", *["--then", "one"] * 12), "the result would be too large: found 32768x32768"),
    ],
)
def test_what_does_not_go_together(asked, models: Path, command, more: tuple[str, ...], said: str) -> None:
    asked(command)  # writes the film
    words = [
        str(models / f"{word}.safetensors") if (models / f"{word}.safetensors").exists() else word for word in more
    ]
    refused = vidiff(command.__name__, "film.mkv", "-m", models / "base.safetensors", *words, "-o", "out.mkv")
    assert said in sentence_of(refused)
    assert [path.name for path in Path().iterdir()] == ["film.mkv"]


def test_without_a_model_there_is_nothing_to_upscale(asked, models: Path) -> None:
    asked(extend)
    refused = vidiff("extend", "film.mkv", "--then", models / "one.safetensors", "-o", "out.mkv")
    assert "--then needs a model: found no run under runs/; name one with --model" in sentence_of(refused)
    refused = vidiff("extend", "film.mkv", "--then", models / "one.safetensors", "--detail", "estimate")
    assert refused.exit_code == 2
    assert "--detail estimate makes no frames with a model: leave out --then" in refused.stderr


def test_frames_that_do_not_fit(asked, then, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("vidiff_cli.generation.upscale_budget.available_memory", lambda device: 10_000)
        with pytest.raises(VidiffError, match=r"16x16 does not fit in memory.*take fewer stages"):
            extend(asked(extend, then=then))
    monkeypatch.setattr("vidiff_cli.generation.budget.free_bytes", lambda place: 12 * 20 * 20 * 3)
    with pytest.raises(VidiffError, match="5 frames of 32x32"):
        extend(asked(extend, then=then, detail="model"))
    assert torch.get_num_threads() == 1

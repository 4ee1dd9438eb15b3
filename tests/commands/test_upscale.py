"""upscale: larger frames, in windows that see those made before, weighed on the film itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import sentence_of, vidiff
from PIL import Image
from tiny_model import add_noise_to_weights
from torch import Tensor

from vidiff_cli.checkpoint import write_tensors
from vidiff_cli.commands.upscale import upscale
from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.upscale import UpscaleSettings
from vidiff_cli.events import Note
from vidiff_cli.generation import load_model, made_frames
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.models.video_model import new_video_model
from vidiff_cli.pixels import clip_from_uint8, clip_to_uint8
from vidiff_cli.resize import enlarge, low_resolution, resize
from vidiff_cli.sampling.tiles import DenoisePart
from vidiff_cli.video.decode import decode
from vidiff_cli.video.encode import encode
from vidiff_cli.video.probe import probe

NETWORK = {"base_channels": 8, "channel_mult": [1, 2], "patch_size": 2, "embedding": 16, "context_dim": 0}
NETWORK |= {"temporal": "convolution", "attention_max_size": 0, "upscale": 2}
WINDOW = 3


def upscaler_file(path: Path, *, noise: float = 0.05, channels: int = 3, **more: Any) -> Path:
    """A network of super-resolution with weights that do something."""
    network = NETWORK | {"channels": channels} | more
    values = {"width": 32, "height": 32, "frames": WINDOW, "fps": "8", "augmentation": 0.3, "network": network}
    settings = ModelSettings.model_validate(values | {"text": {"kind": "none"}})
    model = new_video_model(settings, 0)
    add_noise_to_weights(model, noise)
    header = {"model": settings.model_dump(mode="json"), "step": 1, "phase": "stable", "clips_seen": 10_000}
    write_tensors(path, model.state_dict(), header | {"weights": "ema"})
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return upscaler_file(tmp_path_factory.mktemp("upscaler") / "x2.safetensors")


@pytest.fixture
def asked(model: Path) -> Callable[..., UpscaleSettings]:
    """asked(input, ...): the settings of one call; lossless, and of the model's frames alone unless told otherwise."""

    def make(source: Path, **more: Any) -> UpscaleSettings:
        values = {"input": source, "model": model, "seed": 3, "dtype": "fp32", "device": "cpu", "lossless": True}
        return UpscaleSettings.model_validate(values | {"detail": "model"} | more)

    return make


def smooth(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Frames (t h w c) that move and have detail."""
    small = torch.rand(1, 3, count, -(-height // 2), -(-width // 2), generator=torch.Generator().manual_seed(seed))
    return clip_to_uint8(resize(small * 1.6 - 0.8, (height, width))[0])


def stored(frames: np.ndarray, path: str = "film.mkv", fps: str = "8") -> Path:
    encode(path, frames, Fraction(fps), lossless=True)
    return Path(path)


class Stub(UNetModel):
    """A model whose estimate is `answer(enlarged)`; what the network is shown is kept in `calls`, of which the first
    one is that of the estimate of time."""

    answer: Callable[[Tensor], Tensor]
    calls: list[tuple[Tensor, Tensor, Tensor]]

    def upscaler_part(self, low: Tensor, times: Tensor, given: Tensor, prompt: str = "", **_: Any) -> DenoisePart:
        def part(z: Tensor, level: Tensor, rows: slice, columns: slice) -> Tensor:
            type(self).calls.append((given.clone(), z.clone(), level.clone()))
            return type(self).answer(enlarge(low, 2))[..., rows, columns]

        return part


def stub(path: Path, answer: Callable[[Tensor], Tensor]) -> Stub:
    loaded = load_model.load_model(path, torch.device("cpu"), torch.float32)
    kind = type("Own", (Stub,), {"answer": staticmethod(answer), "calls": []})
    return kind(**{each.name: getattr(loaded, each.name) for each in fields(loaded)})


def knowing(*films: np.ndarray) -> Callable[[Tensor], Tensor]:
    """The film, of those known, whose frames look most like the enlarged ones."""
    known = [clip_from_uint8(film) for film in films]
    seen = [enlarge(low_resolution(film, 2), 2) for film in known]

    def answer(enlarged: Tensor) -> Tensor:
        made = enlarged.clone()
        for place in range(enlarged.shape[2]):
            best = float("inf")
            for film, shown in zip(known, seen, strict=True):
                if shown.shape[-2:] == enlarged.shape[-2:]:
                    error = (shown - enlarged[:, :, place : place + 1]).square().mean(dim=(0, 1, 3, 4))
                    if float(error.min()) < best:
                        best, made[:, :, place] = float(error.min()), film[:, :, int(error.argmin())]
        return made

    return answer


def test_with_a_perfect_denoiser_the_result_made_small_is_the_input(model: Path, asked) -> None:
    truth = smooth(8, 128, 96)
    low = clip_to_uint8(low_resolution(clip_from_uint8(truth), 2)[0])
    perfect = stub(model, knowing(truth, low))
    report = upscale(asked(stored(low), detail="both"), opened=perfect)
    made = decode(report.path).frames
    assert report.weight == 1 and (report.width, report.height, report.scale) == (96, 128, 2)
    again = clip_to_uint8(low_resolution(clip_from_uint8(made), 2)[0])
    assert np.abs(again.astype(int) - low).max() <= 1
    assert np.abs(made.astype(int) - truth).max() <= 1


def test_a_model_that_makes_noise_has_no_weight(model: Path, asked) -> None:
    noise = torch.Generator().manual_seed(1)
    noisy = stub(model, lambda enlarged: enlarged + 0.1 * torch.randn(enlarged.shape, generator=noise))
    film = stored(smooth(6, 64, 64))
    notes = [
        event.text
        for event in upscale.events(asked(film, detail="both", output="noisy.mkv"), opened=noisy)
        if isinstance(event, Note)
    ]
    assert any("of no help" in text for text in notes), notes
    assert json.loads(Path("noisy.json").read_text())["weight"] == 0
    plain = upscale(asked(film, detail="estimate", output="plain.mkv"))
    assert plain.weight is None
    assert np.array_equal(decode("noisy.mkv").frames, decode("plain.mkv").frames)


def test_half_of_a_correction_that_is_twice_too_large_is_taken(model: Path, asked) -> None:
    truth = smooth(6, 128, 128)
    low = clip_to_uint8(low_resolution(clip_from_uint8(truth), 2)[0])
    right = knowing(truth, low)
    wrong = stub(model, lambda enlarged: enlarged + 2 * (right(enlarged) - enlarged))
    assert upscale(asked(stored(low), detail="both"), opened=wrong).weight == pytest.approx(0.5, abs=0.05)


def test_a_window_observes_the_frames_made_before_bit_for_bit(model: Path, asked) -> None:
    generator = torch.Generator().manual_seed(0)
    own = stub(model, lambda enlarged: enlarged + 0.1 * torch.randn(enlarged.shape, generator=generator))
    report = upscale(asked(stored(smooth(7, 16, 20)), overlap=2), opened=own)
    made = decode(report.path).frames
    assert report.windows == len(own.calls) - 1 == 5
    for first, (given, z, level) in enumerate(own.calls[1:]):
        seen = given[0]
        assert int(seen.sum()) == (2 if first else 0)
        if first:
            places = torch.nonzero(seen)[:, 0].tolist()
            shown = clip_to_uint8(z[0, :, places])
            assert np.array_equal(shown, made[[first + place for place in places]])
            assert bool((level[0, seen] == 20).all()) and bool((level[0, ~seen] < 0).all())


def test_killed_between_windows_the_same_command_gives_the_same_bytes(asked, killed, told) -> None:
    film = stored(smooth(9, 20, 28))
    upscale(asked(film, overlap=1, output="whole.mkv"))
    killed(made_frames, "write_made", lambda: upscale(asked(film, overlap=1, output="again.mkv")), at=3)
    assert Path(".again.mkv.partial.frames").is_file() and not Path("again.mkv").exists()
    _, notes = told(upscale.events(asked(film, overlap=1, output="again.mkv")))
    assert any("Continuing after window 2" in note.text for note in notes), notes
    assert Path("again.mkv").read_bytes() == Path("whole.mkv").read_bytes()
    assert not list(Path().glob(".again*"))


def test_tiles_change_nothing(asked) -> None:
    film = stored(smooth(3, 72, 90))
    whole, tiled = (
        decode(upscale(asked(film, tile=tile, steps=3, output=f"{tile}.mkv")).path).frames for tile in (512, 32)
    )
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    assert np.abs(whole.astype(int) - decode(upscale(asked(film, detail="estimate")).path).frames).max() > 3


@pytest.mark.parametrize(
    ("size", "wanted", "result"),
    [
        ((13, 17), {}, (26, 34)),
        ((200, 8), {}, (400, 16)),
        ((8, 200), {"scale": 1.5}, (12, 300)),
        ((1, 1), {}, (2, 2)),
        ((5, 7), {"scale": 3}, (15, 21)),
        ((10, 16), {"size": 33}, (33, 52)),
    ],
)
@pytest.mark.parametrize("detail", ["both", "estimate"])
def test_any_size(asked, size: tuple[int, int], wanted: dict[str, Any], result: tuple[int, int], detail: str) -> None:
    frames = smooth(4, *size)
    report = upscale(asked(stored(frames), detail=detail, **wanted))
    made = decode(report.path).frames
    assert made.shape == (4, *result, 3) and (report.height, report.width) == result
    low = clip_to_uint8(resize(clip_from_uint8(made), size)[0])
    assert np.abs(low.astype(int) - frames).mean() < 12


def test_sides_that_the_network_does_not_take_are_filled_with_the_last_row_and_column(asked) -> None:
    frames = smooth(3, 13, 17)
    filled = np.pad(frames, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")
    odd, even = (
        decode(upscale(asked(stored(each, f"{name}.mkv"), output=f"{name}-large.mkv")).path).frames
        for name, each in (("odd", frames), ("even", filled))
    )
    assert np.array_equal(odd, even[:, :26, :34])


@pytest.mark.parametrize("name", ["photo.png", "one.mkv"])
def test_a_single_frame(asked, name: str) -> None:
    frame = smooth(1, 18, 22)
    Image.fromarray(frame[0]).save(name) if name == "photo.png" else stored(frame, name)
    report = upscale(asked(Path(name), detail="both", output=Path("out")))
    assert np.asarray(Image.open("out/000000.png")).shape == (36, 44, 3) and report.frames == 1


def test_transparency_is_flattened(asked) -> None:
    Image.new("RGBA", (16, 16), (200, 10, 10, 0)).save("clear.png")
    read = {"background": "white"}
    assert decode(upscale(asked(Path("clear.png"), detail="estimate", reading=read)).path).frames.min() > 250


def test_sound_and_rate_stay(asked, loud) -> None:
    source = loud(8)
    report = upscale(asked(source, output="large.mp4", lossless=False))
    info = probe(report.path)
    assert (info.fps, info.has_audio, info.width) == (8, True, 32) and report.fps == 8
    assert not probe(upscale(asked(source, output="mute.mp4", lossless=False, audio=False)).path).has_audio


def test_a_scale_above_the_models_takes_it_several_times(model: Path, asked) -> None:
    own = stub(model, lambda enlarged: enlarged)
    film = stored(smooth(4, 12, 12))
    report = upscale(asked(film, scale=4, output="four.mkv"), opened=own)
    shapes = [tuple(z.shape[-2:]) for _, z, _ in own.calls[1:]]
    assert shapes == [(24, 24), (48, 48)] * report.windows
    exact = upscale(asked(film, scale=3.5, output="exact.mkv"), opened=own)
    assert (exact.width, exact.scale) == (42, 3.5)


def test_no_window_sees_two_scenes(model: Path, asked) -> None:
    film = np.concatenate([np.full((6, 16, 16, 3), 20, np.uint8), np.full((5, 16, 16, 3), 230, np.uint8)])
    whole = stub(model, lambda enlarged: enlarged)
    report = upscale(asked(stored(film), overlap=2), opened=whole)
    flat = [bool(z[:, :, given[0]].std() < 1e-3) for given, z, _ in whole.calls if bool(given.any())]
    assert report.windows == 4 + 3 and len(flat) == 5 and all(flat)


def test_a_model_of_luma_keeps_the_colors(tmp_path: Path, asked) -> None:
    gray = upscaler_file(tmp_path / "gray.safetensors", channels=1)
    film = stored(smooth(4, 16, 16))
    made, plain = (
        decode(upscale(asked(film, model=gray, detail=detail, output=f"{detail}.mkv")).path).frames.astype(int)
        for detail in ("model", "estimate")
    )
    change = made - plain
    inside = (np.minimum(made, plain).min(-1) > 3) & (np.maximum(made, plain).max(-1) < 252)
    assert np.abs(change).max() > 3 and np.abs(change - change.mean(-1, keepdims=True))[inside].max() < 1.5


def test_a_sidecar_repeats_it(asked, model: Path) -> None:
    film = stored(smooth(4, 40, 36))
    first = vidiff("upscale", film, "-m", model, "--lossless", "--augmentation", "0.2", "-o", "a.mkv")
    assert first.exit_code == 0, first.stderr
    again = vidiff("upscale", "--from-json", "a.json", "-o", "b.mkv")
    assert again.exit_code == 0, again.stderr
    assert Path("a.mkv").read_bytes() == Path("b.mkv").read_bytes()


def test_compare_and_dry_run(asked) -> None:
    film = stored(smooth(5, 20, 20))
    report = upscale(asked(film, compare=True, output="out.mkv"))
    assert report.sheet == Path("out_sheet.png") and decode("out_compare.mp4").frames.shape[0] == 5
    files = set(Path().iterdir())
    plan = upscale(asked(film, dry_run=True))
    assert (plan.frames, plan.made, plan.windows) == (5, 5, 2) and set(Path().iterdir()) == files


def test_many_films(model: Path) -> None:
    Path("films").mkdir()
    for name in ("a.mkv", "b.mkv"):
        stored(smooth(4, 16, 16), f"films/{name}")
    command = ("upscale", "films", "-m", model, "-o", "large", "--seed", "1")
    first = vidiff(*command)
    assert first.exit_code == 0 and first.stdout.split() == ["large/a.mp4", "large/b.mp4"], first.stderr
    assert probe(Path("large/b.mp4")).width == 32
    again = vidiff(*command)
    assert again.exit_code == 0 and again.stdout == "" and "finished before" in again.stderr


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--size", "16"), 1, "film.mkv is not smaller than --size 16: found 20x16"),
        (("--size", "9"), 1, "choose a larger --size"),
        (("--size", "0"), 2, "--size: found 0"),
        (("--size", "16384"), 1, "the result would be too large: found 20480x16384"),
        (("--scale", "1"), 2, "--scale"),
        (("--scale", "nan"), 2, "--scale"),
        (("--scale", "1e9"), 2, "--scale"),
        (("--scale", "2", "--size", "64"), 2, "give only one of --size and --scale"),
        (("--overlap", "3"), 1, "--overlap leaves nothing to make: found 3, expected less than the window of 3"),
        (("--augmentation", "0.5"), 1, "less noise: found --augmentation 0.5, expected at most 0.3"),
        (("-o", "out.txt"), 1, "out.txt"),
    ],
)
def test_what_cannot_be(model: Path, options: tuple[str, ...], code: int, said: str) -> None:
    stored(smooth(3, 16, 20))
    files = set(Path().iterdir())
    assert said in sentence_of(vidiff("upscale", "film.mkv", "-m", model, *options), code)
    assert set(Path().iterdir()) == files


def test_frames_that_do_not_fit_in_memory(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(smooth(3, 16, 20))
    monkeypatch.setattr("vidiff_cli.generation.upscale_budget.available_memory", lambda device: 10_000)
    said = sentence_of(vidiff("upscale", "film.mkv", "-m", model))
    assert "a window of frames of 40x32 does not fit in memory" in said and "--detail estimate" in said


def test_every_command_names_the_right_kind_of_model(model: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(smooth(3, 16, 20))
    said = sentence_of(vidiff("upscale", "film.mkv", "-m", run))
    assert "does not make videos larger" in said and "vidiff train DATASET --task upscale" in said
    for command in (("sample",), ("extend", "film.mkv"), ("interpolate", "film.mkv")):
        assert "this one is for vidiff upscale" in sentence_of(vidiff(*command, "-m", model))
    monkeypatch.setattr(load_model, "builtin_upscaler", lambda scale: None)
    said = sentence_of(vidiff("upscale", "film.mkv"))
    assert "no upscaler: found no run that upscales under runs/, and none in the package" in said and "--model" in said


def test_by_guidance_a_model_of_videos_makes_frames_that_are_the_input_when_made_small(asked, run: Path) -> None:
    film = stored(smooth(7, 8, 8))
    report = upscale(asked(film, model=run, by="guidance", steps=4, prompt="a red square", detail="both"))
    made = decode(report.path).frames
    assert made.shape == (7, 16, 16, 3) and report.windows == 3
    again = clip_to_uint8(low_resolution(clip_from_uint8(made), 2)[0]).astype(int)
    assert np.abs(again - decode(film).frames).mean() < 8, "but for what clipping an untrained network's frames costs"
    plain = decode(upscale(asked(film, detail="estimate", output="plain.mkv")).path).frames
    assert np.abs(made.astype(int) - plain).mean() > 3


@pytest.mark.parametrize(
    ("size", "options", "said"),
    [
        ((8, 9), (), "makes frames of 16x16: found 9x8 in film.mkv, expected a whole fraction of that, such as 8x8"),
        ((16, 16), (), "makes frames of 16x16: found 16x16"),
        ((8, 8), ("--scale", "4"), "makes the input 2 times as large: found a scale of 4"),
        ((8, 8), ("--augmentation", "0.1"), "trained on inputs without noise"),
    ],
)
def test_what_guidance_cannot_do(run: Path, size: tuple[int, int], options: tuple[str, ...], said: str) -> None:
    stored(smooth(3, *size))
    assert said in sentence_of(vidiff("upscale", "film.mkv", "-m", run, "--by", "guidance", *options))


def test_guidance_is_for_models_of_videos(model: Path) -> None:
    stored(smooth(3, 8, 8))
    said = sentence_of(vidiff("upscale", "film.mkv", "-m", model, "--by", "guidance"))
    assert "makes videos larger: expected a model that makes videos" in said


def test_the_newest_run_of_the_right_kind_is_taken(run: Path, model: Path) -> None:
    for name, weights in (("base", run / "checkpoints/step-000006-of-000006/ema.safetensors"), ("large", model)):
        step = Path("runs") / name / "checkpoints" / "step-1"
        step.mkdir(parents=True)
        (step / "ema.safetensors").write_bytes(weights.read_bytes())
        (step.parent / "latest").write_text("step-1\n")
    assert load_model.newest_run() == Path("runs/base")
    assert load_model.newest_run(("upscale",)) == Path("runs/large")
    stored(smooth(3, 16, 20))
    assert "runs/large" in vidiff("upscale", "film.mkv", "-o", "out.mp4").stderr


def test_the_upscaler_of_the_package_is_chosen_by_scale(tmp_path: Path) -> None:
    from vidiff_cli.generation.builtin import builtin_upscaler

    assert builtin_upscaler(2, tmp_path) is None
    for scale in (4, 2):
        (tmp_path / f"upscale-x{scale}.safetensors").touch()
    (tmp_path / "model.safetensors").touch()
    names = {scale: builtin_upscaler(scale, tmp_path).stem for scale in (None, 1.5, 2, 2.5, 4, 9)}  # type: ignore[union-attr]
    assert names == {None: "upscale-x2", 1.5: "upscale-x2", 2: "upscale-x2"} | dict.fromkeys((2.5, 4, 9), "upscale-x4")

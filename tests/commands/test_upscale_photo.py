"""upscale of a photo to a picture file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import sentence_of, vidiff
from PIL import Image
from tiny_model import tiny_network, tiny_settings, write_model

from vidiff_cli.commands.upscale import upscale
from vidiff_cli.config.upscale import UpscaleSettings
from vidiff_cli.generation import upscale_video
from vidiff_cli.video import picture
from vidiff_cli.video.decode import decode

LARGE = {"patch_size": 2, "temporal": "convolution", "attention_max_size": 0, "upscale": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = tiny_settings(tiny_network(**LARGE), 32, frames=3, augmentation=0.3)
    return write_model(tmp_path_factory.mktemp("model") / "large.safetensors", settings)


@pytest.fixture
def photo() -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(noise).resize((56, 40), Image.Resampling.BICUBIC).save("photo.png")
    return Path("photo.png")


@pytest.fixture
def asked(model: Path, photo: Path) -> Callable[..., UpscaleSettings]:
    def make(**more: Any) -> UpscaleSettings:
        values = {"input": photo, "model": model, "seed": 3, "dtype": "fp32", "device": "cpu", "detail": "model"}
        return UpscaleSettings.model_validate(values | more)

    return make


def pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 1
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(
    ("name", "kind", "lossless", "off"),
    [
        ("large.png", "PNG", False, 0),
        ("large.png", "PNG", True, 0),
        ("large.WebP", "WEBP", True, 0),
        ("large.webp", "WEBP", False, 8),
        ("large.jpg", "JPEG", False, 8),
        ("sub/large.jpeg", "JPEG", False, 8),
    ],
)
def test_a_picture_holds_the_pixels_of_the_frame(asked, name: str, kind: str, lossless: bool, off: int) -> None:
    exact = decode(upscale(asked(output="video.mkv", lossless=True)).path).frames[0]
    report = upscale(asked(output=name, lossless=lossless))
    assert report.path == Path(name) and (report.frames, report.width, report.height) == (1, 112, 80)
    with Image.open(name) as image:
        assert image.format == kind
    assert np.abs(pixels(name).astype(int) - exact).mean() <= off and exact.shape == (80, 112, 3)
    told = json.loads(Path(name).with_suffix(".json").read_text())
    assert told["command"] == "upscale" and told["seed"] == 3 and told["file"] == Path(name).name
    assert vidiff("info", name).exit_code == 0


def test_without_a_name_a_photo_becomes_a_png(model: Path, photo: Path) -> None:
    done = vidiff("upscale", photo, "-m", model, "--seed", "3")
    assert done.exit_code == 0 and done.stdout == "photo-upscaled_s3_1f_112x80.png\n", done.stderr
    again = vidiff("upscale", "--from-json", "photo-upscaled_s3_1f_112x80.json", "-o", "again.png")
    assert again.exit_code == 0 and np.array_equal(pixels("again.png"), pixels(done.stdout.strip())), again.stderr


def test_of_several_inputs_photos_become_pictures_and_films_films(model: Path, photo: Path, clip) -> None:
    done = vidiff("upscale", photo, clip(3, name="film.mkv"), "-m", model, "--seed", "3", "-o", "large")
    assert done.exit_code == 0 and sorted(done.stdout.split()) == ["large/film.mp4", "large/photo.png"], done.stderr
    assert pixels("large/photo.png").shape == (80, 112, 3)
    said = sentence_of(vidiff("upscale", photo, "film.mkv", "-m", model, "-o", "large.png"), 2)
    assert "several inputs need a folder for their results: found -o large.png" in said


def test_nothing_is_replaced_unasked(asked, photo: Path) -> None:
    Path("large.png").write_bytes(b"mine")
    before = photo.read_bytes()
    for name in ("large.png", "photo.png"):
        said = sentence_of(vidiff("upscale", "photo.png", "--detail", "estimate", "-o", name))
        assert said.startswith(f"{name} exists")
    assert Path("large.png").read_bytes() == b"mine" and photo.read_bytes() == before
    upscale(asked(output="large.png", overwrite=True))
    assert pixels("large.png").shape == (80, 112, 3)


def test_killed_it_leaves_nothing_half_written(asked, killed) -> None:
    whole = upscale(asked(output="whole.png"))
    killed(picture, "_save", lambda: upscale(asked(output="large.png")))
    assert not Path("large.png").exists()
    killed(upscale_video.OutputTarget, "finish", lambda: upscale(asked(output="large.png")))
    upscale(asked(output="large.png"))
    assert Path("large.png").read_bytes() == whole.path.read_bytes() and not list(Path().glob(".*"))


def test_transparent_pixels_lie_before_the_background(asked) -> None:
    Image.new("RGBA", (16, 16), (200, 10, 10, 0)).save("photo.png")
    upscale(asked(detail="estimate", output="large.png", reading={"background": "white"}))
    with Image.open("large.png") as image:
        assert image.mode == "RGB" and np.asarray(image).min() > 250


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-o", "out.txt"), "cannot write out.txt: found .txt, expected .png, .jpg, .jpeg, .webp, a folder for a PNG"),
        (("-o", "out.tif"), "cannot write out.tif: found .tif"),
        (("-o", ".png"), ".png is an extension without a name"),
        (("-o", "out.jpg", "--lossless"), "a picture in .jpg cannot be lossless: expected .png, .webp"),
        (("-o", "out.webp", "--size", "16000"), "out.webp cannot be that large: found 22400x16000; write a .png"),
    ],
)
def test_what_cannot_be_written(photo: Path, options: tuple[str, ...], said: str, monkeypatch) -> None:
    monkeypatch.setattr("vidiff_cli.generation.upscale_budget.LONGEST_SIDE", 30_000)
    assert said in sentence_of(vidiff("upscale", photo, "--detail", "estimate", *options))
    assert [path.name for path in Path().iterdir()] == ["photo.png"]


def test_a_film_is_no_picture(clip) -> None:
    said = sentence_of(vidiff("upscale", clip(3), "--detail", "estimate", "-o", "out.png"))
    assert "cannot write out.png: found .png, expected .gif, .mkv" in said and not Path("out.png").exists()

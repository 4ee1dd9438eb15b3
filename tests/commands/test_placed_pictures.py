"""--at: pictures at given places of a result."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.config.generate import ExtendSettings, parse_at
from vidiff_cli.errors import VidiffError
from vidiff_cli.video.decode import decode
from vidiff_cli.video.encode import encode

SIDE = 16


def picture(name: str, level: int, *, width: int = SIDE, height: int = SIDE) -> np.ndarray:
    frame = np.full((height, width, 3), level, np.uint8)
    frame[: height // 2, : width // 2] = 255 - level
    Image.fromarray(frame).save(name)
    return frame


def film(name: str, count: int) -> list[np.ndarray]:
    ramp = np.tile(np.linspace(20, 230, SIDE).astype(np.uint8)[None, :, None], (SIDE, 1, 3))
    frames = [np.roll(ramp, shift, axis=1) for shift in range(count)]
    encode(name, frames, Fraction(8), lossless=True)
    return frames


def made(report) -> np.ndarray:
    return decode(report.path).frames


@pytest.mark.parametrize("detail", ["estimate", "model", "both"])
def test_a_photo_leads_to_other_pictures(settings, detail: str) -> None:
    first, second, third = (picture(f"{name}.png", level) for name, level in (("a", 40), ("b", 120), ("c", 200)))
    asked = settings("extend", input=Path("a.png"), num_frames=14, at=("6=b.png", "1.25s=c.png"), fps="8")
    more = {"detail": detail, "size": "film", "lossless": True, "output": Path("out.mkv")}
    report = extend(asked.model_copy(update=more | ({"model": None} if detail == "estimate" else {})))
    frames = made(report)
    assert (report.given, report.made, len(frames)) == (3, 12, 15)
    for place, expected in ((0, first), (6, second), (10, third)):
        assert np.array_equal(frames[place], expected)
    if detail == "estimate":  # what is between two pictures lies between them
        assert (np.diff(frames[:11].mean(axis=(1, 2, 3))) >= 0).all()


@pytest.mark.parametrize("before", [False, True])
def test_a_film_goes_on_to_a_picture(settings, before: bool) -> None:
    given, target = film("film.mkv", 6), picture("b.png", 90)
    place = 1 if before else 9
    more = {"before": before, "detail": "estimate", "size": "film", "lossless": True, "model": None}
    report = extend(settings("extend", input=Path("film.mkv"), num_frames=5, at=(f"{place}=b.png",), **more))
    frames = made(report)
    assert (report.given, report.made) == (7, 4)
    assert np.array_equal(frames[place], target)
    assert np.array_equal(frames[5:] if before else frames[:6], given)


def test_a_loop_passes_a_picture(settings) -> None:
    given, target = film("film.mkv", 6), picture("b.png", 90)
    report = extend(
        settings("extend", input=Path("film.mkv"), num_frames=5, loop=True, at=("8=b.png",), size="film", lossless=True)
    )
    frames = made(report)
    assert np.array_equal(frames[8], target) and np.array_equal(frames[:6], given)


@pytest.mark.parametrize(("more", "place", "at"), [({"factor": 2}, 5, "5"), ({"slow_motion": 3}, 7, "0.875s")])
def test_between_the_frames_of_a_film(settings, more: dict, place: int, at: str) -> None:
    given, target = film("film.mkv", 6), picture("b.png", 90)
    common = {"size": "film", "lossless": True, "output": Path("out.mkv")}
    report = interpolate(settings("interpolate", input=Path("film.mkv"), at=(f"{at}=b.png",), **common, **more))
    frames, factor = made(report), more.get("factor", 3)
    assert np.array_equal(frames[place], target) and np.array_equal(frames[:16:factor], given[: -(-16 // factor)])
    assert report.given == 7


def test_between_two_photos(settings) -> None:
    for name, level in (("a", 40), ("b", 120), ("c", 200)):
        picture(f"{name}.png", level)
    asked = settings("interpolate", input=Path("a.png"), to=Path("c.png"), gap=7, at=("4=b.png",), fps="8")
    report = interpolate(asked.model_copy(update={"size": "film", "lossless": True, "output": Path("out.mkv")}))
    assert report.given == 3 and report.frames == 9 and np.array_equal(made(report)[4], decode("b.png").frames[0])


def test_a_picture_of_another_size_is_made_to_fit(settings) -> None:
    film("film.mkv", 6)
    picture("wide.png", 90, width=64, height=32)
    report = extend(
        settings("extend", input=Path("film.mkv"), num_frames=4, at=("8=wide.png",), size="film", lossless=True)
    )
    frame = made(report)[8].astype(int)
    assert frame.shape == (SIDE, SIDE, 3) and abs(frame[-1, -1, 0] - 90) <= 1 and abs(frame[0, 0, 0] - 165) <= 1


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (("10=b.png",), "lies outside the result: expected a frame from 0 to 9, or up to 1.125s"),
        (("9s=b.png",), "lies outside the result"),
        (("5=b.png",), "lies where the input is shown: found frame 5, expected a frame that is made, such as 6 or 9"),
        (("0=b.png",), "lies where the input is shown"),
        (("7=b.png", "0.875s=b.png"), "has the place of another picture"),
        (("7=film.mkv",), "is not a picture: found a video"),
        (("7=none.png",), "none.png does not exist"),
        (("7=text.png",), "text.png"),
    ],
)
def test_what_cannot_be_placed_is_refused(settings, at: tuple[str, ...], words: str) -> None:
    film("film.mkv", 6)
    picture("b.png", 90)
    Path("text.png").write_text("no picture")
    with pytest.raises(VidiffError, match=words.replace(".", r"\.")):
        extend(settings("extend", input=Path("film.mkv"), num_frames=4, at=at, output=Path("out.mkv")))
    assert not Path("out.mkv").exists()


def test_places_as_they_are_written() -> None:
    assert parse_at("40=a=b.png") == (40, None, Path("a=b.png"))
    assert parse_at("1.5s=x.png") == (None, Fraction(3, 2), Path("x.png"))
    for wrong in ("x.png", "=x.png", "1.5=x.png", "-1=x.png", "4=", "1e9s=x.png", "99999999999=x.png"):
        with pytest.raises(ValueError, match="PLACE=FILE"):
            ExtendSettings(input=Path("in.mp4"), at=(wrong,))

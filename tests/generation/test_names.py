"""Laws of the names and sizes that are derived from what a person gives."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidiff_cli.config.generate import SampleSettings
from vidiff_cli.config.model import NetworkSettings
from vidiff_cli.generation.output_files import OutputOptions, sheet_path, slug
from vidiff_cli.generation.resume_journal import journal_path
from vidiff_cli.generation.sample_call import output_paths
from vidiff_cli.generation.sidecar import sidecar_path
from vidiff_cli.generation.source_clip import network_size


@dataclass
class Sized:
    """All of a model that sizes depend on."""

    width: int
    height: int
    multiple: int
    fixed_size: bool = False
    only_between: bool = False


def model(width: int = 16, height: int = 16, *, patch: int = 2, levels: int = 2) -> Sized:
    network = NetworkSettings(patch_size=patch, channel_mult=(1,) * levels)
    return Sized(width=width, height=height, multiple=network.multiple)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_a_slug_is_a_safe_file_name(text: str) -> None:
    name = slug(text)
    assert 0 < len(name) <= 50 and len(os.fsencode(name)) <= 150
    assert all(letter.isalnum() or letter == "-" for letter in name)
    assert name[0] != "-" and name[-1] != "-" and "--" not in name
    assert slug(name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A red circle, moving right!", "a-red-circle-moving-right"),
        ("../../etc/passwd", "etc-passwd"),
        (".hidden", "hidden"),
        ("", "video"),
        ("🙂", "video"),
        ("Größe 3/4 \\ $HOME `x`", "größe-3-4-home-x"),
        ("-rf *", "rf"),
        ("x\0y\nz", "x-y-z"),
    ],
)
def test_slugs(text: str, name: str) -> None:
    assert slug(text) == name


@settings(deadline=None)
@given(st.lists(st.text(max_size=60), min_size=2, max_size=6), st.integers(0, 2**31))
def test_every_video_gets_a_file_of_its_own(prompts: list[str], seed: int) -> None:
    for output in (None, Path("folder"), Path("out.webm")):
        options = OutputOptions.from_record("sample", output, SampleSettings().model_dump(mode="json"))
        paths = output_paths(options, prompts, seed, "8f_16x16")
        assert len({sidecar_path(path) for path in paths} | set(paths)) == 2 * len(prompts)
        assert all(path.parent == (output if output == Path("folder") else Path()) for path in paths)
        assert all(path.suffix == (output.suffix if output and output.suffix else ".mp4") for path in paths)


def test_names_beside_a_video() -> None:
    assert sidecar_path(Path("a/out.mp4")) == Path("a/out.json")
    assert sidecar_path(Path("a/frames")) == Path("a/frames.json")
    assert sheet_path(Path("a/out.mp4")) == Path("a/out_sheet.png")
    assert journal_path(Path("a/out.mp4")) == Path("a/.out.mp4.partial")


SIDES = st.integers(1, 5000)


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(1, 8), st.integers(1, 8), st.sampled_from([1, 2, 4]), st.integers(1, 3))
def test_network_size(width: int, height: int, across: int, down: int, patch: int, levels: int) -> None:
    """The short side is the model's; the long side is cropped by less than one multiple; nothing is stretched."""
    multiple = patch * 2 ** (levels - 1)
    scaled, crop = network_size(width, height, model(across * multiple, down * multiple, patch=patch, levels=levels))  # type: ignore[arg-type]
    short = min(across, down) * multiple
    assert min(scaled) == min(crop) == short
    assert all(side % multiple == 0 and 0 <= whole - side < multiple for whole, side in zip(scaled, crop, strict=True))
    assert (scaled[0] >= scaled[1]) == (width >= height) or scaled[0] == scaled[1]
    assert abs(max(scaled) * min(width, height) - max(width, height) * short) <= min(width, height) / 2
    assert network_size(*crop, model(short, short, patch=patch, levels=levels)) == (crop, crop)  # type: ignore[arg-type]

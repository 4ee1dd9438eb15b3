"""prep --gray: the luma of the frames that it stores otherwise, in a third of the bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import content
from PIL import Image

from vidiff_cli.commands.export import export
from vidiff_cli.commands.info import info
from vidiff_cli.commands.info.dataset import DatasetInfo
from vidiff_cli.commands.prep import prep
from vidiff_cli.commands.preview import preview
from vidiff_cli.config.export import ExportSettings
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.config.preview import PreviewSettings
from vidiff_cli.dataset.dataset import Dataset, open_dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.luma import to_gray, to_rgb
from vidiff_cli.preparation import decode as prep_decode
from vidiff_cli.video.decode import decode


def settings(source: Path, output: Path, **more: Any) -> PrepSettings:
    standard: dict[str, Any] = {"size": 16, "frames": 8, "preview": 0, "workers": 1}
    standard |= {"min_contrast": 0, "min_difference": 0}
    return PrepSettings.model_validate({"sources": (str(source),), "output": output, **standard, **more})


@pytest.fixture(scope="module")
def sources(tmp_path_factory, make_clip) -> Path:
    """Two videos, and a still image."""
    folder = tmp_path_factory.mktemp("sources")
    make_clip(folder / "a.mp4", frames=20)
    make_clip(folder / "b.mp4", frames=9, size="32x48")
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "still.png")
    return folder


@pytest.fixture(scope="module")
def pair(sources: Path, tmp_path_factory) -> tuple[Dataset, Dataset]:
    """The dataset of the sources in color, and in gray."""
    folder = tmp_path_factory.mktemp("pair")
    prep(settings(sources, folder / "color", gray=False))
    prep(settings(sources, folder / "gray", gray=True, preview=8))
    return open_dataset(folder / "color"), open_dataset(folder / "gray")


def test_every_clip_is_the_luma_of_the_color_one(pair: tuple[Dataset, Dataset]) -> None:
    """Videos and stills; the rows, the scores and the split are the same."""
    color, gray = pair
    assert (color.spec.channels, gray.spec.channels) == (3, 1)
    assert len(gray) == len(color) == 4 and any(clip.fps == "0" for clip in gray.clips)
    assert list(gray.clips) == list(color.clips)
    for index in range(len(gray)):
        expected = to_gray(color.frames(index))
        assert np.array_equal(gray.view(index), expected) and np.array_equal(gray.frames(index, [0]), expected[:1])
        assert np.array_equal(gray.rgb(index), to_rgb(expected))
        assert np.array_equal(color.rgb(index), color.frames(index))
    payload = [sum(shard.size - shard.data_start for shard in each.index.shards) for each in pair]
    assert payload[0] == 3 * payload[1]


def test_one_call_and_an_interrupted_one_make_the_same_bytes(sources, pair, tmp_path, monkeypatch) -> None:
    """What an interrupted run in color has decoded is not taken for gray."""
    output, original = tmp_path / "out", prep_decode._decoded

    def two_of_them(*arguments: Any) -> Any:
        for number, each in enumerate(original(*arguments)):
            if number == 2:
                raise KeyboardInterrupt
            yield each

    for gray in (False, True):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(prep_decode, "_decoded", two_of_them)
            prep(settings(sources, output, gray=gray))
    report = prep(settings(sources, output, gray=True, preview=8))
    assert report.resumed >= 2
    made, expected = content(output), content(pair[1].folder)
    assert made == expected


def test_a_switched_option_is_another_dataset(sources: Path, tmp_path: Path) -> None:
    """Refused in one sentence both ways; a dataset.json from before the option counts as color."""
    output = tmp_path / "out"
    prep(settings(sources, output))
    spec = json.loads((output / "dataset.json").read_text())
    assert spec.pop("channels") == 3 and spec["settings"].pop("gray") is False
    (output / "dataset.json").write_text(json.dumps(spec))
    assert prep(settings(sources, output)).already_complete and open_dataset(output).spec.channels == 3
    with pytest.raises(VidiffError, match="made with other settings: found gray = False there, expected True"):
        prep(settings(sources, output, gray=True))
    assert not prep(settings(sources, output, gray=True, overwrite=True)).already_complete
    assert open_dataset(output).frames(0).shape[-1] == 1
    with pytest.raises(VidiffError, match="found gray = True there"):
        prep(settings(sources, output))


def test_clips_that_differ_in_color_alone_are_alike_in_gray(tmp_path: Path) -> None:
    for name, color in (("a", (100, 100, 100)), ("b", (0, 149, 110))):  # both of luma 100
        pixels = np.zeros((16, 16, 3), np.uint8)
        pixels[:, 8:] = color
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    for gray, clips in ((False, 2), (True, 1)):
        more = {"min_difference": 12, "images": "stills", "val_fraction": 0}
        assert prep(settings(tmp_path, tmp_path / f"out-{gray}", gray=gray, **more)).clips == clips


def test_a_damaged_count_of_channels_is_one_sentence(pair: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    shutil.copytree(pair[1].folder, tmp_path / "copy")
    path = tmp_path / "copy" / "dataset.json"
    text = path.read_text()
    for channels, message in ((3, "is damaged"), (2, "channels")):
        path.write_text(text.replace('"channels": 1', f'"channels": {channels}'))
        with pytest.raises(VidiffError, match=message) as error:
            open_dataset(path.parent)
        assert "\n" not in str(error.value)


def test_gray_clips_are_shown_described_and_exported(pair: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    gray = pair[1]
    about = info(gray.folder)
    assert isinstance(about, DatasetInfo) and about.channels == 1
    assert (gray.folder / "preview.png").is_file()
    report = preview(PreviewSettings(path=gray.folder))
    for strip in report.strips:
        assert strip is not None and strip.shape[-1] == 3 and np.ptp(strip, axis=-1).max() == 0
    preview(PreviewSettings(path=gray.folder, output=tmp_path / "gallery.html"))
    export(ExportSettings(dataset=gray.folder, output=tmp_path / "export", lossless=True))
    found = sorted((tmp_path / "export").rglob("clip-*.mkv"))
    assert len(found) == len(gray)
    for path in found:
        number = int(path.stem.removeprefix("clip-"))
        assert np.array_equal(decode(path).frames, gray.rgb(number))


def test_previews_of_rejected_clips_are_made(sources: Path, tmp_path: Path) -> None:
    prep(settings(sources, tmp_path / "out", gray=True, min_motion=1000.0, preview=4))
    assert (tmp_path / "out" / "rejected.png").is_file()

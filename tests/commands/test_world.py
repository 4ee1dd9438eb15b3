"""`vidiff world shapes`: complete, reproducible folders, or none at all."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from command_line import sentence_of, vidiff

from vidiff_cli.commands import world as world_task
from vidiff_cli.commands.world import world
from vidiff_cli.config.world import FilmFolderSettings, WorldSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Progress
from vidiff_cli.video.decode import decode
from vidiff_cli.worlds import films
from vidiff_cli.worlds.film_draws import draw_film
from vidiff_cli.worlds.oracle import read_shape
from vidiff_cli.worlds.scene_oracle import detect_objects as read_scene
from vidiff_cli.worlds.shapes import draw_numbered, render
from vidiff_cli.worlds.splits import held_out


def settings_for(folder: Path, **other: object) -> WorldSettings:
    return WorldSettings.model_validate({"folder": folder, "clips": 6, "seed": 5} | other)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_clips_captions_and_truth_agree_with_the_oracle(tmp_path: Path) -> None:
    report = world(settings_for(tmp_path / "new" / "clips"))
    assert (report.clips, report.captions, report.seed) == (6, 6, 5)
    truths = json.loads((report.folder / "trajectories.json").read_text())
    assert len(truths) == 6 and len(names(report.folder)) == 13
    for number, truth in enumerate(truths):
        decoded = decode(report.folder / truth["file"])
        assert decoded.frames.shape == (16, 16, 16, 3) and decoded.fps == Fraction(truth["fps"]) == 8
        seen = read_shape(decoded.frames)
        assert seen.attributes == truth["attributes"]
        assert np.abs(seen.positions - np.asarray(truth["positions"])).max() < 0.2
        caption = (report.folder / truth["file"]).with_suffix(".txt").read_text()
        assert caption == truth["caption"] + "\n" == draw_numbered(5, number).caption + "\n"
        assert np.abs(decoded.frames.astype(int) - render(draw_numbered(5, number))).mean() < 4


def test_films_are_written_without_captions(tmp_path: Path) -> None:
    report = world(FilmFolderSettings(folder=tmp_path / "films", clips=2, size=32, frames=5, seed=5))
    assert names(report.folder) == ["clip-00000.mp4", "clip-00001.mp4", "trajectories.json"] and report.captions == 0
    decoded = decode(report.folder / "clip-00001.mp4")
    drawn = films.render(draw_film(5, 1), np.arange(5) / 24, canvas=32)
    assert decoded.fps == 24 and np.abs(decoded.frames.astype(int) - drawn).mean() < 8


def test_a_clip_depends_on_the_seed_and_its_number_alone(tmp_path: Path) -> None:
    few, more = (world(settings_for(tmp_path / str(clips), clips=clips)).folder for clips in (2, 4))
    other = world(settings_for(tmp_path / "other", clips=2, seed=6)).folder
    for name in ("clip-00000.mp4", "clip-00001.mp4", "clip-00001.txt"):
        assert (few / name).read_bytes() == (more / name).read_bytes()
    assert (few / "clip-00000.mp4").read_bytes() != (other / "clip-00000.mp4").read_bytes()


def test_a_folder_in_use_is_refused_and_overwrite_replaces_only_clips(tmp_path: Path) -> None:
    folder = world(settings_for(tmp_path / "clips")).folder

    def refused(sentence: str, place: Path = folder, **more: object) -> None:
        before = contents(folder)
        with pytest.raises(VidiffError, match=sentence):
            world(settings_for(place, **more))
        assert contents(folder) == before

    refused(r"not empty.*overwrite")
    (folder / ".world-left").mkdir()
    world(settings_for(folder, clips=2, overwrite=True))
    assert len(names(folder)) == 5
    (folder / "holiday.mp4").write_bytes(b"mine")
    refused(r"holds other files.*holiday", overwrite=True)
    refused("not a folder", folder / "holiday.mp4")


@pytest.mark.parametrize("existed", [False, True])
def test_nothing_stays_of_a_run_that_fails_or_is_stopped(tmp_path: Path, monkeypatch, existed) -> None:
    folder = tmp_path / "clips"
    if existed:
        folder.mkdir()
    steps = world.events(settings_for(folder))
    next(event for event in steps if isinstance(event, Progress))
    steps.close()
    assert folder.exists() == existed and not list(tmp_path.rglob("clip-*"))

    def fail(*_: object, **__: object) -> int:
        raise VidiffError("the disk is full")

    monkeypatch.setattr(world_task, "encode", fail)
    with pytest.raises(VidiffError, match="disk is full"):
        world(settings_for(folder))
    assert folder.exists() == existed and not list(tmp_path.rglob("*-*"))


def test_clips_that_a_world_does_not_have_are_one_sentence(tmp_path: Path) -> None:
    """Before anything is written."""
    larger = [{"frames": 17, "size": 32}, {"size": 8}, {"fps": "4", "size": 32}]
    cases = [({"frames": 18, "seed": seed}, "at most 17 frames") for seed in range(4)]
    cases += [({"part": "one", **wrong}, "larger world") for wrong in larger]
    for more, sentence in cases:
        with pytest.raises(VidiffError, match=sentence):
            world(settings_for(tmp_path / "clips", **more))
    assert names(tmp_path) == []


def test_the_command_prints_the_folder_or_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain = vidiff("world", "shapes", "clips", "-n", "2", "--seed", "1", "--fps", "12")
    assert (plain.exit_code, plain.stdout) == (0, "clips\n") and "seed 1" in plain.stderr
    as_json = vidiff("world", "shapes", "more", "-n", "1", "--size", "32", "--json", "--quiet")
    assert json.loads(as_json.stdout)["clips"] == 1 and as_json.stderr == ""
    assert "--overwrite" in sentence_of(vidiff("world", "shapes", "clips", "-n", "2"))
    assert decode(tmp_path / "clips" / "clip-00001.mp4").fps == 12


@pytest.mark.parametrize("part", ["straight", "whole"])
def test_clips_of_the_larger_world_are_read_back_by_its_oracle(tmp_path: Path, part: str) -> None:
    report = world(settings_for(tmp_path / "clips", part=part, side="held-out", size=32, clips=4))
    for truth in json.loads((report.folder / "trajectories.json").read_text()):
        decoded = decode(report.folder / truth["file"])
        seen = read_scene(decoded.frames, np.arange(16) / 8)
        told = {thing["color"]: thing for thing in truth["things"]}
        assert seen.ground == truth["ground"]
        assert {thing.words["color"]: thing.words for thing in seen.things} == told
        assert all(held_out(t["color"], t["shape"], t["direction"] or t["motion"]) for t in truth["things"])
        for thing, positions in zip(truth["things"], truth["positions"], strict=True):
            found = next(one for one in seen.things if one.words["color"] == thing["color"])
            assert np.abs(found.centers * 32 - np.asarray(positions)).max() < 0.4

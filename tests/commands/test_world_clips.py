"""`train world:shapes` and `world:films`: clips without files, the same ones for every process and every resume."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import assert_same_training, config_of, rows_of

from vidiff_cli.commands.info import info
from vidiff_cli.commands.train import train
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.config.world import FilmSettings, StreamSettings
from vidiff_cli.dataset.world_dataset import FilmClips, WorldClips, open_clips
from vidiff_cli.errors import VidiffError
from vidiff_cli.text.learned import LearnedText
from vidiff_cli.worlds import films
from vidiff_cli.worlds.film_draws import draw_film
from vidiff_cli.worlds.scenes import render
from vidiff_cli.worlds.splits import draw_scene, held_out

FILMS = {"size": 16, "clips": 4, "held_out": 1}
SMALL = {"part": "straight", "size": 16, "clips": 40, "held_out": 6}


def test_clips_are_the_scenes_of_their_numbers_and_the_last_ones_are_held_out() -> None:
    world = WorldClips(StreamSettings(part="whole", size=16, fps="16", clips=40, held_out=6, seed=3))
    assert len(world) == 46 and world.view(0).shape == (31, 16, 16, 3)
    assert [len(world.split(side)) for side in ("train", "val")] == [40, 6]
    for number in (0, 39, 40, 45):
        scene = draw_scene("whole", 3, number % 40, side="train" if number < 40 else "held-out")
        assert world.clips[number].captions == [scene.caption]
        assert np.array_equal(world.view(number), render(scene, np.arange(31) / 16, canvas=16))
        assert all(held_out(t.color, t.shape, t.move) == (number >= 40) for t in scene.things)


def test_a_clip_is_a_function_of_its_number_in_any_process_and_other_settings_are_another_digest() -> None:
    world = WorldClips(StreamSettings.model_validate(SMALL))
    again = pickle.loads(pickle.dumps(world))
    assert np.array_equal(world.view(7), again.view(7)) and world.digest() == again.digest()
    assert world.digest() != WorldClips(StreamSettings.model_validate(SMALL | {"seed": 1})).digest()
    for clips in (world, FilmClips(FilmSettings.model_validate(FILMS))):
        for index in (1, len(clips) - 1):
            assert np.array_equal(clips.window(index, range(2, 13, 5)), clips.view(index)[2:13:5])


def test_films_are_drawn_by_their_numbers_and_have_no_captions() -> None:
    world = pickle.loads(pickle.dumps(FilmClips(FilmSettings.model_validate(FILMS | {"seed": 3}))))
    assert len(world) == 5 and world.view(0).shape == (25, 16, 16, 3)
    assert [len(world.split(side)) for side in ("train", "val")] == [4, 1]
    assert [clip.captions for clip in world.clips] == [[]] * 5 and world.captions() == ()
    for index in (3, 4):
        film = draw_film(3, index % 4, held_out=index >= 4)
        assert np.array_equal(world.view(index), films.render(film, world.seconds, canvas=16))
    assert world.digest() != FilmClips(FilmSettings.model_validate(FILMS)).digest()


def test_films_are_trained_on_without_text(tmp_path: Path, training, told) -> None:
    """And held-out ones are validated on."""
    settings = training(Path("world:films"), tmp_path / "run", steps=2, films=FILMS, validate_every=2)
    run = train(settings.model_copy(update={"text": TrainSettings().text})).run
    model = config_of(run)["model"]
    assert model["text"]["kind"] == "none" and model["fps"] == "24"
    assert any("validation_loss" in row for row in rows_of(run))
    assert told(info.events(run))[0].dataset == "world:films"


def test_training_needs_no_files_knows_the_words_and_resumes_exactly(tmp_path: Path, training, told) -> None:
    def settings(name: str, steps: int, **more: Any) -> TrainSettings:
        return training(Path("world:shapes"), tmp_path / name, steps=steps, world=SMALL | more)

    for name, steps in (("part", 3), ("part", 6), ("whole", 6)):
        train(settings(name, steps))
    assert_same_training(tmp_path / "whole", tmp_path / "part")
    config = config_of(tmp_path / "whole")
    assert config["train"]["world"]["part"] == "straight" and config["model"]["frame_strides"] == [1, 2, 4]
    words = LearnedText(config["model"]["text"]["vocabulary"]).unknown_words("a cyan disc surfing to the upper left")
    assert words == ("surfing",)
    about, notes = told(info.events(tmp_path / "whole"))
    assert about.dataset == "world:shapes" and not [note for note in notes if "not to be found" in note.text]
    with pytest.raises(VidiffError, match=r"world\.part|other clips"):
        train(settings("whole", 6, part="one"))


def test_what_there_is_not_is_said_in_one_sentence(training) -> None:
    """And a folder of a world's name is a dataset."""
    settings = training(Path("world:shapes"), Path("run"))
    for more, message in (
        ({"dataset": Path("world:cats")}, "unknown world"),
        ({"text": {"kind": "clip"}}, "too many for CLIP"),
    ):
        with pytest.raises(VidiffError, match=message):
            open_clips(TrainSettings.model_validate(settings.model_dump() | more))
    Path("world:shapes").mkdir()
    with pytest.raises(VidiffError, match=r"dataset\.json"):
        open_clips(settings)

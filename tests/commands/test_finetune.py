"""train --from: a new run from the averaged weights of another one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import assert_same_training, config_of, newest
from safetensors.torch import load_file

from vidiff_cli.checkpoint import read_header, write_tensors
from vidiff_cli.commands.train import train
from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.run_config import read_run_config
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.load_model import find_checkpoint
from vidiff_cli.models.video_model import VideoNetwork, new_video_model, open_video_model
from vidiff_cli.runs.finetune import EMBEDDING, MOTION, inherited, load_initial_weights
from vidiff_cli.training.state import TrainState


@pytest.fixture
def change(run: Path) -> Callable[..., ModelSettings]:
    """change(network={...}, width=32): the settings of the run's model, changed."""
    model = open_video_model(find_checkpoint(run))[0].settings.model_dump(mode="json")

    def make(**changes: object) -> ModelSettings:
        merged = {name: model[name] | value if isinstance(value, dict) else value for name, value in changes.items()}
        return ModelSettings.model_validate(model | merged)

    return make


def test_all_weights_are_taken_over_and_the_average_begins_with_them(run, change, training, dataset, tmp_path) -> None:
    path = find_checkpoint(run)
    video_model, averages = new_video_model(change(), seed=9), load_file(path)
    load_initial_weights(video_model, path)
    assert all(torch.equal(value, averages[name]) for name, value in video_model.state_dict().items())
    state = TrainState(video_model, TrainSettings().optimizer)
    assert all(torch.equal(state.ema.shadow[name], averages[name]) for name in averages)
    train(training(dataset, tmp_path / "run", steps=1, start_from=run, optimizer={"lr": 1e-9, "warmup": 0}))
    made = load_file(newest(tmp_path / "run") / "ema.safetensors")
    assert all(torch.allclose(made[key], averages[key], atol=1e-6) for key in averages)


def test_motion_begins_at_nothing_where_the_checkpoint_knows_none(run, training, dataset, tmp_path, change) -> None:
    """Its other weights are taken over; a network that was shown motion cannot do without."""
    train(training(dataset, tmp_path / "plain", steps=1, motion=False))
    path = find_checkpoint(tmp_path / "plain")
    video_model = new_video_model(change(), seed=9)
    assert video_model.settings.network.motion
    load_initial_weights(video_model, path)
    found, averages = video_model.state_dict(), load_file(path)
    new = found.keys() - averages.keys()
    assert len(new) == 3 and all(name.startswith(MOTION) and not found[name].any() for name in new)
    assert all(torch.equal(found[name], value) for name, value in averages.items())
    train(training(dataset, tmp_path / "tuned", steps=1, start_from=tmp_path / "plain"))
    assert open_video_model(find_checkpoint(tmp_path / "tuned"))[0].settings.network.motion
    with pytest.raises(VidiffError, match=r"keep a share of clips with given frames, such as .*observed=0\.1"):
        load_initial_weights(new_video_model(change(network={"motion": False}), seed=9), find_checkpoint(run))


def test_known_words_keep_their_rows_and_new_ones_are_fresh(run: Path, change: Callable[..., ModelSettings]) -> None:
    path = find_checkpoint(run)
    old = open_video_model(path)[0]
    words = old.settings.text.vocabulary
    new = [word for word in range(5, 4000, 7) if word not in words][:9]
    new.append(max(words) + 1)
    model = change(text={"vocabulary": sorted([*words, *new])})
    fresh, video_model = new_video_model(model, seed=9), new_video_model(model, seed=9)
    load_initial_weights(video_model, path)
    table, before, first = (each.state_dict()[EMBEDDING] for each in (video_model, old, fresh))
    row = {word: place for place, word in enumerate(model.text.vocabulary, start=1)}
    assert torch.equal(table[0], before[0])
    for place, word in enumerate(words, start=1):
        assert torch.equal(table[row[word]], before[place])
    assert all(torch.equal(table[row[word]], first[row[word]]) for word in new)
    told = ["a red square moving left"]
    pooled = [each.text(each.text.read(told)).pooled for each in (video_model, old)]  # type: ignore[union-attr, operator, misc]
    assert torch.equal(*pooled)


def test_another_frame_size_is_allowed_where_the_network_takes_it(run, change) -> None:
    path = find_checkpoint(run)
    load_initial_weights(new_video_model(change(width=32, height=32, frames=6, fps="12"), seed=0), path)
    with pytest.raises(VidiffError, match=r"do not fit frames of 128x128.*attention") as error:
        load_initial_weights(new_video_model(change(width=128, height=128), seed=0), path)
    assert str(error.value).count("\n") == 0


def test_another_network_is_refused_in_one_sentence(run: Path, change) -> None:
    for part, value, name in (
        ("network", {"temporal": "attention"}, "network.temporal"),
        ("diffusion", {"target": "x"}, "diffusion.target"),
        ("text", {"depth": 2}, "text.depth"),
        ("text", {"kind": "none", "vocabulary": []}, "text"),
    ):
        with pytest.raises(VidiffError, match=f"another {name}: found") as error:
            load_initial_weights(VideoNetwork(change(**{part: value})), find_checkpoint(run))
        assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_fine_tuned_run_knows_where_it_came_from_and_continues(run: Path, dataset, training, tmp_path) -> None:
    """Also when the checkpoint it began with has gone; words that are new to it are learned."""
    first, tuned, whole = tmp_path / "first", tmp_path / "tuned", tmp_path / "whole"
    shutil.copytree(run, first)
    shutil.copytree(dataset, tmp_path / "data")
    path = tmp_path / "data" / "clips.jsonl"
    path.write_text(path.read_text().replace("red", "dinosaur"))
    settings = training(tmp_path / "data", tuned, start_from=first, steps=3)
    train(settings)
    train(settings.model_copy(update={"output": whole, "steps": 5}))
    config = config_of(tuned)
    assert Path(config["train"]["start_from"]) == find_checkpoint(first)
    old = set(open_video_model(find_checkpoint(run))[0].settings.text.vocabulary)
    assert old < set(config["model"]["text"]["vocabulary"])
    shutil.rmtree(first)
    assert inherited(first, tuned)["network"]["base_channels"] == settings.network.base_channels
    train(settings.model_copy(update={"steps": 5}))
    assert_same_training(tuned, whole)
    with pytest.raises(VidiffError, match="trained with another start_from"):
        train(settings.model_copy(update={"steps": 6, "start_from": None}))


def test_what_is_not_given_is_inherited(run: Path) -> None:
    model = open_video_model(find_checkpoint(run))[0].settings
    settings = TrainSettings.model_validate(inherited(run))
    network = model.network.model_copy(update={"motion": False})  # which --motion says
    assert settings.network == network
    assert settings.diffusion.model_dump() == model.diffusion.model_dump()
    assert settings.text.kind == "learned" and settings.frames == model.frames


def test_a_missing_checkpoint_is_one_sentence(training, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(VidiffError, match="is not a model"):
        train(training(dataset, tmp_path / "run", start_from=tmp_path / "nothing"))
    assert not (tmp_path / "run" / "config.json").exists()


def test_an_older_run_is_fine_tuned_to_levels_by_frame(run, training, dataset, tmp_path: Path) -> None:
    """Of one whose header says nothing of levels by frame, and that has one average alone. Independent levels show no
    motion: its weights are kept where the mixture gives frames too."""
    old = tmp_path / "old"
    old.mkdir()
    path = find_checkpoint(run)
    header = read_header(path)
    del header["model"]["frame_levels"], header["length"]
    write_tensors(old / "ema.safetensors", load_file(path), header)
    assert not open_video_model(old / "ema.safetensors")[0].settings.frame_levels
    levels = {"levels": {"independent": 0.5, "sloped": 0.25}}
    report = train(training(dataset, tmp_path / "new", steps=2, start_from=old, objective=levels))
    made = open_video_model(report.checkpoint / "ema.safetensors")[0]
    assert made.settings.frame_levels and made.settings.network.motion and made.settings.conditioning == "mixed"
    assert read_run_config(tmp_path / "new")["train"]["objective"]["levels"] == {
        "shared": 0.125,
        "observed": 0.125,
        "independent": 0.5,
        "sloped": 0.25,
    }

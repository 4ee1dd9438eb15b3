"""train --from: a new run from the averaged weights of another one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vidiff_cli.commands.prep import prep
from vidiff_cli.commands.train import train
from vidiff_cli.commands.world import world
from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.config.world import WorldSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.load_model import find_checkpoint
from vidiff_cli.models.video_model import VideoNetwork, new_video_model, open_video_model
from vidiff_cli.runs import metrics_log
from vidiff_cli.runs.finetune import EMBEDDING, MOTION, inherited, load_initial_weights
from vidiff_cli.training.state import TrainState

Training = Callable[..., TrainSettings]


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_log.TrainingLog, "plot", lambda self, **_: None)


@pytest.fixture
def change(run: Path) -> Callable[..., ModelSettings]:
    """change(network={...}, width=32): the settings of the run's model, changed."""
    model = open_video_model(find_checkpoint(run))[0].settings.model_dump(mode="json")

    def make(**changes: object) -> ModelSettings:
        merged = {name: model[name] | value if isinstance(value, dict) else value for name, value in changes.items()}
        return ModelSettings.model_validate(model | merged)

    return make


def test_all_weights_are_taken_over_and_the_average_begins_with_them(
    run: Path, change: Callable[..., ModelSettings]
) -> None:
    path = find_checkpoint(run)
    video_model = new_video_model(change(), seed=9)
    load_initial_weights(video_model, path)
    averages = load_file(path)
    assert all(torch.equal(value, averages[name]) for name, value in video_model.state_dict().items())
    state = TrainState(video_model, TrainSettings().optimizer)
    assert all(torch.equal(state.ema.shadow[name], averages[name]) for name in averages)


def test_motion_begins_at_nothing_where_the_checkpoint_knows_none(
    run: Path, training: Training, dataset: Path, tmp_path: Path, change: Callable[..., ModelSettings]
) -> None:
    """Its other weights are taken over; a network that was shown motion cannot do without."""
    plain = train(training(dataset, tmp_path / "plain", steps=1, motion=False))
    assert plain is not None
    path = find_checkpoint(plain.checkpoint)
    video_model = new_video_model(change(), seed=9)
    assert video_model.settings.network.motion
    load_initial_weights(video_model, path)
    found, averages = video_model.state_dict(), load_file(path)
    new = found.keys() - averages.keys()
    assert len(new) == 3 and all(name.startswith(MOTION) and not found[name].any() for name in new)
    assert all(torch.equal(found[name], value) for name, value in averages.items())
    report = train(training(dataset, tmp_path / "tuned", steps=1, start_from=tmp_path / "plain"))
    assert report is not None and open_video_model(find_checkpoint(report.checkpoint))[0].settings.network.motion
    with pytest.raises(VidiffError, match=r"another network\.motion: found False, expected True"):
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


def test_another_frame_size_is_allowed_where_the_network_takes_it(
    run: Path, change: Callable[..., ModelSettings]
) -> None:
    path = find_checkpoint(run)
    load_initial_weights(new_video_model(change(width=32, height=32, frames=6, fps="12"), seed=0), path)
    with pytest.raises(VidiffError, match=r"do not fit frames of 128x128.*attention") as error:
        load_initial_weights(new_video_model(change(width=128, height=128), seed=0), path)
    assert str(error.value).count("\n") == 0


@pytest.mark.parametrize(
    ("part", "value", "name"),
    [
        ("network", {"channels": 1}, "network.channels"),
        ("network", {"base_channels": 16}, "network.base_channels"),
        ("network", {"temporal": "attention"}, "network.temporal"),
        ("diffusion", {"target": "x"}, "diffusion.target"),
        ("text", {"depth": 2}, "text.depth"),
        ("text", {"kind": "none", "vocabulary": []}, "text"),
    ],
)
def test_another_network_is_refused_in_one_sentence(
    run: Path, change: Callable[..., ModelSettings], part: str, value: dict[str, object], name: str
) -> None:
    video_model = VideoNetwork(change(**{part: value}))
    with pytest.raises(VidiffError, match=f"another {name}: found") as error:
        load_initial_weights(video_model, find_checkpoint(run))
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_fine_tuned_run_knows_where_it_came_from_and_continues(run: Path, training: Training, tmp_path: Path) -> None:
    other = tmp_path / "other"
    world(WorldSettings(folder=other / "clips", clips=6, frames=8, seed=7))
    captions = sorted((other / "clips").rglob("*.txt"))
    captions[0].write_text("a purple dinosaur", encoding="utf-8")
    prep(PrepSettings(sources=(str(other / "clips"),), output=other / "ds", size=16, frames=8, preview=0, workers=1))
    settings = training(other / "ds", tmp_path / "tuned", start_from=run, steps=3)
    train(settings)
    config = json.loads((tmp_path / "tuned" / "config.json").read_text())
    assert Path(config["train"]["start_from"]) == find_checkpoint(run)
    old = set(open_video_model(find_checkpoint(run))[0].settings.text.vocabulary)
    assert old < set(config["model"]["text"]["vocabulary"])
    whole = tmp_path / "whole"
    train(settings.model_copy(update={"output": whole, "steps": 5}))
    train(settings.model_copy(update={"steps": 5}))
    name = (whole / "checkpoints" / "latest").read_text().strip()
    ours, theirs = (
        load_file(place / "checkpoints" / name / "model.safetensors") for place in (tmp_path / "tuned", whole)
    )
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    with pytest.raises(VidiffError, match="trained with another start_from"):
        train(settings.model_copy(update={"steps": 6, "start_from": None}))


def test_the_first_loss_is_that_of_the_trained_network(
    run: Path, training: Training, dataset: Path, tmp_path: Path
) -> None:
    start = tmp_path / "a"
    train(training(dataset, start, steps=1, start_from=run, optimizer={"lr": 1e-9, "warmup": 0}))
    name = (start / "checkpoints" / "latest").read_text().strip()
    made, given = load_file(start / "checkpoints" / name / "ema.safetensors"), load_file(find_checkpoint(run))
    assert all(torch.allclose(made[key], given[key], atol=1e-6) for key in given)


def test_what_is_not_given_is_inherited(run: Path) -> None:
    model = open_video_model(find_checkpoint(run))[0].settings
    settings = TrainSettings.model_validate(inherited(run))
    network = model.network.model_copy(update={"motion": False})  # which --motion says
    assert settings.network == network
    assert settings.diffusion.model_dump() == model.diffusion.model_dump()
    assert settings.text.kind == "learned" and settings.frames == model.frames


def test_a_run_goes_on_when_the_checkpoint_it_began_with_has_gone(
    run: Path, training: Training, dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "first")
    settings = training(dataset, tmp_path / "run", start_from=tmp_path / "first", steps=1)
    train(settings)
    shutil.rmtree(tmp_path / "first")
    assert inherited(tmp_path / "first", tmp_path / "run")["network"]["base_channels"] == settings.network.base_channels
    report = train(settings.model_copy(update={"steps": 2}))
    assert report is not None and report.steps == 2


def test_a_missing_checkpoint_is_one_sentence(training: Training, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(VidiffError, match="is not a model"):
        train(training(dataset, tmp_path / "run", start_from=tmp_path / "nothing"))
    assert not (tmp_path / "run" / "config.json").exists()

"""What is seen of a training: validation, sample sheets, rows, warnings and trackers. None of it changes anything."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from runs import assert_same_training, rows_of
from safetensors.torch import load_file

from vidiff_cli.commands.info import info
from vidiff_cli.commands.train import train
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.config.world import StreamSettings
from vidiff_cli.dataset.dataset import Dataset, open_dataset
from vidiff_cli.dataset.world_dataset import WorldClips
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation import generate
from vidiff_cli.runs import monitor
from vidiff_cli.runs import train_run as train_command
from vidiff_cli.runs.monitor import TrainingMonitor, dataset_prompts, read_sheet_prompts
from vidiff_cli.runs.run_dir import check_replaceable
from vidiff_cli.runs.trackers import open_tracker
from vidiff_cli.training.validation import BANDS

PLAIN = {"ema_length": 0.05}  # the average of a training that is not looked at


@pytest.fixture(scope="module")
def watched(dataset: Path, training: Callable[..., TrainSettings], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's run once more, with a validation and a sheet every other step."""
    folder = tmp_path_factory.mktemp("watched") / "run"
    train(training(dataset, folder, validate_every=2, sample_every=3, optimizer=PLAIN))
    return folder


def test_looking_changes_nothing(run: Path, watched: Path) -> None:
    """Weights, averages, optimizers and the next steps are the same to the bit."""
    assert_same_training(run, watched)
    assert [row for row in rows_of(watched) if "loss" in row] == rows_of(run)


def test_what_a_watched_run_holds(watched: Path) -> None:
    rows = [row for row in rows_of(watched) if "validation_loss" in row]
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    assert len({row["validation_loss"] for row in rows}) == 4
    assert all(row[f"validation_level_{band}"] > 0 for row in rows for band in BANDS)
    assert rows[0]["text_gain"] == 0  # a new network's text does nothing yet
    names = ["progress.png", "step-000000.png", "step-000003.png", "step-000006.png"]
    assert sorted(path.name for path in (watched / "samples").iterdir()) == names


def test_info_reads_a_watched_run_and_an_old_one(watched: Path, run: Path, tmp_path: Path) -> None:
    """A row of validation at the end is no row of losses; rows of before there were bands are read as ever."""
    shutil.copytree(run, tmp_path / "old")
    old = [{key: row[key] for key in ("step", "phase", "lr", "loss", "free", "observed")} for row in rows_of(run)]
    text = "".join(json.dumps(row | {"seconds_per_step": 0.1}) + "\n" for row in old)
    (tmp_path / "old" / "metrics.jsonl").write_text(text)
    losses = [row["loss"] for row in old]
    validation = [row["validation_loss"] for row in rows_of(watched) if "validation_loss" in row]
    for place in (watched, tmp_path / "old"):
        about: Any = info(place)
        assert (about.state, about.steps_logged, about.loss) == ("finished", 6, losses[-1])
        assert about.loss_mean == pytest.approx(np.mean(losses)) and about.seconds_per_step > 0
        assert about.validation_loss == (validation[-1] if place == watched else None)


def test_another_seed_is_asked_the_same(dataset: Path, training, tmp_path: Path, monkeypatch) -> None:
    """The same clips, noise and levels: what is validated of the same weights does not know the run."""
    asked, original = [], monitor.validate

    def validate(video_model: Any, held: Any, **more: Any) -> Any:
        asked.append((held.u, [(draw.row, draw.frames, draw.caption, draw.observed.tolist()) for draw in held.draws]))
        return original(video_model, held, **more)

    monkeypatch.setattr(monitor, "validate", validate)
    for seed in (0, 1):
        train(
            training(
                dataset,
                tmp_path / f"run-{seed}",
                steps=1,
                validate_every=5,
                seed=seed,
                batch_size=4 + seed,
                optimizer=PLAIN,
            )
        )
    first, last = asked[0], asked[-1]
    assert len(asked) == 4 and np.array_equal(first[0], last[0], equal_nan=True) and first[1] == last[1]


def test_what_training_validation_and_sheets_read(dataset: Path, training, tmp_path: Path, monkeypatch) -> None:
    """Training reads all of the train split and nothing else, validation the held-out clips; validation and sheets
    look at the averaged weights."""
    seen, read, view, original = [], {"train": set(), "val": set()}, Dataset.view, monitor.validate
    reader = ["train"]

    def validate(video_model: Any, held: Any, **more: Any) -> Any:
        reader[0] = "val"
        seen.append({name: value.clone() for name, value in video_model.state_dict().items()})
        found = original(video_model, held, **more)
        reader[0] = "train"
        return found

    monkeypatch.setattr(monitor, "validate", validate)
    monkeypatch.setattr(TrainingMonitor, "errors", lambda *_: None)  # which reads held-out clips too
    monkeypatch.setattr(Dataset, "view", lambda self, index: read[reader[0]].add(index) or view(self, index))
    monkeypatch.setattr(
        train_command, "sample_sheet", lambda video_model, *_, **__: seen.append(video_model.state_dict())
    )
    more = {"validate_every": 3, "sample_every": 3, "loader": {"workers": 0}, "optimizer": PLAIN}
    report = train(training(dataset, tmp_path / "run", steps=3, **more))
    average, raw = (load_file(report.checkpoint / f"{name}.safetensors") for name in ("ema", "model"))
    assert len(seen) == 4 and seen[-1].keys() == average.keys()
    assert all(torch.equal(looked[name], average[name]) for name in average for looked in seen[-2:])
    assert not all(torch.equal(raw[name], average[name]) for name in average)
    opened = open_dataset(dataset)
    assert read == {side: set(opened.split(side)) for side in ("train", "val")} and opened.split("val")


@pytest.mark.parametrize("at", [1, 4])
def test_killed_while_looking(dataset: Path, training, watched: Path, killed, tmp_path: Path, at: int) -> None:
    """After the validation and before the sheet: the same command makes what is missing, and nothing twice."""
    asked = training(dataset, tmp_path / "run", validate_every=2, sample_every=3, optimizer=PLAIN)
    killed(TrainingMonitor, "run", lambda: train(asked), at=at)
    train(asked)
    assert rows_of(tmp_path / "run") == rows_of(watched)
    for path in (watched / "samples").iterdir():
        assert (tmp_path / "run" / "samples" / path.name).read_bytes() == path.read_bytes()


def test_prompts_are_of_held_out_clips_first(dataset: Path) -> None:
    opened = open_dataset(dataset)
    held = {text for number in opened.split("val") for text in opened.clips[number].captions}
    prompts = dataset_prompts(opened)
    assert len(prompts) == len(set(prompts)) == 4
    assert set(prompts[: len(held)]) == held and set(prompts[len(held) :]) <= set(opened.captions())


@pytest.mark.parametrize("held_out", [0, 128])
def test_prompts_of_a_world_are_chosen_without_drawing_all_of_it(monkeypatch, held_out: int) -> None:
    world, drawn = WorldClips(StreamSettings(held_out=held_out)), list[int]()
    original = WorldClips.scene
    monkeypatch.setattr(WorldClips, "scene", lambda self, index: (drawn.append(index), original(self, index))[1])
    assert len(set(dataset_prompts(world))) == 4
    assert len(drawn) <= 1024 < len(world.index)


def test_prompts_of_a_file_are_drawn_with_the_same_noise(dataset, training, tmp_path, monkeypatch) -> None:
    drawn: list[tuple[list[str], torch.Tensor]] = []
    original = generate.sample_windows

    def sample_windows(*args: Any, sample: Any, **more: Any) -> Any:
        def noted(denoise: Any, z: torch.Tensor, noise: Any) -> Any:
            drawn.append((prompts[-1], z.clone()))
            return sample(denoise, z, noise)

        return original(*args, sample=noted, **more)

    prompts, sheet = [], train_command.sample_sheet

    def noted_sheet(video_model: Any, asked: Any, *rest: Any, **more: Any) -> None:
        prompts.append(list(asked))
        sheet(video_model, asked, *rest, **more)

    monkeypatch.setattr(generate, "sample_windows", sample_windows)
    monkeypatch.setattr(train_command, "sample_sheet", noted_sheet)
    (tmp_path / "prompts.txt").write_text("# my own\n\n a red circle \na blue square\n")
    train(training(dataset, tmp_path / "run", steps=2, sample_every=2, prompts=tmp_path / "prompts.txt"))
    assert [each[0] for each in drawn] == [["a red circle", "a blue square"]] * 2
    assert torch.equal(drawn[0][1], drawn[1][1]) and not torch.equal(drawn[0][1][0], drawn[0][1][1])


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "no such file"), (b"\n# nothing\n", "no prompt"), (b"a\n" * 17, "17 prompts"), (b"\xc3", "not UTF-8")],
)
def test_a_prompts_file_that_fits_no_sheet(tmp_path: Path, content: bytes | None, found: str) -> None:
    path = tmp_path / "prompts.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VidiffError, match=found) as error:
        read_sheet_prompts(path)
    assert str(path) in str(error.value)


class Told(list):
    """Calls that a stand-in for a tracker's module was given: function, values, options."""

    def module(self, name: str) -> ModuleType:
        module: Any = ModuleType(name)
        for function in ("init", "log", "finish", "Image"):
            setattr(module, function, self._note(function))
        return module

    def _note(self, function: str) -> Callable[..., Any]:
        def note(*values: Any, **more: Any) -> Any:
            print(f"{function} was called")  # as some of them do: stdout is not theirs
            self.append((function, values, more))
            return f"picture of {Path(values[0]).name}" if function == "Image" else None

        return note


def test_a_tracker_is_told_all(dataset, training, run, tmp_path, monkeypatch, capsys) -> None:
    told = Told()
    monkeypatch.setitem(sys.modules, "trackio", told.module("trackio"))
    report = train(
        training(dataset, tmp_path / "run", sample_every=6, validate_every=3, track="trackio", optimizer=PLAIN)
    )
    assert capsys.readouterr().out == ""
    assert (told[0][0], told[-1][0]) == ("init", "finish")
    start = told[0][2]
    assert (start["project"], start["name"], start["resume"]) == ("vidiff", "run", "allow")
    assert start["config"]["batch_size"] == 4 and start["config"]["optimizer.lr"] == 1e-3
    logged = [(more["step"], values[0]) for function, values, more in told if function == "log"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        numbers = {key: value for key, value in row.items() if isinstance(value, int | float) and key != "step"}
        assert (row["step"], numbers) in logged
    assert [step for step, values in logged if "samples" in values] == [0, 6]
    assert_same_training(report.run, run)


def test_wandb_knows_a_run_again(tmp_path: Path, monkeypatch) -> None:
    told = Told()
    monkeypatch.setitem(sys.modules, "wandb", told.module("wandb"))
    for place in ("a/run", "b/run", "a/run"):
        open_tracker("wandb", tmp_path / place).start({})
    first, other, again = (more["id"] for _, _, more in told)
    assert first == again != other


def test_tensorboard(dataset, training, tmp_path: Path, monkeypatch) -> None:
    told: list[tuple[str, tuple[Any, ...]]] = []

    class SummaryWriter:
        def __init__(self, log_dir: str) -> None:
            Path(log_dir).mkdir(parents=True, exist_ok=True)
            told.append(("open", (log_dir,)))

        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *values, **more: told.append((name, values))

    module: Any = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    train(training(dataset, tmp_path / "run", steps=2, sample_every=2, track="tensorboard"))
    assert told[0] == ("open", (str(tmp_path / "run" / "tensorboard"),)) and told[-1] == ("close", ())
    losses = [values[1:] for name, values in told if name == "add_scalar" and values[0] == "loss"]
    (picture,) = [values for name, values in told if name == "add_image" and values[2] == 2]
    assert losses == [(rows_of(tmp_path / "run")[-1]["loss"], 2)]
    assert picture[0] == "samples" and picture[1].ndim == 3 and picture[1].dtype == np.uint8
    assert check_replaceable(tmp_path / "run") is None  # its folder is a part of the run


def test_a_tracker_that_is_not_installed_is_one_sentence(tmp_path: Path, monkeypatch) -> None:
    for name, module in (("tensorboard", "torch.utils.tensorboard"), ("trackio", "trackio"), ("wandb", "wandb")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(VidiffError) as error:
            open_tracker(name, tmp_path / "run")
        assert str(error.value) == f"--track {name} needs {name}, which is not installed here; pip install {name}."
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_fails_stops_no_training(dataset, training, told, tmp_path, monkeypatch) -> None:
    module = Told().module("wandb")
    monkeypatch.setitem(sys.modules, "wandb", module)

    def log(*values: Any, **more: Any) -> None:
        raise ConnectionError("the server is down\nand more")

    monkeypatch.setattr(module, "log", log)
    report, notes = told(train.events(training(dataset, tmp_path / "run", steps=2, track="wandb")))
    warnings = [note.text for note in notes if note.level == "warning"]
    assert warnings == ["--track wandb failed and is no longer used: ConnectionError: the server is down."]
    assert report.steps == 2


def test_a_checkpoint_of_other_clips_is_gone_on_with_and_it_is_said(dataset, run, training, told, tmp_path) -> None:
    shutil.copytree(dataset, tmp_path / "other")
    path = tmp_path / "other" / "clips.jsonl"
    path.write_text(path.read_text().replace("slowly", "fast"))
    place = run / "checkpoints" / "step-000004"
    for data, times in ((tmp_path / "other", 1), (dataset, 0)):
        _, notes = told(train.events(training(data, tmp_path / f"run-{times}", steps=5, resume=str(place))))
        said = f"{place} was trained on other clips than those of {data}, which are used from here on."
        assert [note.text for note in notes].count(said) == times

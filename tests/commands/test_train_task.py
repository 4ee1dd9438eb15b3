"""train: interrupted, continued, raised, refused; what a run folder holds."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from vidiff_cli.checkpoint import read_header
from vidiff_cli.commands import train as module
from vidiff_cli.commands.prep import prep
from vidiff_cli.commands.sample import sample
from vidiff_cli.commands.train import train
from vidiff_cli.commands.world import world
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.config.world import WorldSettings
from vidiff_cli.dataset.dataset import open_dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.load_model import load_model
from vidiff_cli.models.video_model import open_video_model
from vidiff_cli.runs import metrics_log
from vidiff_cli.runs.setup import open_clip_source
from vidiff_cli.training.one_pass import choose_clips, measure_errors
from vidiff_cli.video.decode import decode


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take longer than these trainings; the session's run has one."""
    monkeypatch.setattr(metrics_log.TrainingLog, "plot", lambda self, **_: None)


def assert_same_weights(one: Path, other: Path) -> None:
    """All tensors of two checkpoint folders are equal bit for bit, and so is what else decides the future."""
    names = {path.name for path in one.glob("*.safetensors")}
    assert names == {"model.safetensors", "ema.safetensors", "optimizer.safetensors"}
    for name in names:
        ours, theirs = load_file(one / name), load_file(other / name)
        assert ours.keys() == theirs.keys()
        assert [key for key in ours if not ours[key].equal(theirs[key])] == []
        assert read_header(one / name) == read_header(other / name)
    assert (one / "state.json").read_text() == (other / "state.json").read_text()


def rows_of(run: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl but for what was measured: times and memory."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in metrics_log.MEASURED} for row in rows]


@pytest.fixture
def signal_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """signal_at(3, settings): a signal comes in the third step of a training."""

    def run(step: int, settings: Any, number: signal.Signals = signal.SIGINT) -> None:
        def add(self, report):
            if report.step == step:
                os.kill(os.getpid(), number)
            yield from original(self, report)

        original = metrics_log.TrainingLog.add
        before = signal.signal(number, signal.default_int_handler)  # a background job ignores SIGINT
        try:
            with monkeypatch.context() as patch:
                patch.setattr(metrics_log.TrainingLog, "add", add)
                with pytest.raises(KeyboardInterrupt):
                    train(settings)
        finally:
            signal.signal(number, before)

    return run


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row in metrics.jsonl for each step."""
    monkeypatch.setattr(metrics_log, "LOG_EVERY", 1)


def test_a_run_folder(run: Path) -> None:
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "config.json", "loss.png", "metrics.jsonl"]
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == ["latest", "step-000004", "step-000006-of-000006"]
    assert [(row["step"], row["phase"]) for row in rows_of(run)] == [(4, "stable"), (6, "decay")]
    with safe_open(run / "checkpoints" / "step-000006-of-000006" / "ema.safetensors", "pt") as file:
        header = json.loads(file.metadata()["vidiff"])
    assert (header["step"], header["clips_seen"], header["weights"]) == (6, 24, "ema")


def test_a_checkpoint_says_how_far_off_its_averages_are(dataset, run, training, signal_at, tmp_path: Path) -> None:
    """Those of its own step; one that an interrupt made says nothing, for that would take time."""
    for place in (run / "checkpoints").glob("step-*"):
        model, average = (read_header(place / f"{name}.safetensors")["errors"] for name in ("model", "ema"))
        video_model, _ = open_video_model(place / "ema.safetensors")
        asked = training(dataset, run)
        held = choose_clips(open_clip_source(asked, open_dataset(dataset), side="val"), video_model.settings)
        assert held is not None
        found = measure_errors(
            video_model.eval(), held, split="val", device=torch.device("cpu"), dtype=torch.float32, at_once=4
        )
        assert model == average == json.loads(json.dumps(found.as_json()))
        assert load_model(place, torch.device("cpu"), torch.float32).errors == found
        assert set(found.between) == {1} and set(found.beyond) == {1, 2} and found.clips > 0
    signal_at(3, training(dataset, tmp_path / "stopped"))
    assert "errors" not in read_header(tmp_path / "stopped" / "checkpoints" / "step-000003" / "ema.safetensors")


def test_without_held_out_clips_they_are_of_those_that_are_trained_on(dataset, training, tmp_path, told) -> None:
    shutil.copytree(dataset, tmp_path / "all")
    rows = (tmp_path / "all" / "clips.jsonl").read_text().splitlines()
    changed = [json.dumps(json.loads(row) | {"split": "train"}) for row in rows]
    (tmp_path / "all" / "clips.jsonl").write_text("\n".join(changed) + "\n")
    for index in (tmp_path / "all").glob("clips.*"):
        if index.suffix != ".jsonl":
            index.unlink()
    report, notes = told(train.events(training(tmp_path / "all", tmp_path / "run", steps=1, validate_every=1)))
    assert load_model(report.checkpoint, torch.device("cpu"), torch.float32).errors.split == "train"
    (note,) = [note for note in notes if "no held-out clips" in note.text]
    assert "the errors in its checkpoints are measured on clips" in note.text
    assert not any("validation_loss" in row for row in rows_of(tmp_path / "run"))


@pytest.mark.parametrize(("more", "shown"), [({}, True), ({"conditioning": "none"}, False)])
def test_motion_is_shown_unless_told_otherwise(dataset, training, tmp_path, more: dict, shown: bool) -> None:
    """Never without given frames; nor are there errors of frames that are not given."""
    report = train(training(dataset, tmp_path / "run", steps=1, **more))
    header = read_header(report.checkpoint / "ema.safetensors")
    assert header["model"]["network"]["motion"] is shown
    assert ("errors" in header) == (more.get("conditioning") != "none")


def test_a_run_that_knows_nothing_of_motion_goes_on_without(dataset, run, training, tmp_path: Path) -> None:
    asked = training(dataset, tmp_path / "run", steps=2, motion=False)
    train(asked)
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    del config["train"]["motion"], config["model"]["network"]["motion"], config["train"]["network"]["motion"]
    path.write_text(json.dumps(config))
    with pytest.raises(VidiffError, match="trained with another motion: found True, expected False"):
        train(asked.model_copy(update={"motion": True, "steps": 3}))
    assert train(asked.model_copy(update={"steps": 3})).steps == 3


@pytest.mark.parametrize("steps", [[3], [5], [1, 2, 5], [4]], ids=str)
def test_continued_is_uninterrupted(dataset, run, training, signal_at, every_step, tmp_path, steps: list[int]) -> None:
    """In the stable phase, at its end, in the decay branch; with a row for each step, none missing and none twice."""
    asked = training(dataset, tmp_path / "stopped", sample_every=2)
    for step in steps:
        signal_at(step, asked)
        assert json.loads((tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == step
    report = train(asked)
    assert report.steps == 6
    assert_same_weights(report.checkpoint, run / "checkpoints" / "step-000006-of-000006")
    train(training(dataset, tmp_path / "whole"))
    assert rows_of(tmp_path / "stopped") == rows_of(tmp_path / "whole")
    assert [row["step"] for row in rows_of(tmp_path / "stopped")] == [1, 2, 3, 4, 5, 6]
    assert not [path for path in (tmp_path / "stopped").rglob(".*")]


def test_a_crash_between_checkpoints(dataset, run, training, every_step, monkeypatch, tmp_path: Path) -> None:
    """Rows of steps that are made again are dropped; so is half a row."""
    asked = training(dataset, tmp_path / "run", checkpoint_every=2)

    def add(self, report):
        if report.step == 4:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write('{"step": 4, "lo')
            raise ArithmeticError
        yield from original(self, report)

    original = metrics_log.TrainingLog.add
    with monkeypatch.context() as patch:
        patch.setattr(metrics_log.TrainingLog, "add", add)
        with pytest.raises(ArithmeticError):
            train(asked)
    assert_same_weights(train(asked).checkpoint, run / "checkpoints" / "step-000006-of-000006")
    assert [row["step"] for row in rows_of(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]


def test_losses_are_means_over_all_steps_of_a_row(dataset, training, signal_at, tmp_path: Path, monkeypatch) -> None:
    """Rows every third step and at the end of the stable phase: a checkpoint keeps the steps that have no row yet."""
    monkeypatch.setattr(metrics_log, "LOG_EVERY", 3)
    asked = training(dataset, tmp_path / "run")
    signal_at(2, asked)
    signal_at(5, asked)
    train(asked)
    assert [row["step"] for row in rows_of(tmp_path / "run")] == [3, 4, 6]
    train(training(dataset, tmp_path / "whole"))
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == sorted(
        path.name for path in (tmp_path / "whole" / "checkpoints").iterdir()
    )


def test_more_steps_continue_the_trunk(dataset, run, training, told, every_step, tmp_path: Path) -> None:
    """As if it had been asked for at once; the shorter result stays."""
    shutil.copytree(run, tmp_path / "run")
    report, notes = told(train.events(training(dataset, tmp_path / "run", steps=10)))
    assert any(note.text == f"Continuing {tmp_path / 'run'} at step 4 of 10." for note in notes)
    fresh = train(training(dataset, tmp_path / "fresh", steps=10))
    assert_same_weights(report.checkpoint, fresh.checkpoint)
    assert report.checkpoint.name == "step-000010-of-000010"
    assert (tmp_path / "run" / "checkpoints" / "step-000006-of-000006").is_dir()
    assert rows_of(tmp_path / "run")[1:] == rows_of(tmp_path / "fresh")[4:]


def test_a_finished_run_is_left_alone(dataset, run, training, told) -> None:
    def state() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    before = state()
    report, notes = told(train.events(training(dataset, run)))
    assert any("nothing to do" in note.text for note in notes)
    assert state() == before and report.steps == 6 and report.run == run


@pytest.mark.parametrize(("existing", "place"), [(True, "missing"), (False, "run/config.json")])
def test_a_missing_checkpoint_to_resume_is_an_error(dataset, run, training, tmp_path, existing, place) -> None:
    """In a new run too: never a silent fresh start."""
    shutil.copytree(run, tmp_path / "run")
    output = tmp_path / "run" if existing else tmp_path / "new"
    with pytest.raises(VidiffError, match="checkpoint to resume not found at"):
        train(training(dataset, output, resume=str(tmp_path / place)))
    assert not (tmp_path / "new").exists()


def test_resume_from_a_checkpoint_into_a_new_run(dataset, run, training, tmp_path: Path) -> None:
    place = run / "checkpoints" / "step-000004"
    report = train(training(dataset, tmp_path / "new", resume=str(place)))
    assert_same_weights(report.checkpoint, run / "checkpoints" / "step-000006-of-000006")
    with pytest.raises(VidiffError, match="has 6 steps already: expected fewer than 6; raise --steps"):
        train(training(dataset, tmp_path / "late", resume=str(run / "checkpoints" / "step-000006-of-000006")))


def test_overwrite_replaces_a_run_and_nothing_else(dataset, run, training, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    report = train(training(dataset, tmp_path / "run", overwrite=True, steps=3))
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "latest",
        "step-000002",
        "step-000003-of-000003",
    ]
    assert report.steps == 3
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(VidiffError, match=r"holds files that are not part of a run: found thesis\.tex"):
        train(training(dataset, tmp_path / "run", overwrite=True))
    (tmp_path / "run" / "thesis.tex").rename(tmp_path / "run" / ".git")
    with pytest.raises(VidiffError, match=r"holds files that are not part of a run: found \.git"):
        train(training(dataset, tmp_path / "run", overwrite=True))
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "config.json").write_text('{"port": 80}')
    with pytest.raises(VidiffError, match="does not belong to a run"):
        train(training(dataset, tmp_path / "web", overwrite=True))
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    for overwrite in (True, False):
        with pytest.raises(VidiffError, match="is not empty and does not contain a vidiff run"):
            train(training(dataset, other, overwrite=overwrite))
    kept = [other / "thesis.tex", tmp_path / "run" / ".git", tmp_path / "web" / "config.json"]
    assert all(path.is_file() for path in kept)


def test_what_to_do_after_an_interrupt(dataset, training, tmp_path: Path, monkeypatch) -> None:
    """With --overwrite the same command would begin anew."""
    for overwrite, words in ((False, "the same command continues."), (True, "command without --overwrite continues.")):
        monkeypatch.setattr(module.DeferredSignals, "number", signal.SIGINT)
        texts = []
        with pytest.raises(KeyboardInterrupt):
            monkeypatch.setattr(module.DeferredSignals, "reraise", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            for event in train.events(training(dataset, tmp_path / f"run-{overwrite}", overwrite=overwrite)):
                texts.append(getattr(event, "text", ""))
        assert texts[-1].endswith(words)


def test_conditioning_none_gives_no_frames(dataset, training, told, tmp_path, settings, clip, monkeypatch) -> None:
    """No clip has given frames in training, and sampling knows it. A share of 0 means the same."""
    from vidiff_cli.commands.extend import extend

    for name, more in (("none", {"conditioning": "none"}), ("zero", {"objective": {"observed": 0}})):
        train(training(dataset, tmp_path / name, steps=2, **more))
        assert all(row["observed"] is None for row in rows_of(tmp_path / name))
        report = extend(settings("extend", model=tmp_path / name, input=clip(3, name=f"{name}.mkv"), num_frames=1))
        assert report.condition == "reconstruction"
    with pytest.raises(VidiffError, match="not trained on observed frames; use --condition reconstruction"):
        asked = {"model": tmp_path / "none", "input": "none.mkv", "condition": "learned", "output": "new/out.mp4"}
        extend(settings("extend", **asked))
    assert not Path("new").exists()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three PNG pictures, one with a caption."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, color in enumerate(((200, 30, 30), (30, 200, 30), (30, 30, 200))):
        picture = Image.new("RGB", (20, 18), color)
        picture.paste((255, 255, 255), (2, 2, 10, 10))
        picture.save(folder / f"{number}.png")
    (folder / "0.txt").write_text("a red wall")
    return folder


def test_images_only(pictures: Path, training, settings, clip, tmp_path: Path) -> None:
    """A model of single pictures samples them, and says that it can do no more. The batch is larger than the data."""
    from vidiff_cli.commands.extend import extend
    from vidiff_cli.commands.interpolate import interpolate

    prep(PrepSettings(sources=(str(pictures),), output=tmp_path / "data", size=16, preview=0, val_fraction=0))
    report = train(training(tmp_path / "data", tmp_path / "run", batch_size=7, sample_every=6))
    assert report.clips_seen == 42 and (tmp_path / "run" / "samples" / "step-000006.png").is_file()
    made = sample(settings("sample", model=tmp_path / "run", prompts=("a red wall",)))
    assert made.frames == len(decode(made.paths[0]).frames) == 1
    with pytest.raises(VidiffError, match="single pictures: found 5 frames asked for"):
        sample(settings("sample", model=tmp_path / "run", num_frames=5, output="new/out.mp4"))
    with pytest.raises(VidiffError, match="single pictures; train on videos"):
        extend(settings("extend", model=tmp_path / "run", input=clip(3), output="new/out.mp4"))
    with pytest.raises(VidiffError, match="too short to interpolate"):
        interpolate(settings("interpolate", model=tmp_path / "run", input=clip(4, name="4.mkv"), output="new/out.mp4"))
    assert not Path("new").exists()


def test_without_captions(training, settings, told, tmp_path: Path) -> None:
    """A world that was prepared without its captions."""
    world(WorldSettings(folder=tmp_path / "clips", clips=3, frames=8, seed=0))
    videos = str(tmp_path / "clips" / "*.mp4")
    prep(PrepSettings(sources=(videos,), output=tmp_path / "data", size=16, frames=8, captions="none", preview=0))
    train(training(tmp_path / "data", tmp_path / "run", sample_every=6))
    _, notes = told(sample.events(settings("sample", model=tmp_path / "run")))
    assert not any("trained without captions" in note.text for note in notes)
    report, notes = told(sample.events(settings("sample", model=tmp_path / "run", prompts=("red",))))
    assert report.paths[0].is_file()
    texts = [note.text for note in notes if note.level == "warning"]
    assert "The model was trained without captions: the prompt has no effect." in texts
    with pytest.raises(VidiffError, match="trained without captions"):
        sample(settings("sample", model=tmp_path / "run", prompts=("blue",), strict_prompt=True))

"""train: interrupted, continued, raised, refused; what a run folder holds."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from runs import assert_same_training, config_of, newest, rows_of

from vidiff_cli.checkpoint import read_header
from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.commands.prep import prep
from vidiff_cli.commands.sample import sample
from vidiff_cli.commands.train import train
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.dataset.dataset import open_dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.load_model import load_model
from vidiff_cli.models.video_model import open_video_model
from vidiff_cli.runs import metrics_log
from vidiff_cli.runs import train_run as module
from vidiff_cli.runs.setup import open_clip_source
from vidiff_cli.training.one_pass import choose_clips, measure_errors
from vidiff_cli.video.decode import decode

CPU = torch.device("cpu")


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row in metrics.jsonl for each step."""
    monkeypatch.setattr(metrics_log, "LOG_EVERY", 1)


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_a_run_folder(run: Path) -> None:
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "config.json", "loss.png", "metrics.jsonl"]
    assert checkpoints(run) == ["latest", "step-000004", "step-000006-of-000006"]
    assert [(row["step"], row["phase"]) for row in rows_of(run)] == [(4, "stable"), (6, "decay")]
    header = read_header(newest(run) / "ema.safetensors")
    assert (header["step"], header["clips_seen"], header["weights"]) == (6, 24, "ema")
    assert header["model"]["network"]["motion"] is True, "motion is shown unless told otherwise"


def test_a_checkpoint_says_how_far_off_its_averages_are(dataset, run, training, signal_at, tmp_path: Path) -> None:
    """Those of its own step; one that an interrupt made says nothing, for that would take time."""
    for place in (run / "checkpoints").glob("step-*"):
        model, average = (read_header(place / f"{name}.safetensors")["errors"] for name in ("model", "ema"))
        video_model, _ = open_video_model(place / "ema.safetensors")
        held = choose_clips(
            open_clip_source(training(dataset, run), open_dataset(dataset), side="val"), video_model.settings
        )
        assert held is not None
        found = measure_errors(video_model.eval(), held, split="val", device=CPU, dtype=torch.float32, at_once=4)
        assert model == average == json.loads(json.dumps(found.as_json()))
        assert load_model(place, CPU, torch.float32).errors == found
        assert set(found.between) == {1} and set(found.beyond) == {1, 2} and found.clips > 0
    signal_at(1, training(dataset, tmp_path / "stopped"))
    assert "errors" not in read_header(newest(tmp_path / "stopped") / "ema.safetensors")


def test_without_held_out_clips_they_are_of_those_that_are_trained_on(dataset, training, tmp_path, told) -> None:
    shutil.copytree(dataset, tmp_path / "all", ignore=lambda folder, names: {"clips.index"} & set(names))
    rows = (dataset / "clips.jsonl").read_text().splitlines()
    changed = [json.dumps(json.loads(row) | {"split": "train"}) for row in rows]
    (tmp_path / "all" / "clips.jsonl").write_text("\n".join(changed) + "\n")
    report, notes = told(train.events(training(tmp_path / "all", tmp_path / "run", steps=1, validate_every=1)))
    assert load_model(report.checkpoint, CPU, torch.float32).errors.split == "train"
    (note,) = [note for note in notes if "no held-out clips" in note.text]
    assert "the errors in its checkpoints are measured on clips" in note.text
    assert not any("validation_loss" in row for row in rows_of(tmp_path / "run"))


def test_an_older_run_goes_on(dataset, training, tmp_path: Path) -> None:
    """Its config.json names neither its dataset nor settings that are newer, which had their defaults, or no motion."""
    run = tmp_path / "run"
    asked = training(dataset, run, steps=2, motion=False)
    train(asked)
    config = config_of(run)
    del config["dataset"], config["train"]["motion"], config["train"]["network"]["motion"]
    del config["model"]["network"]["motion"], config["model"]["context_noise"]
    for part in ("train", "model"):
        del config[part]["diffusion"]["noise"], config[part]["diffusion"]["noise_strength"]
    del config["train"]["objective"]["image_fraction"], config["train"]["objective"]["context_noise"]
    del config["train"]["objective"]["levels"], config["train"]["optimizer"]["ema_length"]
    config["train"]["objective"]["observed"], config["train"]["optimizer"]["ema"] = 0.5, 0.998
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(VidiffError, match="trained with another motion: found True, expected False"):
        train(asked.model_copy(update={"motion": True, "steps": 3}))
    with pytest.raises(VidiffError, match=r"another objective\.levels\.observed: found 0.25, expected 0.5"):
        train(training(dataset, run, steps=3, motion=False, objective={"levels": {"observed": 0.25}}))
    with pytest.raises(VidiffError, match=r"another diffusion\.noise: found mixed, expected independent"):
        train(training(dataset, run, steps=3, motion=False, diffusion={"noise": "mixed"}))
    assert train(asked.model_copy(update={"steps": 3})).steps == 3
    assert "dataset" in config_of(run)


@pytest.fixture(scope="module")
def whole(dataset: Path, training: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's run once more, with a row for each step."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics_log, "LOG_EVERY", 1)
        train(training(dataset, folder))
    return folder


@pytest.mark.parametrize("steps", [[1, 3, 5], [4]], ids=str)
def test_continued_is_uninterrupted(dataset, run, whole, training, signal_at, every_step, tmp_path, steps) -> None:
    """In the stable phase, at its end, in the decay branch; with a row for each step, none missing and none twice."""
    asked = training(dataset, tmp_path / "stopped", sample_every=2)
    for step in steps:
        signal_at(step, asked)
        assert rows_of(tmp_path / "stopped")[-1]["step"] == step
    assert train(asked).steps == 6
    assert_same_training(tmp_path / "stopped", run)
    assert rows_of(tmp_path / "stopped") == rows_of(whole)
    assert not list((tmp_path / "stopped").rglob(".*"))


def test_a_crash_between_checkpoints(dataset, run, whole, training, every_step, monkeypatch, tmp_path: Path) -> None:
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
    train(asked)
    assert_same_training(tmp_path / "run", run)
    assert rows_of(tmp_path / "run") == rows_of(whole)


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
    assert checkpoints(tmp_path / "run") == checkpoints(tmp_path / "whole")


def test_more_steps_continue_the_trunk(dataset, run, training, told, every_step, tmp_path: Path) -> None:
    """As if it had been asked for at once; the shorter result stays."""
    shutil.copytree(run, tmp_path / "run")
    _, notes = told(train.events(training(dataset, tmp_path / "run", steps=10)))
    assert any(note.text == f"Continuing {tmp_path / 'run'} at step 4 of 10." for note in notes)
    train(training(dataset, tmp_path / "fresh", steps=10))
    assert_same_training(tmp_path / "run", tmp_path / "fresh")
    assert {"step-000006-of-000006", "step-000010-of-000010"} <= set(checkpoints(tmp_path / "run"))
    assert rows_of(tmp_path / "run")[1:] == rows_of(tmp_path / "fresh")[4:]


def test_a_finished_run_is_left_alone(dataset, run, training, told) -> None:
    def state() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    before = state()
    report, notes = told(train.events(training(dataset, run)))
    assert any("nothing to do" in note.text for note in notes)
    assert state() == before and report.steps == 6 and report.run == run


def test_resume_from_a_checkpoint_into_a_new_run(dataset, run, training, tmp_path: Path) -> None:
    """One that is not there is never a silent fresh start."""
    train(training(dataset, tmp_path / "new", resume=str(run / "checkpoints" / "step-000004")))
    assert_same_training(tmp_path / "new", run)
    for output in ("new", "late"):
        with pytest.raises(VidiffError, match="checkpoint to resume not found at"):
            train(training(dataset, tmp_path / output, resume=str(tmp_path / "missing")))
    with pytest.raises(VidiffError, match="has 6 steps already: expected fewer than 6; raise --steps"):
        train(training(dataset, tmp_path / "late", resume=str(newest(run))))
    assert not (tmp_path / "late").exists()


def test_overwrite_replaces_a_run_and_nothing_else(dataset, run, training, tmp_path: Path) -> None:
    own = tmp_path / "run"
    shutil.copytree(run, own)
    train(training(dataset, own, overwrite=True, steps=3))
    assert checkpoints(own) == ["latest", "step-000002", "step-000003-of-000003"]

    def refused(folder: Path, names: dict[str, str], sentence: str, *, overwrite: bool = True) -> None:
        folder.mkdir(exist_ok=True)
        for name, content in names.items():
            (folder / name).write_text(content)
        with pytest.raises(VidiffError, match=sentence):
            train(training(dataset, folder, overwrite=overwrite))
        assert {name: (folder / name).read_text() for name in names} == names

    refused(own, {".git": "x"}, r"holds files that are not part of a run: found \.git")
    refused(tmp_path / "web", {"config.json": '{"port": 80}'}, "does not belong to a run")
    for overwrite in (True, False):
        work = {"thesis": "years of work", ".thesis.tmp-1": "not a leftover of ours"}
        refused(tmp_path / "other", work, "is not empty and does not contain a vidiff run", overwrite=overwrite)


def test_what_to_do_after_an_interrupt(dataset, training, tmp_path: Path, monkeypatch) -> None:
    """With --overwrite the same command would begin anew."""
    monkeypatch.setattr(module.DeferredSignals, "reraise", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    for overwrite, words in ((False, "the same command continues."), (True, "command without --overwrite continues.")):
        monkeypatch.setattr(module.DeferredSignals, "number", signal.SIGINT)
        texts = []
        with pytest.raises(KeyboardInterrupt):
            for event in train.events(training(dataset, tmp_path / f"run-{overwrite}", overwrite=overwrite)):
                texts.append(getattr(event, "text", ""))
        assert texts[-1].endswith(words)


def test_conditioning_none_gives_no_frames(dataset, training, tmp_path, settings, clip) -> None:
    """In training, in motion, in the errors; and sampling knows it. A share of 0 means the same."""
    for name, more in (("none", {"conditioning": "none"}), ("zero", {"objective": {"levels": {"observed": 0}}})):
        train(training(dataset, tmp_path / name, steps=1, **more))
        assert all(row["observed"] is None for row in rows_of(tmp_path / name))
        report = extend(settings("extend", model=tmp_path / name, input=clip(3, name=f"{name}.mkv"), num_frames=1))
        assert report.condition == "reconstruction"
    header = read_header(newest(tmp_path / "none") / "ema.safetensors")
    assert header["model"]["network"]["motion"] is False and "errors" not in header
    with pytest.raises(VidiffError, match="not trained on observed frames; use --condition reconstruction"):
        asked = {"model": tmp_path / "none", "input": "none.mkv", "condition": "learned", "output": "new/out.mp4"}
        extend(settings("extend", **asked))
    assert not Path("new").exists()


def test_images_only(training, settings, clip, told, tmp_path: Path) -> None:
    """A model of single pictures samples them, and says that it can do no more; one without captions hears none."""
    (tmp_path / "pictures").mkdir()
    for number, color in enumerate(((200, 30, 30), (30, 200, 30), (30, 30, 200))):
        picture = Image.new("RGB", (20, 18), color)
        picture.paste((255, 255, 255), (2, 2, 10, 10))
        picture.save(tmp_path / "pictures" / f"{number}.png")
    sources = (str(tmp_path / "pictures"),)
    prep(PrepSettings(sources=sources, output=tmp_path / "data", size=16, preview=0, val_fraction=0))
    batch = 7  # more than there are clips
    report = train(training(tmp_path / "data", tmp_path / "run", steps=2, batch_size=batch, sample_every=2))
    assert report.clips_seen == 14 and (tmp_path / "run" / "samples" / "step-000002.png").is_file()

    def asked(command: str, **more: Any) -> Any:
        return settings(command, model=tmp_path / "run", **more)

    made, notes = told(sample.events(asked("sample")))
    assert made.frames == len(decode(made.paths[0]).frames) == 1
    assert not any("trained without captions" in note.text for note in notes)
    _, notes = told(sample.events(asked("sample", prompts=("red",))))
    silent = "The model was trained without captions: the prompt has no effect."
    assert silent in [note.text for note in notes if note.level == "warning"]
    for task, command, more, sentence in (
        (sample, "sample", {"prompts": ("blue",), "strict_prompt": True}, "trained without captions"),
        (sample, "sample", {"num_frames": 5}, "single pictures: found 5 frames asked for"),
        (extend, "extend", {"input": clip(3)}, "single pictures; train on videos"),
        (interpolate, "interpolate", {"input": clip(4, name="4.mkv")}, "too short to interpolate"),
    ):
        with pytest.raises(VidiffError, match=sentence):
            task(asked(command, output="new/out.mp4", **more))
    assert not Path("new").exists()


def test_a_cosine_has_one_length(dataset: Path, training, tmp_path: Path) -> None:
    def asked(steps: int, **more: Any) -> Any:
        optimizer = {"schedule": "cosine", "warmup": 1}
        return training(dataset, tmp_path / "run", steps=steps, checkpoint_every=2, optimizer=optimizer, **more)

    steps = train.events(asked(4))
    while not list(tmp_path.glob("run/checkpoints/step-000002*")):
        next(steps)
    steps.close()
    assert train(asked(4)).checkpoint.name == "step-000004-of-000004"
    with pytest.raises(VidiffError, match=r"has followed a cosine .*: found --steps 6, expected 4"):
        train(asked(6))
    assert train(asked(6, overwrite=True)).steps == 6

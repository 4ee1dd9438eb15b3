"""`vidiff distill`: a student of one pass a step, from a teacher that is left as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import newest

from vidiff_cli.checkpoint import read_header, read_tensors
from vidiff_cli.commands.distill import distill
from vidiff_cli.commands.info import info
from vidiff_cli.commands.sample import sample
from vidiff_cli.config.distill import DistillSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.runs import train_run as train_module

FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json")


def distill_settings(teacher: Path, output: Path, **more: Any) -> DistillSettings:
    values = {
        "train_steps": 6,
        "batch_size": 4,
        "precision": "fp32",
        "sample_every": 0,
        "validate_every": 0,
        "steps": 2,
    }
    return DistillSettings.model_validate(values | {"teacher": teacher, "output": output} | more)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def student(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("students") / "student"
    distill(distill_settings(run, folder, validate_every=3, sample_every=6))
    return folder


def test_the_student_starts_from_the_teacher_which_keeps_every_bit(run: Path, tmp_path: Path) -> None:
    before = contents(run)
    report = distill(distill_settings(run, tmp_path / "student", train_steps=1))
    assert contents(run) == before
    teacher, after = (
        read_tensors(newest(run) / "ema.safetensors"),
        read_tensors(report.checkpoint / "model.safetensors"),
    )
    moved = max(float((after[name] - value).abs().max()) for name, value in teacher.items())
    assert 0 < moved < 1e-3
    header = read_header(report.checkpoint / "ema.safetensors")
    old = read_header(newest(run) / "ema.safetensors")
    assert header["model"] == old["model"] | {"distilled": {"steps": 2, "guidance_scale": 2.0}}
    assert header["clips_seen"] == old["clips_seen"] + 4


def test_a_student_is_a_run_like_any_other(student: Path, told: Callable[..., Any], tmp_path: Path) -> None:
    names = {path.name for path in student.iterdir()}
    assert names >= {"config.json", "metrics.jsonl", "checkpoints", "samples"}
    rows = [json.loads(line) for line in (student / "metrics.jsonl").read_text().splitlines()]
    assert [row["validation_loss"] > 0 for row in rows if "validation_loss" in row] == [True, True, True]
    about, _ = told(info.events(student))
    assert about.state == "finished" and about.model.distilled == {"steps": 2, "guidance_scale": 2.0}
    assert about.go_on.split()[:2] == ["vidiff", "distill"]


def test_killed_and_continued_it_is_the_uninterrupted_one(
    run: Path, student: Path, killed: Any, tmp_path: Path
) -> None:
    """Stopped after its third step, at a checkpoint, in the middle of the fifth."""
    asked = distill_settings(run, tmp_path / "student", validate_every=3, sample_every=6, checkpoint_every=3)
    killed(train_module.TrainingLog, "add", lambda: distill(asked), at=5)
    assert (tmp_path / "student" / "checkpoints" / "step-000003").is_dir()
    report = distill(asked)
    whole = newest(student)
    assert report.checkpoint.name == whole.name
    for name in FILES[:3]:
        assert (report.checkpoint / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_teacher_that_was_trained_on_does_not_change_a_student_that_is_continued(
    run: Path, killed: Any, training: Any, dataset: Path, tmp_path: Path
) -> None:
    """The student keeps the checkpoint that it was started from; another file of that name is refused."""
    teacher = tmp_path / "teacher"
    shutil.copytree(run, teacher)
    asked = distill_settings(teacher, tmp_path / "student", checkpoint_every=1)
    killed(train_module.TrainingLog, "add", lambda: distill(asked), at=2)
    started = newest(teacher)
    newer = started.with_name("step-000012-of-000012")
    shutil.copytree(started, newer)
    tensors = {name: value + 1 for name, value in read_tensors(newer / "ema.safetensors").items()}
    train_module_write(newer / "ema.safetensors", tensors)
    (newer.parent / "latest").write_text(newer.name + "\n")
    killed(train_module.TrainingLog, "add", lambda: distill(asked), at=1)
    train_module_write(started / "ema.safetensors", tensors)
    with pytest.raises(VidiffError, match=r"was trained with another distillation\.sha256"):
        distill(asked)


def train_module_write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    from vidiff_cli.checkpoint import write_tensors

    write_tensors(path, tensors, read_header(path))


def test_a_student_of_a_student_has_half_of_its_steps(student: Path, settings: Any, tmp_path: Path) -> None:
    report = distill(distill_settings(student, tmp_path / "one", steps=1, train_steps=1))
    model = read_header(report.checkpoint / "ema.safetensors")["model"]
    assert model["distilled"] == {"steps": 1, "guidance_scale": 2.0}
    made = sample(settings("sample", model=tmp_path / "one", steps=None, prompts=("a red square",)))
    assert made.frames == 4


@pytest.mark.parametrize("options", [{"guidance_scale": 4}, {"negative_prompt": "blue"}])
def test_sampling_refuses_other_guidance(student: Path, settings: Any, options: dict[str, Any]) -> None:
    with pytest.raises(VidiffError, match="is in its weights, for 2 and no negative prompt: found --"):
        sample(settings("sample", model=student, prompts=("a red square",), **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"steps": 2},
            "is distilled already, for 2 steps and guidance 2: found 2 steps and guidance 2 to distill into 2",
        ),
        ({"steps": 1, "guidance_scale": 3}, "found 2 steps and guidance 3 to distill into 1 steps"),
        ({"steps": 1, "teacher_steps": 8}, "found 8 steps and guidance 2 to distill into 1 steps"),
    ],
)
def test_a_distilled_teacher_teaches_what_it_is(
    student: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(VidiffError, match=message):
        distill(distill_settings(student, tmp_path / "other", **options))
    assert not (tmp_path / "other").exists()


def test_without_captions_there_are_only_steps_to_distill(dataset: Path, training: Any, tmp_path: Path) -> None:
    from vidiff_cli.commands.train import train

    mute = train(training(dataset, tmp_path / "mute", text={"kind": "none"}, steps=1)).run
    for options, message in (
        (
            {"teacher_steps": 2},
            "without captions, and as many steps as it takes are not distilled; fewer steps .* --teacher-steps 4",
        ),
        ({"guidance_scale": 2}, "was trained without captions: found --guidance-scale 2"),
    ):
        with pytest.raises(VidiffError, match=message):
            distill(distill_settings(mute, tmp_path / "student", **options))
    report = distill(distill_settings(mute, tmp_path / "student", train_steps=1))
    assert read_header(report.checkpoint / "ema.safetensors")["model"]["distilled"]["guidance_scale"] == 1


def test_what_cannot_be_distilled(run: Path, dataset: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.safetensors"
    shutil.copy(newest(run) / "ema.safetensors", alone)
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    config = json.loads((moved / "config.json").read_text())
    config["train"]["dataset"] = str(tmp_path / "gone")
    (moved / "config.json").write_text(json.dumps(config))
    for teacher, options, message in (
        (alone, {}, "does not say what it was trained on; name it with --dataset"),
        (moved, {}, "gone that .*moved was trained on does not exist; name it with --dataset"),
        (tmp_path / "none", {}, "is not a model: found no such file or folder"),
        (Path("hf:someone/model"), {}, "hf:someone/model cannot be distilled: found a public model"),
        (alone, {"dataset": tmp_path / "gone"}, "gone"),
    ):
        with pytest.raises(VidiffError, match=message):
            distill(distill_settings(teacher, tmp_path / "student", **options))
        assert not (tmp_path / "student").exists()
    assert distill(distill_settings(alone, tmp_path / "student", dataset=dataset, train_steps=1)).steps == 1

"""`vidiff distill RUN`: the training of a student that starts from its teacher, on the teacher's clips."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from vidiff_cli.checkpoint import file_hash, read_header
from vidiff_cli.config.distill import DistillationSettings, DistillSettings
from vidiff_cli.config.model import DistilledSettings, ModelSettings
from vidiff_cli.config.run_config import read_run_config
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.config.world import ADDRESS
from vidiff_cli.dataset.dataset import Dataset
from vidiff_cli.dataset.world_dataset import is_world
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, EventStream, Note
from vidiff_cli.generation.load_model import find_checkpoint, find_finetuned, read_clips_seen
from vidiff_cli.models.public.open import is_public
from vidiff_cli.models.unet_model import GUIDANCE
from vidiff_cli.models.video_model import open_video_model, read_model_settings
from vidiff_cli.runs.finetune import inherited
from vidiff_cli.runs.setup import frame_size
from vidiff_cli.text.prompt_encoder import LazyTower
from vidiff_cli.training.distillation import Distillation

CLIPS = ("dataset", "world", "films", "objective", "loader")  # settings of the teacher's training that are taken over
OWN_DATASET = "name it with --dataset"
WITHOUT = {"image_fraction": 0.0, "flow_loss": 0.0, "perceptual_loss": 0.0}  # a student learns of its teacher alone


def student_settings(asked: DistillSettings) -> TrainSettings:
    """The settings of a student's training: those of the teacher's as far as they say what a clip is.

    VidiffError: no model of vidiff's own, nothing to distill, or it does not say what it was trained on.
    """
    run = asked.output or Path("runs") / f"{_name(asked.teacher)}-{asked.steps}-steps"
    path = _teacher_file(asked.teacher, run)
    header = read_header(path)
    model, record = read_model_settings(header, path), _training_record(path, header)
    values = {name: record[name] for name in CLIPS if name in record}
    values |= inherited(path) | {"conditioning": model.conditioning, "motion": model.network.motion}
    dataset = asked.dataset or values.get("dataset")
    if dataset is None:
        raise VidiffError(f"{asked.teacher} does not say what it was trained on", fix=OWN_DATASET)
    if not is_world(Path(dataset)) and asked.dataset is None and not (Path(dataset) / "dataset.json").is_file():
        raise VidiffError(f"the dataset {dataset} that {asked.teacher} was trained on does not exist", fix=OWN_DATASET)
    own = {"output", "dataset", "steps", "teacher", "teacher_steps", "guidance_scale", "train_steps", "lr"}
    values |= asked.model_dump(exclude=own) | {
        "dataset": dataset,
        "output": run,
        "steps": asked.train_steps,
        "start_from": path,
        "objective": values.get("objective", {}) | WITHOUT,
        "optimizer": {"lr": asked.lr},
        "distillation": _choose(asked, model, sha256=file_hash(path), clips_seen=read_clips_seen(header, path)),
    }
    try:
        return TrainSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        found = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise VidiffError(
            f"{asked.teacher} was trained with settings that this vidiff does not know", found=found
        ) from error


def _teacher_file(teacher: Path, run: Path) -> Path:
    """The checkpoint file of the teacher; a `run` that is there keeps the one it was started from. VidiffError for a
    public model."""
    recorded = read_run_config(run).get("train", {})
    recorded = recorded.get("start_from") if isinstance(recorded, dict) else None
    if isinstance(recorded, str) and Path(recorded).is_relative_to(teacher) and Path(recorded).is_file():
        return Path(recorded)
    if is_public(teacher) or find_finetuned(teacher) is not None:
        expected = "a run that vidiff train has made from a dataset alone, or builtin"
        raise VidiffError(f"{teacher} cannot be distilled", found="a public model", expected=expected)
    return find_checkpoint(teacher)


def _name(teacher: Path) -> str:
    return teacher.resolve().name.removesuffix(".safetensors") or "model"


def _training_record(path: Path, header: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the training that made a checkpoint: in config.json of its run, or the world in its header; empty
    where neither says it."""
    for folder in (path.parents[2] if len(path.parents) > 2 else path.parent, path.parent):
        train = read_run_config(folder).get("train")
        if isinstance(train, dict):
            return train
    return {"dataset": ADDRESS, "world": header["world"]} if isinstance(header.get("world"), dict) else {}


def _choose(asked: DistillSettings, model: ModelSettings, *, sha256: str, clips_seen: int) -> DistillationSettings:
    """Choose the lessons of the student. VidiffError where the teacher has none of them, or there would be none."""
    steps, before, teacher = asked.steps, model.distilled, asked.teacher
    if before is not None:
        asked_scale = asked.guidance_scale
        wanted = (asked.teacher_steps or before.steps, before.guidance_scale if asked_scale is None else asked_scale)
        if wanted != (before.steps, before.guidance_scale) or before.steps % steps or before.steps == steps:
            raise VidiffError(
                f"{teacher} is distilled already, for {before.steps} steps and guidance {before.guidance_scale:g}",
                found=f"{wanted[0]} steps and guidance {wanted[1]:g} to distill into {steps} steps",
                expected=f"its own, into a part of its steps, such as --steps {max(1, before.steps // 2)}",
                fix="for anything else distill the run that it was distilled from",
            )
    scale = before.guidance_scale if before else asked.guidance_scale
    if model.text.kind == "none":
        if scale not in (None, 1):
            raise VidiffError(f"{teacher} was trained without captions", found=f"--guidance-scale {scale:g}")
        scale = 1.0
    scale = GUIDANCE if scale is None else scale
    teacher_steps = before.steps if before else asked.teacher_steps or 2 * steps
    if teacher_steps == steps and scale == 1:
        why = "was trained without captions" if model.text.kind == "none" else "has no guidance"
        fix = f"fewer steps alone are learned with --teacher-steps {2 * steps}"
        raise VidiffError(f"{teacher} {why}, and as many steps as it takes are not distilled", fix=fix)
    return DistillationSettings(
        steps=steps,
        teacher_steps=teacher_steps,
        guidance_scale=scale,
        guidance_in_weights=before is not None,
        sha256=sha256,
        clips_seen=clips_seen,
    )


def plan_student(
    settings: TrainSettings, dataset: Dataset
) -> EventStream[tuple[TrainSettings, ModelSettings, LazyTower | None]]:
    """The settings, the student, which is its teacher's network, and the teacher's frozen text encoder.

    VidiffError for clips that the network cannot take.
    """
    learned, path = settings.distillation, settings.start_from
    assert learned is not None and path is not None
    teacher = read_model_settings(read_header(path), path)
    if teacher.network.any_size and not settings.loader.crop:  # its teacher may be without its run
        loader = settings.loader.model_copy(update={"crop": min(teacher.width, teacher.height)})
        settings = settings.model_copy(update={"loader": loader})
    yield from _describe(settings, learned)
    height, width = teacher.height, teacher.width
    found = frame_size(settings, dataset, multiple=teacher.multiple)
    channels = dataset.spec.channels if teacher.autoencoder is None else teacher.network.channels
    if (*found, channels) != (width, height, teacher.network.channels):
        raise VidiffError(
            f"the clips of {dataset.folder} are not as those that the teacher was trained on",
            found=f"{found[0]}x{found[1]} and {channels} channels",
            expected=f"{width}x{height} and {teacher.network.channels} channels",
        )
    if teacher.text.kind != "none" and learned.guidance_scale != 1 and not len(dataset.captions()):
        raise VidiffError(f"the clips of {dataset.folder} have no captions, and guidance needs them", fix=OWN_DATASET)
    distilled = DistilledSettings(steps=learned.steps, guidance_scale=learned.guidance_scale)
    clip = teacher.text.clip
    tower = None if clip is None else LazyTower(clip, settings.text.clip_model)
    return settings, teacher.model_copy(update={"distilled": distilled}), tower


def _describe(settings: TrainSettings, learned: DistillationSettings) -> Iterator[Event]:
    parts = (
        [] if learned.guidance_in_weights or learned.guidance_scale == 1 else [f"guidance {learned.guidance_scale:g}"]
    )
    parts += [f"{learned.teacher_steps} steps in {learned.steps}"] if learned.substeps > 1 else []
    yield Note(f"Distilling {settings.start_from}: {' and '.join(parts)}, for {learned.steps} passes a window.")


def distill_command(run: Path, settings: TrainSettings, *, train_steps: int) -> str:
    """The command that resumes the training of a student."""
    learned = settings.distillation
    assert learned is not None
    words = ["vidiff", "distill", str(settings.start_from), "-o", str(run), "--dataset", str(settings.dataset)]
    words += ["--steps", str(learned.steps), "--teacher-steps", str(learned.teacher_steps)]
    words += ["--guidance-scale", f"{learned.guidance_scale:g}", "--train-steps", str(train_steps)]
    words += ["--batch-size", str(settings.batch_size), "--lr", f"{settings.optimizer.lr:g}"]
    return shlex.join([*words, "--seed", str(settings.seed)])


def open_distillation(settings: TrainSettings, device: torch.device) -> Distillation:
    """The loss of a student, with its teacher in memory. VidiffError where the teacher's file is damaged or gone."""
    learned, path = settings.distillation, settings.start_from
    assert learned is not None and path is not None
    teacher, _ = open_video_model(path)
    return Distillation(
        teacher=teacher.requires_grad_(False).eval().to(device),
        steps=learned.steps,
        substeps=learned.substeps,
        guidance_scale=1.0 if learned.guidance_in_weights else learned.guidance_scale,
    )

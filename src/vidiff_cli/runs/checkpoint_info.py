"""Description of a checkpoint: the model, its training data and its abilities. Tensors are not loaded."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from vidiff_cli.checkpoint import count_parameters, file_hash, read_header
from vidiff_cli.config.model import ModelSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Note
from vidiff_cli.generation.cascade_folder import Stage, find_cascade, read_cascade
from vidiff_cli.generation.load_model import HARDLY_TRAINED, find_checkpoint, read_one_pass_errors
from vidiff_cli.models.one_pass_errors import OnePassErrors


@dataclass(frozen=True, kw_only=True, slots=True)
class TextEncoderInfo:
    """The text encoder: `tokens` is the vocabulary of a learned one, `clip` and `sha256` name a CLIP."""

    kind: str
    tokens: int | None
    clip: str | None
    sha256: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointInfo:
    """Description of a checkpoint. `path` is the file that sampling would load, `asked` the argument.

    `rates` are the frame rates of the training; `conditioning` lists the ways to condition on given frames; `errors`
    are one-pass errors (`OnePassErrors`) by the number of frames missing between two given ones and by the distance
    after the last one. `base` is the public model that was fine-tuned, None for a network of vidiff's own. `distilled`
    is the sampling that it was distilled for, `stages` are the upscalers of a cascade. `vidiff` and `errors` are None
    if the checkpoint does not store them.
    """

    kind: Literal["checkpoint"]
    asked: Path
    path: Path
    bytes: int
    sha256: str
    vidiff: str | None
    weights: str | None
    ema_length: float | None
    step: int | None
    phase: str | None
    clips_seen: int
    hardly_trained: bool
    parameters: int
    width: int
    height: int
    frames: int
    fps: Fraction
    frame_strides: tuple[int, ...]
    rates: tuple[Fraction, ...]
    target: str
    weighting: str
    noise: str
    noise_strength: float
    context_noise: float
    augmentation: float
    frame_levels: bool
    conditioning: tuple[str, ...]
    errors: OnePassErrors | None
    text: TextEncoderInfo
    base: dict[str, Any] | None
    autoencoder: dict[str, Any] | None
    distilled: dict[str, Any] | None
    network: dict[str, Any]
    stages: tuple[Stage, ...]
    warnings: tuple[str, ...]


def describe_checkpoint(asked: Path) -> EventStream[CheckpointInfo]:
    """Describes a checkpoint file, or a folder with one. VidiffError: damaged, of another program, or without a
    model."""
    cascade = None if (folder := find_cascade(asked)) is None else read_cascade(folder)
    path = find_checkpoint(asked)
    header = read_header(path)
    settings = _settings(path, header)
    clips_seen = _number(header.get("clips_seen")) or 0
    warnings = []
    if hardly_trained := settings.base is None and clips_seen < HARDLY_TRAINED:
        warnings.append(f"This model is hardly trained: it has seen {clips_seen:,} clips.")
        yield Note(warnings[-1], "warning")
    fps = Fraction(settings.fps)
    text = settings.text
    return CheckpointInfo(
        kind="checkpoint",
        asked=asked,
        path=path,
        bytes=path.stat().st_size,
        sha256=file_hash(path),
        vidiff=_text(header.get("vidiff")),
        weights=_text(header.get("weights")),
        ema_length=length if isinstance(length := header.get("length"), float) else None,
        step=_number(header.get("step")),
        phase=_text(header.get("phase")),
        clips_seen=clips_seen,
        hardly_trained=hardly_trained,
        parameters=count_parameters(path),
        width=settings.width,
        height=settings.height,
        frames=settings.frames,
        fps=fps,
        frame_strides=settings.frame_strides,
        rates=tuple(fps / step for step in settings.frame_strides),
        target=settings.diffusion.target,
        weighting=settings.diffusion.weighting,
        noise=settings.diffusion.noise,
        noise_strength=settings.diffusion.noise_strength,
        augmentation=settings.augmentation,
        context_noise=settings.context_noise,
        frame_levels=settings.frame_levels,
        conditioning=("learned",) * (settings.conditioning == "mixed")
        + ("reconstruction", "replacement") * (settings.network.task != "frames"),
        errors=read_one_pass_errors(header, path),
        text=TextEncoderInfo(
            kind=text.kind,
            tokens=len(text.vocabulary) if text.kind == "learned" else None,
            clip=f"{text.clip.encoder}:{text.clip.weights}" if text.clip else None,
            sha256=text.clip.sha256 if text.clip else None,
        ),
        base=settings.base.model_dump(mode="json") if settings.base else None,
        autoencoder=settings.autoencoder.model_dump(mode="json") if settings.autoencoder else None,
        distilled=settings.distilled.model_dump(mode="json") if settings.distilled else None,
        network=settings.network.model_dump(mode="json"),
        stages=() if cascade is None else cascade.stages,
        warnings=tuple(warnings),
    )


def _settings(path: Path, header: dict[str, Any]) -> ModelSettings:
    if "model" not in header:
        raise VidiffError(f"{path} holds no model", fix="name a run folder, or the ema.safetensors of a checkpoint")
    try:
        return ModelSettings.model_validate(header["model"])
    except ValueError as error:
        raise VidiffError(f"{path} holds settings that this vidiff does not know") from error


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None

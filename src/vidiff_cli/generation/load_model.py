"""Find and load a model: a run, a checkpoint, or the built-in one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal, Protocol

import torch

from vidiff_cli.checkpoint import AVERAGE, damaged_checkpoint, file_hash, read_checkpoint, read_header
from vidiff_cli.config.fields import Size
from vidiff_cli.config.model import LongCaptions, Task
from vidiff_cli.device import choose_device, choose_dtype
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.generation.builtin import FOLDER, builtin_file, builtin_upscaler
from vidiff_cli.generation.cascade_folder import find_cascade, read_cascade, stage_file
from vidiff_cli.models.acceleration import CompileChoice, LaterCompilation, compile_problem
from vidiff_cli.models.families import VideoModel
from vidiff_cli.models.guided_model import guide_model
from vidiff_cli.models.one_pass_errors import OnePassErrors, read_errors
from vidiff_cli.models.public.autoencoder import open_latent_codec
from vidiff_cli.models.public.finetuned import TrainedWeights, open_finetuned
from vidiff_cli.models.public.hub import hub_run, is_hub_name
from vidiff_cli.models.public.licence import read_licence
from vidiff_cli.models.public.open import is_public, open_public, resolve_folder
from vidiff_cli.models.sample_steps import SampleSteps, read_sample_steps
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.models.video_model import open_video_model, read_model_settings
from vidiff_cli.path_kind import BUILTIN, path_kind
from vidiff_cli.text.long_captions import caption_limit
from vidiff_cli.text.prompt_encoder import prompt_embedder

RUNS = Path("runs")
LONGEST_NAME = 200  # of a checkpoint folder
HARDLY_TRAINED = 5_000  # clips: below it nobody should judge a model by its samples


class OpenOptions(Protocol):
    """The options that open any model."""

    @property
    def model(self) -> Path | None: ...
    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def compile(self) -> CompileChoice: ...
    @property
    def deterministic(self) -> bool: ...


class ModelOptions(OpenOptions, Protocol):
    """The options of a model, as the settings of every command that generates have them (described there)."""

    @property
    def clip_model(self) -> str | None: ...
    @property
    def autoencoder(self) -> str | None: ...
    @property
    def model_size(self) -> Size | None: ...
    @property
    def model_frames(self) -> int | None: ...
    @property
    def offload(self) -> bool: ...
    @property
    def long_captions(self) -> LongCaptions | None: ...
    @property
    def guide(self) -> Path | None: ...


def open_model_as(options: ModelOptions, named: Path | None = None) -> VideoModel:
    """The model that options name, or `named`, guided by another where they name one. VidiffError as `open_model` and
    `guide_model`."""
    model = _open_as(named or options.model, options)
    return model if options.guide is None else guide_model(model, _open_as(options.guide, options))


def _open_as(model: Path | None, options: ModelOptions) -> VideoModel:
    return open_model(
        model,
        device=options.device,
        dtype=options.dtype,
        clip_model=options.clip_model,
        autoencoder=options.autoencoder,
        size=options.model_size,
        frames=options.model_frames,
        offload=options.offload,
        long_captions=options.long_captions,
        compile=options.compile,
        deterministic=options.deterministic,
    )


def open_model(
    model: Path | None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    clip_model: str | None = None,
    autoencoder: str | None = None,
    size: tuple[int, int] | None = None,
    frames: int | None = None,
    offload: bool = False,
    long_captions: LongCaptions | None = None,
    compile: CompileChoice = "off",
    deterministic: bool = False,
) -> VideoModel:
    """Open a model of vidiff's own, or a public one.

    Args:
        model: What --model says; None as `load_model`.
        device: Name of the device.
        dtype: Name of the number format.
        clip_model: Where the weights of its CLIP encoder lie.
        autoencoder: Where the autoencoder of a model lies that works on latents.
        size: Width and height that a public model works at.
        frames: Frames of a public model's window.
        offload: Keep one large part of a public model on the device at a time.
        long_captions: What becomes of prompts that its text encoder cannot read whole; None is its own way.
        compile: Whether its network is compiled; auto: on CUDA, once it has made so many passes that it is worth it.
        deterministic: Repeat the bytes on CUDA; the network is then compiled from the beginning or not at all.

    Returns:
        The model.

    Raises:
        VidiffError: Not a model, not on this machine, unusable, or an option that it cannot take.
    """
    chosen = choose_device(device, deterministic=deterministic)
    number_format = choose_dtype(dtype, chosen)
    if model is not None and is_public(model):
        for name, value, part in (
            ("--clip-model", clip_model, "text encoder"),
            ("--autoencoder", autoencoder, "autoencoder"),
        ):
            if value is not None:
                raise UsageError(f"{model} has its own {part}", found=f"{name} {value}", fix="leave it out")
        return open_public(
            model,
            chosen,
            number_format,
            size=size,
            frames=frames,
            offload=offload,
            long_captions=long_captions or "cut",
        )
    if (weights := find_finetuned(model)) is not None:
        if clip_model is not None:
            raise UsageError(
                f"{model} has its own text encoder", found=f"--clip-model {clip_model}", fix="leave it out"
            )
        return open_finetuned(
            weights,
            device=chosen,
            dtype=number_format,
            size=size,
            frames=frames,
            offload=offload,
            long_captions=long_captions,
        )
    for name, value in (("--model-size", size), ("--model-frames", frames)):
        if value is not None:
            raise UsageError(f"{name} is for public models", found=str(model or "a model of vidiff's own"))
    loaded = load_model(
        model,
        chosen,
        number_format,
        clip=clip_model,
        autoencoder=autoencoder,
        long_captions=long_captions,
        compile="off" if deterministic and compile == "auto" else compile,
    )
    if loaded.scale:
        fix = "name another one with --model, this one is for vidiff upscale"
        raise VidiffError(f"{loaded.name} makes videos larger", expected="a model that makes videos", fix=fix)
    return loaded


class UpscalerOptions(OpenOptions, Protocol):
    """The options of an upscaler, as the settings of its command have them (described there)."""

    @property
    def by(self) -> Literal["upscaler", "guidance"]: ...


def open_upscaler(
    options: UpscalerOptions, scale: float | None, *, fix: str = "name an upscaler with --model, use --detail estimate"
) -> UNetModel:
    """A model of super-resolution: the named one, else the newest run of one under runs/, else that of the package for
    a scale. VidiffError, with this fix, for any other model, and where it finds no upscaler. By guidance, a model of
    videos."""
    if options.by == "guidance":
        return _open_guided(options)
    device = choose_device(options.device, deterministic=options.deterministic)
    dtype = choose_dtype(options.dtype, device)
    model = options.model or newest_run(("upscale",)) or BUILTIN
    train = "train one with vidiff train DATASET --task upscale"
    if (folder := find_cascade(options.model)) is not None:
        fix = f"name one of its stages, such as {stage_file(folder, 0)}"
        raise VidiffError(f"{options.model} is a cascade", expected="an upscaler", fix=fix)
    if is_public(model) or (path_kind(model) != "builtin model" and find_finetuned(model) is not None):
        raise VidiffError(f"{model} does not make videos larger", found="a public model", fix=f"{fix}, or {train}")
    if path_kind(model) == "builtin model":
        box = builtin_upscaler(scale)
        if box is None:
            found = "none in the package"
            found = found if options.model else f"no run that upscales under runs/, and {found}"
            raise VidiffError("no upscaler", found=found, fix=f"{fix}, or {train}")
        model = box
    compile = "off" if options.deterministic and options.compile == "auto" else options.compile
    loaded = load_model(model, device, dtype, compile=compile)
    if not loaded.scale:
        found = "a model that makes videos"
        raise VidiffError(f"{loaded.name} does not make videos larger", found=found, fix=f"{fix}, or {train}")
    return loaded


def _open_plain(options: OpenOptions) -> VideoModel:
    """The model that options name, with none of the options that some models alone have."""
    return open_model(
        options.model,
        device=options.device,
        dtype=options.dtype,
        compile=options.compile,
        deterministic=options.deterministic,
    )


def open_frames_model(options: OpenOptions) -> UNetModel:
    """The model of the frames between that options name. VidiffError for any other."""
    model = _open_plain(options)
    if not isinstance(model, UNetModel) or not model.only_between:
        raise VidiffError(f"{model.name} does not make the frames between", fix="name a run of --task frames")
    return model


def _open_guided(options: UpscalerOptions) -> UNetModel:
    """A model of videos, on pixels, for guidance by small frames. VidiffError for any other."""
    model = _open_plain(options)
    if not isinstance(model, UNetModel) or not model.codec.is_identity:
        found = "a public model" if not isinstance(model, UNetModel) else "a model of latents"
        raise VidiffError("--by guidance needs a run of vidiff train on pixels", found=found)
    return model


def find_finetuned(model: Path | None) -> TrainedWeights | None:
    """The trained weights of a run that fine-tuned a public model, None for any other model. VidiffError as
    `find_checkpoint`; the file is damaged."""
    path = find_checkpoint(model)
    if not isinstance(described := read_header(path).get("model"), dict) or described.get("base") is None:
        return None
    checkpoint = read_checkpoint(path)
    return TrainedWeights(
        settings=read_model_settings(checkpoint.header, path),
        tensors=checkpoint.tensors,
        path=path,
        hash=file_hash(path),
        clips_seen=read_clips_seen(checkpoint.header, path),
    )


def load_model(
    model: Path | None,
    device: torch.device,
    dtype: torch.dtype,
    *,
    clip: str | None = None,
    autoencoder: str | None = None,
    long_captions: LongCaptions | None = None,
    compile: CompileChoice = "off",
) -> UNetModel:
    """A model from a run folder, a checkpoint folder or file, a run on the hub that was fetched, or "builtin"; None is
    the newest run under runs/, else the one in the box.

    `clip` says where the weights of its CLIP encoder lie; they are opened for the first prompt. `autoencoder`
    says where that of a model lies that works on latents. `long_captions`: what becomes of prompts that are too long,
    by default as the model was trained. `compile` as in `open_model`; VidiffError for `on` where it does not work.
    """
    if compile == "on" and (problem := compile_problem(device)):
        raise VidiffError("torch.compile does not work here", found=problem, fix="use --compile off")
    path = find_checkpoint(model)
    video_model, header = open_video_model(path)
    video_model.requires_grad_(False).eval().to(device)
    encoder, fetched = video_model.settings.text.clip, None if model is None else hub_run(model)
    if clip is not None and encoder is None:
        raise UsageError(f"{path} has no CLIP encoder", found=f"--clip-model {clip}", fix="leave it out")
    latent = video_model.settings.autoencoder
    if autoencoder is not None and latent is None:
        raise UsageError(f"{path} works on pixels", found=f"--autoencoder {autoencoder}", fix="leave it out")
    embed = None if encoder is None else prompt_embedder(encoder, clip, device)
    return UNetModel(
        video_model=video_model,
        reader=video_model.caption_reader(embed, long_captions=long_captions),
        caption_limit=caption_limit(video_model.settings.text, long_captions),
        settings=video_model.settings,
        path=path,
        hash=file_hash(path),
        clips_seen=read_clips_seen(header, path),
        device=device,
        dtype=dtype,
        errors=read_one_pass_errors(header, path),
        measured_steps=read_measured_steps(header, path),
        autoencoder=None if latent is None else open_latent_codec(latent, device, model=path, source=autoencoder),
        clip_model=clip,
        compilation=LaterCompilation(compile),
        is_builtin=path.parent == FOLDER,
        is_default=model is None,
        fetched=fetched,
        licence=(fetched and read_licence(fetched.path)) or _base_licence(model),
    )


def _base_licence(model: Path | None) -> str | None:
    """The licence of the base of a cascade, where it is known."""
    folder = find_cascade(model)
    return None if folder is None else read_cascade(folder).base.licence


def read_one_pass_errors(header: Mapping[str, object], path: Path) -> OnePassErrors | None:
    """Read the one-pass errors in the header of the checkpoint `path`. VidiffError for a damaged entry."""
    try:
        return read_errors(header.get("errors"))
    except ValueError as error:
        raise damaged_checkpoint(path, error) from error


def read_measured_steps(header: Mapping[str, object], path: Path) -> SampleSteps | None:
    """Read the steps of sampling in the header of the checkpoint `path`. VidiffError for a damaged entry."""
    try:
        return read_sample_steps(header.get("steps"))
    except ValueError as error:
        raise damaged_checkpoint(path, error) from error


def read_clips_seen(header: Mapping[str, object], path: Path) -> int:
    """Read the clips of the training from the header of the checkpoint `path`. VidiffError for a damaged entry."""
    count = header.get("clips_seen", 0)
    if type(count) is not int or not 0 <= count < 10**18:
        raise damaged_checkpoint(path, f"clips_seen = {str(count)[:40]}")
    return count


def find_checkpoint(model: Path | None) -> Path:
    """The checkpoint file that a --model names: None is the newest run, or without runs the built-in model. VidiffError
    says what was found instead."""
    if model is None:
        model = newest_run() or BUILTIN
    if fetched := hub_run(model):
        return fetched.path / AVERAGE
    if is_hub_name(str(model)):
        resolve_folder(model)  # what is missing or damaged has its own message
        raise VidiffError(f"{model} is not a model of vidiff's own", found="a public model", expected="a run")
    kind = path_kind(model)
    if kind == "builtin model":
        return builtin_file()
    if model.is_file():
        return model
    for folder in (model, _latest(model)):
        if folder is not None and (folder / AVERAGE).is_file():
            return folder / AVERAGE
    found = "no such file or folder" if kind == "missing" else "a folder without checkpoints"
    raise VidiffError(f"{model} is not a model", found=found, expected="a run folder or a checkpoint file")


def newest_run(tasks: Collection[Task] = ("video",)) -> Path | None:
    """The run under runs/ that was trained last, of those for one of the tasks."""
    pointers = sorted(RUNS.glob("*/checkpoints/latest"), key=lambda path: path.stat().st_mtime, reverse=True)
    return next((path.parents[1] for path in pointers if task_of(path.parents[1]) in tasks), None)


def task_of(model: Path) -> Task:
    """Task of a model; that of videos for a damaged one, which has its own message when it is opened."""
    try:
        network = read_header(find_checkpoint(model))["model"]["network"]
        if network.get("upscale"):
            return "upscale"
        return "frames" if network.get("between") else "video"
    except (VidiffError, KeyError, TypeError, AttributeError):
        return "video"


def _latest(run: Path) -> Path | None:
    pointer = run / "checkpoints" / "latest"
    if not pointer.is_file():
        return None
    name = pointer.read_text(encoding="utf-8", errors="replace").strip()
    if len(name) > LONGEST_NAME or "\0" in name:
        return None
    return run / "checkpoints" / Path(name).name  # the name only: a path from a file is not trusted

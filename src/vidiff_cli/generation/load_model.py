"""Find and load a model, and close prompts and times over its denoiser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vidiff_cli.checkpoint import AVERAGE, damaged_checkpoint, file_hash
from vidiff_cli.config.model import LongCaptions, ModelSettings
from vidiff_cli.device import choose_device, choose_dtype
from vidiff_cli.diffusion.guidance import classifier_free
from vidiff_cli.diffusion.samplers import Denoise
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.generation.builtin import builtin_file
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.one_pass_errors import OnePassErrors, read_errors
from vidiff_cli.models.video_model import VideoNetwork, open_video_model
from vidiff_cli.motion import estimate_clip
from vidiff_cli.path_kind import BUILTIN, path_kind
from vidiff_cli.text.encoder import CaptionReader
from vidiff_cli.text.long_captions import CaptionLimit, caption_limit
from vidiff_cli.text.prompt_encoder import prompt_embedder

RUNS = Path("runs")
LONGEST_NAME = 200  # of a checkpoint folder
HARDLY_TRAINED = 5_000  # clips: below it nobody should judge a model by its samples


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedModel:
    """A loaded model: `path` and `hash` of the checkpoint file, `clips_seen` in training; `errors` of its frames in one
    pass, where the checkpoint tells them; `clip_model` as --clip-model names it; `is_default`: no model was named.

    `reader` makes the input of the text encoder of prompts, which reads as much of each as `caption_limit` says; both
    are None for a model without text."""

    video_model: VideoNetwork
    reader: CaptionReader | None
    settings: ModelSettings
    path: Path
    hash: str
    clips_seen: int
    device: torch.device
    dtype: torch.dtype
    caption_limit: CaptionLimit | None = None
    errors: OnePassErrors | None = None
    clip_model: str | None = None
    is_default: bool = False

    @property
    def is_builtin(self) -> bool:
        """True for the built-in model."""
        return self.path == builtin_file()

    @property
    def name(self) -> str:
        """Its name for --model."""
        return str(BUILTIN if self.is_builtin else self.path)

    @property
    def fps(self) -> Fraction:
        """Base rate of the training clips."""
        return Fraction(self.settings.fps)

    def denoiser(
        self,
        times: Tensor,
        given: Tensor,
        prompts: Sequence[str],
        *,
        scale: float,
        negative: str | None = None,
        known: Tensor | None = None,
        observed: Tensor | None = None,
    ) -> Denoise:
        """A denoiser with times (b, t) in seconds, given flags (b, t) and one prompt per clip closed over; "" is no
        prompt. A network that is shown motion is shown what it makes of the frames of `known` (b c t h w) that are
        `observed` (b t)."""
        plain = Conditioning(times=times, observed=given)
        if self.settings.network.motion and known is not None and observed is not None and bool(observed.any()):
            estimate, uncertainty = estimate_clip(known, observed, times)
            plain = replace(plain, estimate=estimate, uncertainty=uncertainty, estimated_from=observed)
        conditional = partial(self._denoise, self._with_text(plain, prompts))
        if not any(prompts) and not negative:
            return conditional
        against = self._with_text(plain, [negative or ""] * len(prompts))
        return classifier_free(conditional, partial(self._denoise, against), scale)

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        """Words that the text encoder has never seen."""
        return self.video_model.text.unknown_words(prompt) if self.video_model.text is not None else ()

    def embed_prompts(self, prompts: Sequence[str]) -> None:
        """Reads prompts before any work is done. VidiffError where the encoder's weights are missing or others."""
        if self.reader is not None and any(prompts):
            self.reader([prompt for prompt in dict.fromkeys(prompts) if prompt])

    def _with_text(self, plain: Conditioning, prompts: Sequence[str]) -> Conditioning:
        if self.video_model.text is None or not any(prompts):
            return plain
        assert self.reader is not None, "a model with text has a reader of captions"
        with torch.no_grad():
            embedded = self.video_model.text(self.reader(prompts).to(self.device))
        return replace(
            plain,
            tokens=embedded.tokens,
            token_mask=embedded.mask,
            pooled=embedded.pooled,
            dropped=torch.tensor([not prompt for prompt in prompts], device=plain.times.device),
        )

    def _denoise(self, conditioning: Conditioning, z: Tensor, level: Tensor) -> Tensor:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.video_model.denoiser(z, level.float(), conditioning)


def open_model(
    model: Path | None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    clip_model: str | None = None,
    long_captions: LongCaptions | None = None,
) -> LoadedModel:
    """`load_model` on the device and in the number format of these names."""
    chosen = choose_device(device)
    return load_model(model, chosen, choose_dtype(dtype, chosen), clip=clip_model, long_captions=long_captions)


def load_model(
    model: Path | None,
    device: torch.device,
    dtype: torch.dtype,
    *,
    clip: str | None = None,
    long_captions: LongCaptions | None = None,
) -> LoadedModel:
    """A model from a run folder, a checkpoint folder or file, or "builtin"; None is the newest run under runs/, else
    the one in the box.

    `clip` says where the weights of its CLIP encoder lie; they are opened for the first prompt. `long_captions`: what
    becomes of prompts that are too long, by default as the model was trained.
    """
    path = find_checkpoint(model)
    video_model, header = open_video_model(path)
    video_model.requires_grad_(False).eval().to(device)
    encoder = video_model.settings.text.clip
    if clip is not None and encoder is None:
        raise UsageError(f"{path} has no CLIP encoder", found=f"--clip-model {clip}", fix="leave it out")
    embed = None if encoder is None else prompt_embedder(encoder, clip, device)
    return LoadedModel(
        video_model=video_model,
        reader=video_model.caption_reader(embed, long_captions=long_captions),
        caption_limit=caption_limit(video_model.settings.text, long_captions),
        settings=video_model.settings,
        path=path,
        hash=file_hash(path),
        clips_seen=_clips_seen(header, path),
        device=device,
        dtype=dtype,
        errors=read_one_pass_errors(header, path),
        clip_model=clip,
        is_default=model is None,
    )


def read_one_pass_errors(header: Mapping[str, object], path: Path) -> OnePassErrors | None:
    """Read the one-pass errors in the header of the checkpoint `path`. VidiffError for a damaged entry."""
    try:
        return read_errors(header.get("errors"))
    except ValueError as error:
        raise damaged_checkpoint(path, error) from error


def _clips_seen(header: Mapping[str, object], path: Path) -> int:
    count = header.get("clips_seen", 0)
    if type(count) is not int or not 0 <= count < 10**18:
        raise damaged_checkpoint(path, f"clips_seen = {str(count)[:40]}")
    return count


def find_checkpoint(model: Path | None) -> Path:
    """The checkpoint file that a --model names: None is the newest run, or without runs the built-in model. VidiffError
    says what was found instead."""
    if model is None:
        model = newest_run() or BUILTIN
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


def newest_run() -> Path | None:
    """The run under runs/ that was trained last."""
    runs = sorted(RUNS.glob("*/checkpoints/latest"), key=lambda path: path.stat().st_mtime)
    return runs[-1].parents[1] if runs else None


def _latest(run: Path) -> Path | None:
    pointer = run / "checkpoints" / "latest"
    if not pointer.is_file():
        return None
    name = pointer.read_text(encoding="utf-8", errors="replace").strip()
    if len(name) > LONGEST_NAME or "\0" in name:
        return None
    return run / "checkpoints" / Path(name).name  # the name only: a path from a file is not trusted

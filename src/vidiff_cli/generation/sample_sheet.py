"""Contact sheets of samples during a training.

Shapes: b clips, n frames, h w pixels, c = 3 RGB; uint8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vidiff_cli.diffusion.guidance import hold_known
from vidiff_cli.diffusion.noise import seeded
from vidiff_cli.frames import Window
from vidiff_cli.generation.generate import generate_clips
from vidiff_cli.generation.sampling_setup import SamplingOptions, resolve_sampling
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.models.codec import Codec
from vidiff_cli.models.families import VideoModel
from vidiff_cli.models.public.finetuned import ModelInTraining
from vidiff_cli.models.public.trained import PublicNetwork
from vidiff_cli.models.unet_model import model_in_training
from vidiff_cli.models.video_model import VideoNetwork
from vidiff_cli.motion import estimate_clip
from vidiff_cli.pixels import clip_to_uint8
from vidiff_cli.resize import enlarge, low_resolution
from vidiff_cli.text.encoder import CaptionReader
from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet


def sample_sheet(
    video_model: VideoNetwork,
    prompts: Sequence[str],
    path: Path,
    reader: CaptionReader | None,
    *,
    device: torch.device,
    dtype: torch.dtype,
    options: SamplingOptions,
    autoencoder: Codec | None = None,
) -> None:
    """Write a contact sheet of one window per prompt, video i with seed i.

    Args:
        video_model: The model in training; it is put into evaluation mode.
        prompts: One prompt per row; "" is no prompt.
        path: The picture to write.
        reader: Reads the prompts for the model's text encoder; None for a model without one.
        device: Device of the model.
        dtype: Number format of the network.
        options: How windows are sampled.
        autoencoder: Decodes what a model makes that works on latents.
    """
    video_model.requires_grad_(False).eval()
    known = video_model.settings
    model: VideoModel
    if isinstance(video_model, PublicNetwork):
        model = ModelInTraining(video_model, prompts, reader, path, device=device, dtype=dtype)
    else:
        model = model_in_training(video_model, reader, device=device, dtype=dtype, path=path, autoencoder=autoencoder)
    job = VideoJob(
        windows=[Window(frames=tuple(range(known.frames)), observed=frozenset(), makes=frozenset(range(known.frames)))],
        times=[Fraction(frame) / model.fps for frame in range(known.frames)],
        prompts=lambda number: prompts,
        seeds=list(range(len(prompts))),
    )
    empty = np.zeros((len(prompts), known.frames, known.height, known.width, 3), np.uint8)
    clips = generate_clips(model, resolve_sampling(model, options), job, empty)
    rows = [SheetRow(label=prompt or "(no caption)", frames=clip) for prompt, clip in zip(prompts, clips, strict=True)]
    contact_sheet(rows, path)


@torch.no_grad()
def upscaled_sheet(
    video_model: VideoNetwork, videos: Tensor, path: Path, *, device: torch.device, dtype: torch.dtype
) -> None:
    """Write a contact sheet of videos (b c t h w) in [-1, 1] made small, enlarged, and upscaled in one pass from noise.

    The noise of video i has seed i.
    """
    video_model.requires_grad_(False).eval()
    model = model_in_training(video_model, None, device=device, dtype=dtype, path=path)
    b, _, t, h, _ = videos.shape
    small = low_resolution(videos, model.scale)
    enlarged = enlarge(small, model.scale)
    times = torch.arange(t, device=device).expand(b, t) / float(model.fps)
    given = torch.zeros(b, t, dtype=torch.bool, device=device)
    noise = torch.stack([torch.randn(videos.shape[1:], generator=seeded(number)) for number in range(b)]).to(device)
    denoise = model.upscaler(small, times, given, augmentation=0.0, tile=h)
    made = denoise(noise, torch.full((b, t), model.level_at(1.0), device=device))
    cells = functional.interpolate(small, scale_factor=(1, model.scale, model.scale))
    _write_rows({"upscaled": made, "enlarged": enlarged, "small": cells, "true": videos}, path)


@torch.no_grad()
def between_sheet(
    video_model: VideoNetwork,
    videos: Tensor,
    path: Path,
    *,
    observed: Tensor,
    times: Tensor,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Write a contact sheet of videos (b c t h w) in [-1, 1]: made from their given frames in one pass from noise, the
    estimate by motion, the given frames alone, the truth.

    `observed` (b t) marks the given frames, `times` (b t) are seconds. The noise of video i has seed i.
    """
    video_model.requires_grad_(False).eval()
    model = model_in_training(video_model, None, device=device, dtype=dtype, path=path)
    noise = torch.stack([torch.randn(videos.shape[1:], generator=seeded(number)) for number in range(len(videos))])
    free = model.denoiser(times, observed, [""] * len(videos), scale=1.0, known=videos, observed=observed)
    denoise = hold_known(free, videos, observed, level=model.level_at(0.0))
    made = denoise(noise.to(device), torch.full(observed.shape, model.level_at(1.0), device=device))
    estimate, _ = estimate_clip(videos, observed, times)
    given = torch.where(observed[:, None, :, None, None], videos, torch.zeros_like(videos))
    _write_rows({"made": made, "estimate": estimate, "given": given, "true": videos}, path)


def _write_rows(shown: Mapping[str, Tensor], path: Path) -> None:
    """A sheet of videos (b c t h w), gray ones too, under their labels."""
    count = len(next(iter(shown.values())))
    contact_sheet(
        [
            SheetRow(label=label, frames=clip_to_uint8(clips[number].expand(3, -1, -1, -1)))
            for number in range(count)
            for label, clips in shown.items()
        ],
        path,
    )

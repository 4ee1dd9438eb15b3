"""The tiny model as generation sees it, distilled or not, and a clip that it makes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from tiny_model import tiny_video_model

from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.config.model import DistilledSettings
from vidiff_cli.frames import plan
from vidiff_cli.generation.generate import generate_clips
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.models.families import VideoModel
from vidiff_cli.models.unet_model import UNetModel


def model_of(distilled: DistilledSettings | None) -> UNetModel:
    video_model = tiny_video_model(noise=0.1).requires_grad_(False).eval()
    return UNetModel(
        video_model=video_model,
        reader=video_model.caption_reader(),
        settings=video_model.settings.model_copy(update={"distilled": distilled}),
        path=Path("student"),
        hash="",
        clips_seen=0,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )


STUDENT = DistilledSettings(steps=3, guidance_scale=2.5)


def made(model: VideoModel, **options: object) -> np.ndarray:
    job = VideoJob(
        windows=plan(4, (), window=4, overlap=2),
        times=[Fraction(frame, 8) for frame in range(4)],
        prompts=lambda number: ["a red square moving left"],
        seeds=[0],
    )
    setup = resolve_sampling(model, GenerationSettings.model_validate(options))
    return generate_clips(model, setup, job, np.zeros((1, 4, 4, 4, 3), np.uint8))

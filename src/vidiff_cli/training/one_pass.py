"""Error of a model's frames after one pass from noise, and of the motion estimate, by distance of the observed frames.

A mixture of the two is weighted by these errors. One pass from the noisiest level is the model's posterior mean. The
clips, their windows and the noise are the same for every model of a dataset. Errors are root mean squares in pixels of
[-1, 1], over all pixels and clips. Shapes: b clips, t frames of a window.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.device import CLIPS_ON_CPU, send
from vidiff_cli.diffusion.noise import Prior, seeded
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.one_pass_errors import PARTS, OnePassErrors
from vidiff_cli.models.video_model import VideoNetwork
from vidiff_cli.training.loader import ClipSource
from vidiff_cli.training.motion_estimates import estimate_between, estimate_frames
from vidiff_cli.training.validation import SEED, ValidationSet, clips_in_batches, make_validation_set

BETWEEN = (1, 3, 7)  # frames that are missing between two observed ones
BEYOND = (1, 2, 4, 8)  # distances after the last of several observed ones
MAX_CLIPS = 16


def choose_clips(source: ClipSource, model: ModelSettings, *, crop: int = 0) -> ValidationSet | None:
    """At most 16 clips of a source, at the model's base rate; None where it has none, or for a model that is not
    trained on given frames, on latents, or for super-resolution: the errors are those of pixels, beside an estimate by
    motion."""
    if model.conditioning == "none" or model.frames < 3 or model.autoencoder is not None or model.network.upscale:
        return None
    whole = model.model_copy(update={"conditioning": "none", "frame_strides": model.frame_strides[:1]})
    return make_validation_set(source, whole, crop=crop, max_samples=MAX_CLIPS)


def measure_errors(
    video_model: VideoNetwork,
    validation_set: ValidationSet,
    *,
    split: str,
    device: torch.device,
    dtype: torch.dtype,
    at_once: int = CLIPS_ON_CPU,
) -> OnePassErrors:
    """Measure the errors of a model's frames in one pass, without captions. No global random number is drawn.

    Args:
        video_model: The model, in evaluation mode.
        validation_set: The held-out clips.
        split: Name of their part of the dataset, for the record.
        device: Device of the model.
        dtype: Number format of the network.
        at_once: Clips that go through the network together.

    Returns:
        Errors by gap; gaps that no window has room for are left out.
    """
    network = video_model.settings.network
    sums = dict[tuple[str, int], np.ndarray]()  # of squares: the model's and the estimate's; and of how many numbers
    with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        for indices, video, frames in clips_in_batches(validation_set, at_once, device):
            times = np.array([validation_set.draws[index].times for index in indices])
            tasks = _tasks(video.shape[2])
            for part, observed, counted in [task for task in tasks if task[0] == "between" or not network.between]:
                observed_clips = np.repeat(observed[None], len(indices), axis=0)
                estimate = [send(each, device) for each in estimate_frames(frames, observed_clips, times)]
                conditioning = Conditioning(
                    times=send(torch.from_numpy(times).float(), device),
                    observed=send(torch.from_numpy(observed_clips), device),
                    estimate=estimate[0],
                    uncertainty=estimate[1],
                    estimated_from=send(torch.from_numpy(observed_clips), device),
                    around=send(_around(frames, observed_clips, times), device) if network.between else None,
                )
                off = [
                    (each - video).double().square()
                    for each in (_one_pass(video_model, video, conditioning, indices), estimate[0])
                ]
                for gap, chosen in counted.items():
                    both = torch.stack([each[:, :, chosen].sum() for each in off]).tolist()  # one wait for the device
                    found = np.array([*both, off[0][:, :, chosen].numel()])
                    sums[part, gap] = sums.get((part, gap), np.zeros(3)) + found
    errors = {key: (math.sqrt(model / count), math.sqrt(alone / count)) for key, (model, alone, count) in sums.items()}
    between, beyond = ({gap: pair for (name, gap), pair in errors.items() if name == part} for part in PARTS)
    return OnePassErrors(between=between, beyond=beyond, clips=len(validation_set.draws), split=split)


def _around(frames: np.ndarray, observed: np.ndarray, times: np.ndarray) -> Tensor:
    return estimate_between(frames, observed, times, [1.0] * len(frames))


def _tasks(t: int) -> list[tuple[str, np.ndarray, dict[int, list[int]]]]:
    """The measurements in windows of t frames: (part, observed frames (t,), measured frames by gap).

    Between: every n-th frame is observed. Beyond: as many of the first frames as in a window of generation, or fewer
    (at least two) where the farthest frame does not fit otherwise.
    """
    tasks = list[tuple[str, np.ndarray, dict[int, list[int]]]]()
    frames = np.arange(t)
    for gap in BETWEEN:
        observed = frames % (gap + 1) == 0
        inside = ~observed & (frames < frames[observed].max(initial=0))
        if inside.any():
            tasks.append(("between", observed, {gap: np.flatnonzero(inside).tolist()}))
    reached = [gap for gap in BEYOND if gap <= t - 2]
    if reached:
        context = max(2, min(t // 2, t - reached[-1]))
        tasks.append(
            ("beyond", frames < context, {gap: [context - 1 + gap] for gap in reached if context - 1 + gap < t})
        )
    return tasks


def _one_pass(video_model: VideoNetwork, video: Tensor, conditioning: Conditioning, indices: list[int]) -> Tensor:
    """The model's frames after one pass from noise and the observed frames (b c t h w). Each clip has its own noise,
    drawn on the CPU: the same on every device."""
    diffusion = video_model.settings.diffusion
    white = torch.stack([torch.randn(video.shape[1:], generator=seeded(SEED, index)) for index in indices])
    noise = Prior(name=diffusion.noise, strength=diffusion.noise_strength).correlate(white).to(video)
    level = torch.where(conditioning.observed, diffusion.high, diffusion.low)
    z = torch.where(conditioning.observed[:, None, :, None, None], video, noise)
    return video_model.denoiser(z, level, conditioning).clamp(-1, 1)

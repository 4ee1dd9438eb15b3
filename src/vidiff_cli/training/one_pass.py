"""How far off the frames are that a model makes of noise in one pass, and those that motion alone makes, by how far
away the given frames are: what a mixture of the two has to know.

One pass from the noisiest level is the model's posterior mean. The clips, their windows and the noise are the same for
every model of a dataset. Errors are root mean squares in pixels of [-1, 1], over all pixels and clips. Shapes: b clips,
t frames of a window.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.diffusion.noise import Prior, seeded
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.one_pass_errors import PARTS, OnePassErrors
from vidiff_cli.models.video_model import VideoModel
from vidiff_cli.training.loader import ClipSource
from vidiff_cli.training.motion_estimates import estimate_frames
from vidiff_cli.training.validation import AT_ONCE, SEED, ValidationSet, clips_in_batches, make_validation_set

BETWEEN = (1, 3, 7)  # frames that are missing between two given ones
BEYOND = (1, 2, 4, 8)  # places after the last of several given ones
MOST_CLIPS = 16


def choose_clips(source: ClipSource, model: ModelSettings, *, crop: int = 0) -> ValidationSet | None:
    """At most 16 clips of a source, at the model's base rate; None where it has none, or for a model that is not
    trained on given frames."""
    if model.conditioning == "none" or model.frames < 3:
        return None
    whole = model.model_copy(update={"conditioning": "none", "frame_strides": model.frame_strides[:1]})
    return make_validation_set(source, whole, crop=crop, most=MOST_CLIPS)


def measure_errors(
    video_model: VideoModel,
    held: ValidationSet,
    *,
    split: str,
    device: torch.device,
    dtype: torch.dtype,
    at_once: int = AT_ONCE,
) -> OnePassErrors:
    """The errors of a model in evaluation mode on `device`, without captions; `at_once` clips at a time. Gaps that no
    window has room for are left out. No global random number is drawn."""
    sums = dict[tuple[str, int], np.ndarray]()  # of squares: the model's and the estimate's; and of how many numbers
    with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        for places, video, frames in clips_in_batches(held, at_once, device):
            times = np.array([held.draws[place].times for place in places])
            for part, observed, counted in _tasks(video.shape[2]):
                given = np.repeat(observed[None], len(places), axis=0)
                estimate = [each.to(device) for each in estimate_frames(frames, given, times)]
                told = Conditioning(
                    times=torch.from_numpy(times).float().to(device),
                    observed=torch.from_numpy(given).to(device),
                    estimate=estimate[0],
                    uncertainty=estimate[1],
                    estimated_from=torch.from_numpy(given).to(device),
                )
                off = [
                    (each - video).double().square()
                    for each in (_one_pass(video_model, video, told, places), estimate[0])
                ]
                for gap, chosen in counted.items():
                    found = [*(float(each[:, :, chosen].sum()) for each in off), off[0][:, :, chosen].numel()]
                    sums[part, gap] = sums.get((part, gap), np.zeros(3)) + np.array(found)
    errors = {key: (math.sqrt(model / count), math.sqrt(alone / count)) for key, (model, alone, count) in sums.items()}
    between, beyond = ({gap: pair for (name, gap), pair in errors.items() if name == part} for part in PARTS)
    return OnePassErrors(between=between, beyond=beyond, clips=len(held.draws), split=split)


def _tasks(t: int) -> list[tuple[str, np.ndarray, dict[int, list[int]]]]:
    """What windows of t frames are asked: (part, the observed frames (t,), for each gap the frames that count).

    Between: every n-th frame is given. Beyond: as many of the first ones as a window of generation has, or fewer, but
    two at least, where only so the farthest frame finds room.
    """
    tasks = list[tuple[str, np.ndarray, dict[int, list[int]]]]()
    places = np.arange(t)
    for gap in BETWEEN:
        observed = places % (gap + 1) == 0
        inside = ~observed & (places < places[observed].max(initial=0))
        if inside.any():
            tasks.append(("between", observed, {gap: np.flatnonzero(inside).tolist()}))
    reached = [gap for gap in BEYOND if gap <= t - 2]
    if reached:
        given = max(2, min(t // 2, t - reached[-1]))
        tasks.append(("beyond", places < given, {gap: [given - 1 + gap] for gap in reached if given - 1 + gap < t}))
    return tasks


def _one_pass(video_model: VideoModel, video: Tensor, told: Conditioning, places: list[int]) -> Tensor:
    """What the model makes of noise and the given frames in one pass (b c t h w). Each clip has noise of its own,
    drawn on the CPU: the same on every device."""
    diffusion = video_model.settings.diffusion
    white = torch.stack([torch.randn(video.shape[1:], generator=seeded(SEED, place)) for place in places])
    noise = Prior(name=diffusion.noise, strength=diffusion.noise_strength).correlate(white).to(video)
    level = torch.where(told.observed, diffusion.high, diffusion.low)
    z = torch.where(told.observed[:, None, :, None, None], video, noise)
    return video_model.denoiser(z, level, told).clamp(-1, 1)

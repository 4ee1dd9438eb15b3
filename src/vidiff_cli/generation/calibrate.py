"""Calibrate a model on the input itself: the weight with which its frames are added to the estimate by motion.

Some of the input's frames are held back, generated like the missing ones, and compared with the truth. Shapes: b
windows, c channels, t frames, h w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from vidiff_cli.events import EventStream, Note
from vidiff_cli.frames import Window
from vidiff_cli.generation.generate import generate_clips
from vidiff_cli.generation.sampling_setup import SamplingSetup
from vidiff_cli.generation.source_clip import SourceClip
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.luma import to_gray, to_rgb
from vidiff_cli.models.codec import floor_length, is_gray
from vidiff_cli.models.families import VideoModel
from vidiff_cli.motion import estimate_clip
from vidiff_cli.pixels import clip_from_uint8
from vidiff_cli.sampling.merge import FULL_GAIN, NO_GAIN, Gain, GainOf, fit_gain, gain_by_step
from vidiff_cli.timeline import Timeline

MAX_WINDOWS = 4  # of the input, of which frames are held back
HORIZONS = (1, 2, 4, 8)  # frames beyond the last, that have a weight of their own
BETWEEN, BEYOND = 3, 4  # frames that are needed at least to hold some back


def calibrate(
    model: VideoModel, setup: SamplingSetup, clip: SourceClip, line: Timeline, samples: int
) -> EventStream[GainOf]:
    """Measure the gain of the model at every rank: one between given frames, one by distance beyond them.

    Of an input too short to hold frames back the gain is 1 beyond single frames, whose motion is unknown, else 0.
    """
    given = sorted(line.given)
    scenes = find_scenes(clip)
    lone = max(map(len, scenes), default=0) == 1
    between, beyond = NO_GAIN, [(1.0, FULL_GAIN if lone else NO_GAIN)]
    made = [rank for rank in range(len(line.times)) if rank not in line.given and rank not in line.repeats]
    inner = [rank for rank in made if given[0] < rank < given[-1]]
    if inner and model.codec.temporal == 1 and max(map(len, scenes), default=0) >= BETWEEN:
        between = _gain_between(model, setup, clip, scenes, samples)
    if len(inner) < len(made) and max(map(len, scenes), default=0) >= max(BEYOND, 1 + model.codec.temporal):
        beyond = _gains_beyond(model, setup, clip, scenes, samples)
    shares = [f"{sum(gain.values) / len(gain.values):.2f}" for _, gain in ([(0, between)] if inner else beyond)]
    yield Note(f"Held-back frames of the input say: {' '.join(shares)} of what the model corrects is right.")

    def gain_of(rank: int) -> Gain:
        if given[0] < rank < given[-1]:
            return between
        edge = given[0] if rank < given[0] else given[-1]
        return gain_by_step(beyond, abs(rank - edge))

    return gain_of


def find_scenes(clip: SourceClip) -> list[range]:
    """The frames of the input, scene by scene; each inserted picture is one of its own."""
    pictures = {edge for number in clip.inserted for edge in (number, number + 1)}
    edges = sorted({0, *clip.starts, *pictures, len(clip)})
    return [range(low, high) for low, high in pairwise(edges)]


def window_starts(scenes: Sequence[range], length: int, most: int = MAX_WINDOWS) -> list[int]:
    """Start frames of windows of `length` frames, at most `most`, evenly spread over all that fit in a scene."""
    fitting = [start for scene in scenes for start in range(scene.start, scene.stop - length + 1)]
    count = min(most, len(fitting))
    return [fitting[(2 * place + 1) * len(fitting) // (2 * count)] for place in range(count)]


def _gain_between(
    model: VideoModel, setup: SamplingSetup, clip: SourceClip, scenes: Sequence[range], samples: int
) -> Gain:
    """Every other frame of some windows is held back."""
    length = min(model.frames, max(map(len, scenes)))
    length -= 1 - length % 2  # ends with a frame that is shown
    observed = torch.arange(length) % 2 == 0
    truth, made, estimate, uncertainty = _hold_back(model, setup, clip, scenes, observed, samples)
    hidden = ~observed
    return fit_gain(made[:, :, hidden], estimate[:, :, hidden], truth[:, :, hidden], uncertainty[:, :, hidden])


def _gains_beyond(
    model: VideoModel, setup: SamplingSetup, clip: SourceClip, scenes: Sequence[range], samples: int
) -> list[tuple[float, Gain]]:
    """The second half of some windows is held back."""
    length = floor_length(model.codec, min(model.frames, max(map(len, scenes))))
    shown = floor_length(model.codec, length // 2) if length > 1 else 0
    observed = torch.arange(length) < shown
    parts = _hold_back(model, setup, clip, scenes, observed, samples)
    gains = []
    for first, stop in zip(HORIZONS, (*HORIZONS[1:], length), strict=True):
        if shown + first - 1 >= length:
            break
        places = slice(shown + first - 1, min(length, shown + stop - 1) or length)
        truth, made, estimate, uncertainty = (part[:, :, places] for part in parts)
        if truth.shape[2]:
            gains.append((float(first), fit_gain(made, estimate, truth, uncertainty)))
    return gains


def _hold_back(
    model: VideoModel,
    setup: SamplingSetup,
    clip: SourceClip,
    scenes: Sequence[range],
    observed: Tensor,
    samples: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Generate the frames of windows of the input that are not `observed`.

    Returns (truth, the model's frames, the estimate: b c t h w, its uncertainty: b 1 t h w).
    """
    length = len(observed)
    starts = window_starts(scenes, length)
    frames = np.stack([clip.frames.read(range(start, start + length)) for start in starts])
    if is_gray(model.codec):
        frames = to_rgb(to_gray(frames))
    video = torch.cat([clip_from_uint8(shown) for shown in frames])
    seen = frozenset(torch.nonzero(observed)[:, 0].tolist())
    window = Window(frames=tuple(range(length)), observed=seen, makes=frozenset(range(length)) - seen)
    times = [Fraction(place) / (clip.fps or model.fps) for place in range(length)]
    tries = []
    for number in range(samples):
        seeds = [number * len(starts) + place for place in range(len(starts))]
        job = VideoJob(windows=[window], times=times, prompts=lambda _: [""] * len(starts), seeds=seeds)
        made = generate_clips(model, setup, job, frames)
        tries.append(torch.cat([clip_from_uint8(clip) for clip in made]))
    made = torch.stack(tries).mean(0)
    masks = observed[None].expand(len(starts), -1)
    moments = torch.tensor([float(time) for time in times])[None].expand(len(starts), -1)
    estimate, uncertainty = estimate_clip(video, masks, moments)
    return video, made, estimate, uncertainty

"""Calibrate a model on the input itself: the weight with which its frames are added to the estimate by motion.

Some of the input's frames are held back, generated like the missing ones, and compared with the truth; with upscalers
once more at their size. Shapes: b windows, c channels, t frames, h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from vidiff_cli.events import EventStream, Note
from vidiff_cli.frames import Window
from vidiff_cli.generation.generate import generate_clips
from vidiff_cli.generation.sampling_setup import SamplingSetup
from vidiff_cli.generation.source_clip import Size, SourceClip
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.luma import to_gray, to_rgb
from vidiff_cli.models.codec import floor_length, is_gray
from vidiff_cli.models.families import VideoModel
from vidiff_cli.motion import estimate_clip
from vidiff_cli.pixels import LEVELS_PER_UNIT, clip_from_uint8, clip_to_uint8
from vidiff_cli.sampling.full_size import full_frames
from vidiff_cli.sampling.merge import (
    FULL_GAIN,
    NO_GAIN,
    Gain,
    GainOf,
    add_correction,
    fit_gain,
    gain_by_step,
)
from vidiff_cli.timeline import Timeline

MAX_WINDOWS = 4  # of the input, of which frames are held back
LARGE_SIDE = 256  # pixels of the middle of large frames, that their weight is fitted to
MEASURED_PIXELS = 2**20  # of a frame of each window together, where a model works at the input's size
HORIZONS = (1, 2, 4, 8)  # frames beyond the last, that have a weight of their own
BETWEEN, BEYOND = 3, 4  # frames that are needed at least to hold some back
HELPS = 0.05  # weight, of which less is not worth the upscaling


@dataclass(frozen=True, kw_only=True, slots=True)
class Gains:
    """The weight of the model's frames and, with upscalers that help, that of the upscaled ones, by rank."""

    small: GainOf
    large: GainOf | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Larger:
    """Upscalers that follow a model: `upscale` takes frames (t h w c) uint8 of a timeline to `size` (h w), where it is
    shown the given ones (by number, of that size); `read` gives frames of the input (h w c) of that size with their
    numbers."""

    upscale: Callable[[np.ndarray, Timeline, np.ndarray], np.ndarray]
    read: Callable[[Collection[int]], Iterable[tuple[int, np.ndarray]]]
    size: Size


@dataclass(frozen=True, kw_only=True, slots=True)
class _HeldBack:
    """Windows of which frames that are not `observed` (t) are made: the truth, what was made, the estimate (b c t h w)
    and its uncertainty (b 1 t h w)."""

    starts: Sequence[int]
    observed: Tensor
    truth: Tensor
    made: Tensor
    estimate: Tensor
    uncertainty: Tensor

    def fit(self, places: Tensor) -> Gain:
        """The gain of the frames at some places (t)."""
        made, estimate, truth, uncertainty = (
            part[:, :, places] for part in (self.made, self.estimate, self.truth, self.uncertainty)
        )
        return fit_gain(made, estimate, truth, uncertainty)


Steps = Sequence[tuple[float, Gain]]
"""Gains by the distance from the nearest given frame: each holds from its step on."""


def calibrate(
    model: VideoModel,
    setup: SamplingSetup,
    clip: SourceClip,
    line: Timeline,
    samples: int,
    larger: Larger | None = None,
) -> EventStream[Gains]:
    """Measure the gain of the model at every rank: one between given frames, one by distance beyond them; there also
    that of upscaled frames, in what the model's frames have made of the estimate. (Between given frames the estimate
    has their detail, and upscaled frames gained nothing where they were tried.)

    Of an input too short to hold frames back the gains are 1 beyond single frames, whose motion is unknown, else 0.
    """
    given = sorted(line.given)
    scenes = find_scenes(clip)
    longest = max(map(len, scenes), default=0)
    between, beyond = NO_GAIN, [(1.0, FULL_GAIN if longest == 1 else NO_GAIN)]
    large: Steps = beyond
    made = [rank for rank in range(len(line.times)) if rank not in line.given and rank not in line.repeats]
    inner = [rank for rank in made if given[0] < rank < given[-1]]
    if inner and model.codec.temporal == 1 and longest >= BETWEEN:
        between = _between(model, setup, clip, scenes, samples)
    if len(inner) < len(made) and longest >= max(BEYOND, 1 + model.codec.temporal):
        beyond, large = _beyond(model, setup, clip, scenes, samples, larger)
    shown = [(0.0, between)] if inner else beyond
    yield Note(f"Held-back frames of the input say: {_shares(shown)} of what the model corrects is right.")
    helps = len(inner) < len(made) and any(value >= HELPS for _, gain in large for value in gain.values)
    if larger is not None:
        yield Note(_upscaling_note(larger, large if helps else None, is_between=len(inner) == len(made)))

    def gain_of(rank: int, outer: Steps, inside: Gain) -> Gain:
        if given[0] < rank < given[-1]:
            return inside
        edge = given[0] if rank < given[0] else given[-1]
        return gain_by_step(outer, abs(rank - edge))

    return Gains(
        small=lambda rank: gain_of(rank, beyond, between),
        large=(lambda rank: gain_of(rank, large, NO_GAIN)) if larger is not None and helps else None,
    )


def _upscaling_note(larger: Larger, large: Steps | None, *, is_between: bool) -> str:
    if large is not None:
        return f"At {larger.size[1]}x{larger.size[0]}: {_shares(large)} of what the upscalers correct."
    if is_between:
        return "Between given frames, whose detail the estimate has, upscalers are taken with --detail model alone."
    return "The upscalers are of no help for this input: the model's frames are enlarged without them."


def _shares(gains: Steps) -> str:
    return " ".join(f"{sum(gain.values) / len(gain.values):.2f}" for _, gain in gains)


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


def _between(model: VideoModel, setup: SamplingSetup, clip: SourceClip, scenes: Sequence[range], samples: int) -> Gain:
    """Every other frame of some windows is held back."""
    length = min(model.frames, max(map(len, scenes)))
    length -= 1 - length % 2  # ends with a frame that is shown
    observed = torch.arange(length) % 2 == 0
    return _hold_back(model, setup, clip, scenes, observed, samples).fit(~observed)


def _beyond(
    model: VideoModel,
    setup: SamplingSetup,
    clip: SourceClip,
    scenes: Sequence[range],
    samples: int,
    larger: Larger | None,
) -> tuple[Steps, Steps]:
    """The second half of some windows is held back. The gains of the model's frames, and of upscaled ones."""
    length = floor_length(model.codec, min(model.frames, max(map(len, scenes))))
    shown = floor_length(model.codec, length // 2) if length > 1 else 0
    held = _hold_back(model, setup, clip, scenes, torch.arange(length) < shown, samples)
    steps = torch.arange(length) - shown + 1
    ranges = [
        (float(first), (steps >= first) & (steps < stop))
        for first, stop in zip(HORIZONS, (*HORIZONS[1:], length + 1), strict=True)
    ]
    ranges = [(first, places) for first, places in ranges if bool(places.any())]
    small = [(first, held.fit(places)) for first, places in ranges]
    if larger is None:
        return small, []
    gray = is_gray(model.codec)
    large = _enlarged(held, larger, lambda place: gain_by_step(small, place - shown + 1), gray=gray)
    return small, [(first, large.fit(places)) for first, places in ranges]


def _hold_back(
    model: VideoModel,
    setup: SamplingSetup,
    clip: SourceClip,
    scenes: Sequence[range],
    observed: Tensor,
    samples: int,
) -> _HeldBack:
    """Generate the frames of windows of the input that are not `observed`."""
    length = len(observed)
    # a model of frames of any size works at the input's own
    most = max(1, min(MAX_WINDOWS, MEASURED_PIXELS // (clip.size[0] * clip.size[1])))
    starts = window_starts(scenes, length, most if model.only_between else MAX_WINDOWS)
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
    return _HeldBack(
        starts=starts, observed=observed, truth=video, made=made, estimate=estimate, uncertainty=uncertainty
    )


def _enlarged(held: _HeldBack, larger: Larger, gain: Callable[[int], Gain], *, gray: bool) -> _HeldBack:
    """The middle of the same windows at the size of the upscalers: what they make, and the estimate at that size with
    the model's correction."""
    numbers = [range(start, start + len(held.observed)) for start in held.starts]
    read = dict(larger.read({number for window in numbers for number in window}))
    truth = (np.stack([read[number] for number in window]) for window in numbers)
    windows = [
        _enlarged_window(held, place, to_rgb(to_gray(frames)) if gray else frames, larger, gain)
        for place, frames in enumerate(truth)
    ]
    top, left = ((side - min(side, LARGE_SIDE)) // 2 for side in larger.size)
    middle = slice(top, top + LARGE_SIDE), slice(left, left + LARGE_SIDE)
    true, made, estimate, uncertainty = (
        torch.cat([part[..., middle[0], middle[1]] for part in parts]) for parts in zip(*windows, strict=True)
    )
    return _HeldBack(
        starts=held.starts,
        observed=held.observed,
        truth=true,
        made=made,
        estimate=estimate,
        uncertainty=uncertainty,
    )


def _enlarged_window(
    held: _HeldBack, place: int, frames: np.ndarray, larger: Larger, gain: Callable[[int], Gain]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One window of true `frames` (t h w c), as `_HeldBack` has it."""
    seen = torch.nonzero(held.observed)[:, 0].tolist()
    small = torch.where(held.observed[:, None, None], held.truth[place], held.made[place])
    ranks, given = range(len(frames)), {rank: number for number, rank in enumerate(seen)}
    line = Timeline(times=tuple(map(Fraction, ranks)), given=given, written=tuple(ranks), fps=Fraction(1))
    made = larger.upscale(clip_to_uint8(small), line, frames[seen])

    def correct(rank: int, estimate: Tensor, uncertainty: Tensor) -> Tensor:
        shown = held.estimate[place, None, :, rank]
        return add_correction(estimate, uncertainty, small[None, :, rank], gain(rank), shown=shown)

    found = list(full_frames(line, iter(frames[seen]), correct=correct))
    sure = np.zeros(larger.size, np.float32)
    levels = np.stack([sure if each.uncertainty is None else each.uncertainty for each in found])
    uncertainty = torch.from_numpy(levels)[None, None] / LEVELS_PER_UNIT
    estimate = clip_from_uint8(np.stack([each.frame for each in found]))
    return clip_from_uint8(frames), clip_from_uint8(made), estimate, uncertainty

"""How much of a model's frames is added to the estimate by motion: measured on the input itself, before it is used.

Some of the input's frames are held back, made like the missing ones, and compared with what they are. Nothing else says
so well whether a model knows anything of this film. Shapes: b windows, c channels, t frames, h w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import torch
from torch import Tensor

from vidiff_cli.config.generate import CompletionSettings
from vidiff_cli.events import EventStream, Note
from vidiff_cli.frames import Window
from vidiff_cli.generation import generate as gen
from vidiff_cli.generation.load_model import LoadedModel
from vidiff_cli.generation.source_clip import SourceClip
from vidiff_cli.motion import estimate_clip
from vidiff_cli.pixels import clip_from_uint8
from vidiff_cli.sampling.merge import FULL_GAIN, NO_GAIN, Gain, GainOf, fit_gain, gain_by_step
from vidiff_cli.timeline import Timeline

PLACES = 4  # of the input, at which frames are held back
HORIZONS = (1, 2, 4, 8)  # frames beyond the last, that have a weight of their own
BETWEEN, BEYOND = 3, 4  # frames that are needed at least to hold some back


def calibrate(
    model: LoadedModel, settings: CompletionSettings, clip: SourceClip, line: Timeline, condition: str
) -> EventStream[GainOf]:
    """The weight of what the model makes at a rank, by whether it lies between given frames or how far beyond them.

    An input too short to hold anything back says nothing: the model's word is taken where nothing is known of the
    motion (a single frame), and none elsewhere.
    """
    given = sorted(line.given)
    lone = len(given) == 1
    scenes = _runs(clip)
    between, beyond = NO_GAIN, [(1.0, FULL_GAIN if lone else NO_GAIN)]
    made = [rank for rank in range(len(line.times)) if rank not in line.given and rank not in line.repeats]
    inner = [rank for rank in made if given[0] < rank < given[-1]]
    if inner and max(map(len, scenes), default=0) >= BETWEEN:
        between = _gain_between(model, settings, clip, scenes, condition)
    if len(inner) < len(made) and max(map(len, scenes), default=0) >= BEYOND:
        beyond = _gains_beyond(model, settings, clip, scenes, condition)
    told = [f"{sum(gain.values) / len(gain.values):.2f}" for _, gain in ([(0, between)] if inner else beyond)]
    yield Note(f"Held-back frames of the input say: {' '.join(told)} of what the model corrects is right.")

    def gain_of(rank: int) -> Gain:
        if given[0] < rank < given[-1]:
            return between
        edge = given[0] if rank < given[0] else given[-1]
        return gain_by_step(beyond, abs(rank - edge))

    return gain_of


def _runs(clip: SourceClip) -> list[range]:
    """The frames of the input, scene by scene."""
    edges = [0, *clip.starts, len(clip)]
    return [range(low, high) for low, high in pairwise(edges)]


def _places(scenes: Sequence[range], length: int) -> list[int]:
    """Where windows of so many frames begin, at most `PLACES`, evenly spread over all that fit in a scene."""
    fitting = [start for scene in scenes for start in range(scene.start, scene.stop - length + 1)]
    count = min(PLACES, len(fitting))
    return [fitting[(2 * place + 1) * len(fitting) // (2 * count)] for place in range(count)]


def _gain_between(
    model: LoadedModel, settings: CompletionSettings, clip: SourceClip, scenes: Sequence[range], condition: str
) -> Gain:
    """Every other frame of some windows is held back."""
    length = min(model.settings.frames, max(map(len, scenes)))
    length -= 1 - length % 2  # ends with a frame that is shown
    observed = torch.arange(length) % 2 == 0
    truth, made, estimate, uncertainty = _tried(model, settings, clip, scenes, observed, condition)
    hidden = ~observed
    return fit_gain(made[:, :, hidden], estimate[:, :, hidden], truth[:, :, hidden], uncertainty[:, :, hidden])


def _gains_beyond(
    model: LoadedModel, settings: CompletionSettings, clip: SourceClip, scenes: Sequence[range], condition: str
) -> list[tuple[float, Gain]]:
    """The second half of some windows is held back."""
    length = min(model.settings.frames, max(map(len, scenes)))
    shown = length // 2
    observed = torch.arange(length) < shown
    parts = _tried(model, settings, clip, scenes, observed, condition)
    gains = []
    for first, stop in zip(HORIZONS, (*HORIZONS[1:], length), strict=True):
        if shown + first - 1 >= length:
            break
        places = slice(shown + first - 1, min(length, shown + stop - 1) or length)
        truth, made, estimate, uncertainty = (part[:, :, places] for part in parts)
        if truth.shape[2]:
            gains.append((float(first), fit_gain(made, estimate, truth, uncertainty)))
    return gains


def _tried(
    model: LoadedModel,
    settings: CompletionSettings,
    clip: SourceClip,
    scenes: Sequence[range],
    observed: Tensor,
    condition: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Windows of the input: (truth, what the model makes, the estimate: b c t h w, its uncertainty: b 1 t h w)."""
    length = len(observed)
    starts = _places(scenes, length)
    video = torch.cat([clip_from_uint8(clip.frames.read(range(start, start + length))) for start in starts])
    seen = frozenset(torch.nonzero(observed)[:, 0].tolist())
    window = Window(frames=tuple(range(length)), observed=seen, makes=frozenset(range(length)) - seen)
    times = [Fraction(place) / (clip.fps or model.fps) for place in range(length)]
    tries = []
    for number in range(settings.samples):
        seeds = [number * len(starts) + place for place in range(len(starts))]
        job = gen.VideoJob(windows=[window], times=times, prompts=lambda _: [""] * len(starts), seeds=seeds)
        tries.append(gen.generate_in_memory(model, settings, job, video, condition=condition))
    made = torch.stack(tries).mean(0)
    masks = observed[None].expand(len(starts), -1)
    moments = torch.tensor([float(time) for time in times])[None].expand(len(starts), -1)
    estimate, uncertainty = estimate_clip(video, masks, moments)
    return video, made, estimate, uncertainty

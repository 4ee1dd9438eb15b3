"""The weight of a model of super-resolution, measured on the film itself, made small."""

from __future__ import annotations

from dataclasses import replace

import torch

from vidiff_cli.generation.calibrate import find_scenes, window_starts
from vidiff_cli.generation.source_clip import SourceClip
from vidiff_cli.generation.upscaling import UpscaleSetup, known_rate, upscale_window
from vidiff_cli.pixels import clip_from_uint8
from vidiff_cli.resize import enlarge, low_resolution

MEASURED_WINDOWS, MEASURED_SIDE = 3, 256  # of the input, that the weight of a model is measured on
SMALLEST_MEASURED = 32  # pixels: of smaller inputs, too little is left when they are made small


def measure_weight(setup: UpscaleSetup, clip: SourceClip) -> float | None:
    """The weight in [0, 1] of the model's correction that leaves the least squares of this film, by hundredths.

    Some frames are made small by the model's scale, upscaled and compared with what they were. None for a film that is
    too small for that.
    """
    scale = setup.scale_of_pass
    sides = [min(MEASURED_SIDE, side) // scale * scale for side in clip.size]
    if min(sides) < SMALLEST_MEASURED:
        return None
    top, left = ((side - part) // 2 for side, part in zip(clip.size, sides, strict=True))
    scenes = find_scenes(clip)
    length = min(setup.model.frames, max(map(len, scenes)))
    alone = replace(setup, passes=1, weight=1.0)
    along = energy = 0.0
    for place, start in enumerate(window_starts(scenes, length, MEASURED_WINDOWS)):
        frames = clip.frames.read(range(start, start + length))[:, top : top + sides[0], left : left + sides[1]]
        truth = clip_from_uint8(frames).to(setup.model.device)
        low, unseen = low_resolution(truth, scale), torch.zeros(1, length, dtype=torch.bool, device=truth.device)
        rate = known_rate(setup.model, clip.fps)
        with torch.no_grad():
            made = upscale_window(alone, low, None, unseen, rate=rate, seeds=(0, place))
        estimate = enlarge(low, scale).clamp(-1, 1)
        correction = (made - estimate).double()
        along += float((correction * (truth - estimate)).sum())
        energy += float(correction.square().sum())
    return round(min(1.0, max(0.0, along / energy)), 2) if energy else 1.0

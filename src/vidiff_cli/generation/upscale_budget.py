"""Memory and time of upscaling, estimated before anything is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from vidiff_cli.device import available_memory
from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import Window
from vidiff_cli.generation.budget import measure_seconds
from vidiff_cli.generation.frames_stage import FramesSetup
from vidiff_cli.generation.source_clip import Size
from vidiff_cli.generation.upscaling import UpscaleSetup, upscale_window

LONGEST_SIDE = 16_384  # pixels of a result


def check_sides(height: int, width: int, fix: str) -> None:
    """Raise VidiffError for a result that is too large."""
    if max(height, width) > LONGEST_SIDE:
        found, expected = f"{width}x{height}", f"sides of at most {LONGEST_SIDE:,}"
        raise VidiffError("the result would be too large", found=found, expected=expected, fix=fix)


def check_memory(
    setup: UpscaleSetup | FramesSetup,
    frames: int,
    height: int,
    width: int,
    fix: str = "choose a smaller --size or --scale, or --detail estimate",
) -> None:
    """Raise VidiffError where the large frames of a window do not fit in memory."""
    needed = 4 * 3 * setup.tensors * min(frames, setup.model.frames) * height * width
    available = available_memory(setup.model.device)
    if needed > available:
        raise VidiffError(
            f"a window of frames of {width}x{height} does not fit in memory",
            found=f"{available / 2**30:.1f} GiB",
            expected=f"about {needed / 2**30:.1f} GiB",
            fix=fix,
        )


def estimate_upscale_seconds(setup: UpscaleSetup, windows: Sequence[Window], size: Size) -> float:
    """Wall seconds that a model takes to upscale windows of frames of `size` (h w), from a measured pass of the network
    over a part of a frame."""
    frames, scale = sum(len(window.frames) for window in windows), setup.scale_of_pass
    if not frames:
        return 0.0
    pixels = 0
    for number in range(1, setup.passes + 1):
        height, width = (scale**number * side for side in size)
        pixels += setup.seen_pixels(height, width)
    last = [scale ** (setup.passes - 1) * side for side in size]
    height, width = (min(side, max(1, setup.typical_side // scale)) for side in last)
    length = max(len(window.frames) for window in windows)
    device, one = setup.model.device, replace(setup, passes=1, steps=1, samples=1)
    low = torch.zeros(1, 3, length, height, width, device=device)
    unseen = torch.zeros(1, length, dtype=torch.bool, device=device)
    passes = setup.steps * setup.samples * frames * pixels / (length * height * width * scale**2)
    return measure_seconds(device, lambda: upscale_window(one, low, None, unseen, rate=1.0, seeds=(0, 0)), passes)

"""Sampling over windows of a video that is one tensor, for tests of laws: `sample_windows` with windows one by one.

Shapes: b clips, c channels, n frames of the whole video, t frames of a window, h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from vidiff_cli.diffusion.samplers import Denoise
from vidiff_cli.frames import Window
from vidiff_cli.sampling.windows import sample_windows


def fill(
    windows: Sequence[Window],
    frames: Tensor,
    *,
    denoise: Callable[[Window, Tensor, Tensor], Denoise],
    start: int = 0,
    **options: Any,
) -> Iterator[Tensor]:
    """Yields a video (b c n h w) after each window, with the frames that the window makes filled in.

    `frames` holds the given frames at their places, and those of windows before `start`; what stands elsewhere must
    not be looked at.
    """
    video = frames.clone()
    batches = sample_windows(
        windows,
        [range(number, number + 1) for number in range(start, len(windows))],
        lambda wanted: video[:, :, list(wanted)],
        denoise=lambda batch, known, observed: denoise(batch[0], known, observed),
        **options,
    )
    for window, (made,) in zip(windows[start:], batches, strict=True):
        video[:, :, sorted(window.makes)] = made
        yield video.clone()

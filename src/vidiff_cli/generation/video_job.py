"""One batch of videos to generate: its windows, times, prompts and seeds.

Shapes: b clips, c channels, n frames of the whole video, m frames that a window makes, h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from torch import Tensor

from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import Window, batch_independent_windows
from vidiff_cli.rolling import RollingPlan


@dataclass(frozen=True, kw_only=True)
class VideoJob:
    """Windows over `times` (n seconds), a prompt per clip (b) for each window number, a seed per clip.

    `anchor` maps what a window made (b c m h w), before it is rounded to 8 bits. With a `rolling` plan frames are made
    in a rolling window instead, and the windows say where prompts begin.
    """

    windows: Sequence[Window]
    times: Sequence[Fraction]
    prompts: Callable[[int], Sequence[str]]
    seeds: Sequence[int]
    anchor: Callable[[Tensor], Tensor] | None = None
    rolling: RollingPlan | None = None

    def window_of(self, frame: int) -> int:
        """The number of the window that makes a frame."""
        return self._makers[frame]

    @cached_property
    def _makers(self) -> dict[int, int]:
        return {frame: number for number, window in enumerate(self.windows) for frame in window.makes}


def batch_windows(windows: Sequence[Window], clips: int, at_once: int) -> list[range]:
    """Group the windows of videos of `clips` clips that are sampled together, at most `at_once` of one clip, by their
    numbers."""
    return batch_independent_windows(windows, max(1, at_once // clips))


def choose_overlap(asked: int | None, window: int) -> int:
    """Frames that a window observes of what was before: as asked, else half of it. VidiffError where nothing would be
    made."""
    if asked is not None and asked >= window:
        raise VidiffError("--overlap leaves nothing to make", found=asked, expected=f"less than the window of {window}")
    return asked or window // 2

"""Random choices for one clip of a step: window of frames, crop, flip, caption, noise levels, observed frames.

Every draw of sample i of step n comes from a generator of (seed, n, i). Shapes: t frames, h w pixels, c = 3 RGB.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Protocol

import numpy as np

from vidiff_cli.config.train import LoaderSettings, ObjectiveSettings
from vidiff_cli.training.conditioning_masks import draw_ends, draw_observed
from vidiff_cli.training.frame_levels import LevelKind, choose_kind, draw_independent, draw_sloped

# Words that a mirror makes untrue: sides and turns in some languages, and writing in the picture.
_SIDED = re.compile(
    r"\b(?:left|right)\w*|\b(?:(?:anti|counter)-?)?clockwise\b|\bmirror"
    r"|\b(?:texts?|words?|letters?|writ\w+|reads?|signs?|logos?|(?:sub)?titles?|digits?|numbers?|maps?)\b"
    r"|\b(?:links|rechts|gauche|droite?|izquierd\w|derech\w|sinistr\w|destr\w|esquerd\w|direit\w)\b|[左右]",
    re.IGNORECASE,
)
COARSEST = 0.25  # of the frames' size: that at which the motion of frames of 640 pixels is found


class ClipRow(Protocol):
    """The fields of a clip that sampling reads."""

    @property
    def frames(self) -> int: ...
    @property
    def fps(self) -> str: ...
    @property
    def captions(self) -> Sequence[str]: ...


class ClipRows(Protocol):
    """The clips of a source, by number."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> ClipRow: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSample:
    """The choices for one sample. `corner` is the top left pixel of the crop as shares of the free pixels; `context` is
    the place on the schedule (0 clean, 1 noise) at which observed frames are shown, `augmentation` that of the noise on
    the low-resolution clip; `unmoved` means that the motion estimate is not shown. `u` has the place of every frame,
    None where all have the same. `motion_share` is the size at which motion is found, as a share of the frames' own."""

    row: int
    frames: range
    times: tuple[float, ...]
    observed: np.ndarray
    caption: str
    dropped: bool
    mirrored: bool
    corner: tuple[float, float]
    context: float = 0.0
    unmoved: bool = False
    u: np.ndarray | None = None
    augmentation: float = 0.0
    motion_share: float = 1.0

    def crop_frames(self, frames: np.ndarray, crop: int) -> np.ndarray:
        """The part (t h w c) of the window's frames that is drawn: a view."""
        if crop:
            top, left = (
                int(share * (side - crop + 1)) for share, side in zip(self.corner, frames.shape[1:3], strict=True)
            )
            frames = frames[:, top : top + crop, left : left + crop]
        return frames[:, :, ::-1] if self.mirrored else frames


def sample_clip(
    row: ClipRow,
    number: int,
    objective: ObjectiveSettings,
    loader: LoaderSettings,
    *,
    window: int,
    frame_strides: Sequence[int],
    rng: np.random.Generator,
    levels: np.random.Generator,
    between: bool = False,
) -> ClipSample:
    """Draw a window of a clip at a random start and frame stride; a shorter clip is taken whole.

    Args:
        row: Length, rate and captions of the clip.
        number: Its number in the source.
        objective: Shares of kinds of levels, dropped captions and context noise.
        loader: Crop and mirroring.
        window: Frames of the window.
        frame_strides: Strides to choose from, in frames.
        rng: Generator of this clip alone.
        levels: Another one, for levels that differ over the frames: no other draw depends on them.
        between: The first and the last frame are observed, and motion is found at a random smaller size, as it is of
            large frames.

    Returns:
        The choices.
    """
    length = min(window, row.frames)
    fitting = [step for step in frame_strides if (length - 1) * step < row.frames] or [1]
    step = fitting[_below(len(fitting), rng)]
    start = _below(row.frames - (length - 1) * step, rng)
    kind = choose_kind(rng.random(), objective.levels)
    observe = draw_ends if between else draw_observed
    observed = observe(rng, length) if kind == "observed" else np.zeros(length, dtype=bool)
    u, observed = frame_places(kind, observed, levels)
    drop = objective.caption_dropout_observed if observed.any() else objective.caption_dropout
    captions = row.captions
    caption = captions[_below(len(captions), rng)] if captions else ""
    dropped = bool(not captions or rng.random() < drop)
    # These come last: with or without them, the draws above are the same.
    top, left, mirror = rng.random(3).tolist() if loader.crop or loader.flip else (0.0, 0.0, 1.0)
    context = objective.context_noise and objective.context_noise * max(0.0, 2 * rng.random() - 1)
    unmoved = bool(rng.random() < objective.estimate_dropout)
    augmentation = objective.augmentation and objective.augmentation * max(0.0, 2 * rng.random() - 1)
    return ClipSample(
        row=number,
        frames=range(start, start + (length - 1) * step + 1, step),
        times=_times(row.fps, step, length),
        observed=observed,
        caption=caption,
        dropped=dropped,
        mirrored=loader.flip and mirror < 0.5 and not forbids_flip(captions),
        corner=(top, left),
        context=context,
        unmoved=unmoved,
        u=u,
        augmentation=augmentation,
        motion_share=COARSEST ** rng.random() if between else 1.0,
    )


def frame_places(
    kind: LevelKind, observed: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray | None, np.ndarray]:
    """The places of the frames of a clip of this kind, None where all have the same, and its observed frames."""
    if kind == "independent":
        return draw_independent(rng, len(observed)), observed
    return draw_sloped(rng, len(observed)) if kind == "sloped" else (None, observed)


def image_count(fraction: float, frames: int) -> int:
    """Images beside a clip of so many frames, for them to be `fraction` of all frames; none beside a single frame,
    which is an image itself."""
    return round(fraction * frames / (1 - fraction)) if frames > 1 else 0


def draw_image(row: ClipRow, number: int, loader: LoaderSettings, *, rng: np.random.Generator) -> ClipSample:
    """The choices for an image: any one frame of clip `number`."""
    frame = _below(row.frames, rng)
    top, left, mirror = rng.random(3).tolist()
    return ClipSample(
        row=number,
        frames=range(frame, frame + 1),
        times=(0.0,),
        observed=np.zeros(1, dtype=bool),
        caption="",
        dropped=True,
        mirrored=loader.flip and mirror < 0.5 and not forbids_flip(row.captions),
        corner=(top, left),
    )


def _below(count: int, rng: np.random.Generator) -> int:
    """One of 0, 1, ... count - 1; with one choice, numpy draws nothing either."""
    return 0 if count == 1 else int(rng.integers(count))


@lru_cache(maxsize=1024)
def _times(fps: str, step: int, length: int) -> tuple[float, ...]:
    rate = Fraction(fps)
    return tuple(float(step * place / rate) if rate else 0.0 for place in range(length))


def forbids_flip(captions: Sequence[str]) -> bool:
    """True where a clip must not be mirrored: one of its captions, drawn or not, mentions left or right, a turn, or
    writing."""
    return any(_SIDED.search(caption) for caption in captions)

"""Random noise levels of the frames of a clip, as places on the noise schedule: 0 clean, 1 noise.

Plain draws on indices. Source of independent levels: Diffusion Forcing (Chen et al. 2024). Sloped ones are those of a
rolling window (`rolling.py`): of its A active frames each is 1 / A of the schedule noisier than the one before.
Shapes: t frames.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from vidiff_cli.config.train import LevelSettings
from vidiff_cli.rolling import RollingPlan

LevelKind = Literal["shared", "observed", "independent", "sloped"]
ROLLED = 2  # windows in the video of a rolling window


def choose_kind(share: float, levels: LevelSettings) -> LevelKind:
    """The kind of a clip for a number in [0, 1); `observed` comes first, as it always has."""
    for kind in ("observed", "independent", "sloped"):
        share -= getattr(levels, kind)
        if share < 0:
            return kind
    return "shared"


def trained_kinds(levels: LevelSettings) -> tuple[LevelKind, ...]:
    """The kinds of clips that have a share."""
    return tuple(kind for kind in get_args(LevelKind) if getattr(levels, kind) > 0)


def draw_independent(rng: np.random.Generator, t: int) -> np.ndarray:
    """A place of its own for every frame (t,), each even over the schedule."""
    return rng.random(t)


def draw_sloped(rng: np.random.Generator, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Places (t,) of a rolling window at a random moment of a video, and the frames that are observed (t,).

    The plan is that of sampling, with any number of observed frames; one video in four begins with fewer, or none. The
    video is `ROLLED` windows long, for a share of its beginning and its end. Half of the windows roll backwards in
    time. At least one frame is left to be made.
    """
    overlap = int(rng.integers(t))
    known = overlap if rng.random() < 0.75 else int(rng.integers(overlap + 1))
    plan = RollingPlan(way=range(known + ROLLED * t), known=known, window=t, overlap=overlap)
    slot = int(rng.integers(plan.slots))
    window, numbers = plan.at(slot), np.arange(t) - known
    numbers += window.frames[0]
    u = 1.0 - np.clip((slot + rng.random() - numbers) / plan.active, 0.0, 1.0)
    observed = np.array([frame in window.observed for frame in window.frames])
    u[observed] = 0.0
    return (u, observed) if rng.random() < 0.5 else (u[::-1], observed[::-1])

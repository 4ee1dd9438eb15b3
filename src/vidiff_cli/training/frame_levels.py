"""Random noise levels of the frames of a clip, as places on the noise schedule: 0 clean, 1 noise.

Plain draws on indices. Source of independent levels: Diffusion Forcing (Chen et al. 2024). Sloped ones are those of a
rolling window (Ruhe et al. 2024): c observed frames, then A frames that are made, each 1 / A noisier than the one
before; in n steps of sampling all become 1 / A cleaner, the first is done, and the window moves on by a frame.
Shapes: t frames.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from vidiff_cli.config.train import LevelSettings

LevelKind = Literal["shared", "observed", "independent", "sloped"]
ROLLED = 4  # windows of made frames in a rolling window's video, for the share of its beginning and its end


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
    """Places (t,) of a rolling window at a random step of a video, and the frames that are observed (t,).

    0 to t - 1 of the frames are observed at the start of the window; those that are done are observed too. A video of
    `ROLLED` windows has its beginning, where the last frames are still noise, and its end, where the first are done.
    Half of the windows roll backwards in time. At least one frame is left to be made.
    """
    made = t - int(rng.integers(t))
    frames = made * ROLLED
    slot = rng.random() * (frames + made - 1)  # of n steps each
    first = min(max(0, int(slot) - made + 1), frames - made)
    u = np.zeros(t)
    u[t - made :] = rolling_places(slot - first, made)
    return (u, u <= 0) if rng.random() < 0.5 else (u[::-1], u[::-1] <= 0)


def rolling_places(slot: float, active: int) -> np.ndarray:
    """Places of the `active` frames of a rolling window after `slot` times n of its steps: frame f begins at slot f and
    is done at f + active."""
    return 1.0 - np.clip((slot - np.arange(active)) / active, 0.0, 1.0)

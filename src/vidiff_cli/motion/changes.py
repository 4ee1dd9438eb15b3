"""What changes between two frames but by motion: scene cuts, flashes, frames that repeat."""

from __future__ import annotations

import torch
from torch import Tensor

CUT_CHANGE, CUT_LEFT, CUT_AGREEMENT = 0.12, 0.4, 0.15  # true cuts agree up to .12, real motion from .29, flashes .18


def is_cut(first: Tensor, second: Tensor, left: Tensor, agreement: Tensor) -> Tensor:
    """Whether two frames belong to two scenes: they differ, motion explains little of it, and the flows there and back
    hardly agree anywhere.

    Shapes: first, second (b c h w), `left` (b 1 h w) what differs after motion compensation, `agreement` (b 1 h w) the
    `consistency` of the flows -> (b 1 1 1) bool.
    """
    change = (first - second).abs().mean((1, 2, 3))
    unexplained = left.mean((1, 2, 3)) > CUT_LEFT * change
    cut = (change > CUT_CHANGE) & unexplained & (agreement.mean((1, 2, 3)) < CUT_AGREEMENT)
    return cut[:, None, None, None]


FLASH_BACK = 0.5  # of the change at the flash, that may be left between the frames around it


def is_flash(before: Tensor, frame: Tensor, after: Tensor) -> Tensor:
    """Whether a frame (b c h w) is lit, or replaced, for an instant: it differs from both neighbors, which are alike.

    Such a frame is no step of a motion: what is made on either side of it comes from the frames around. -> (b) bool
    """
    here = torch.minimum(_change(before, frame), _change(frame, after))
    return (here > CUT_CHANGE) & (_change(before, after) < FLASH_BACK * here)


def _change(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).abs().mean((1, 2, 3))

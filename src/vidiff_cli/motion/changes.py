"""What changes between frames but by motion: scene cuts, flashes, frames that repeat."""

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


REPEATED, MOVING, REACH = 0.1, 0.7, 4  # share of the usual change, 8-bit levels, frames on either side


def repeated_frames(change: Tensor) -> Tensor:
    """Which frames of a film show the one before once more: of a film of another cadence (drawn on twos, made from 24
    frames a second, captured unevenly), encoded again and so not quite equal.

    `change` (n) is the mean absolute difference to the frame before in 8-bit levels, the first 0, best of reduced
    frames, whose noise is averaged away. A repeat changes a tenth or less of what its neighbors do, while these move.
    -> (n) bool
    """
    values = change.double().tolist()
    found = []
    for number, value in enumerate(values):
        around = [*values[max(1, number - REACH) : number], *values[number + 1 : number + 1 + REACH]]
        moving = sorted(each for each in around if each > max(MOVING, value))
        usual = moving[len(moving) // 2] if len(moving) * 3 >= len(around) > 0 else 0.0
        found.append(number > 0 and value <= REPEATED * usual)
    return torch.tensor(found, dtype=torch.bool)

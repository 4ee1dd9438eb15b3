"""Changes between frames that are not motion: scene cuts, flashes, repeated frames."""

from __future__ import annotations

import torch
from torch import Tensor

CUT_CHANGE, CUT_LEFT, CUT_AGREEMENT = 0.12, 0.4, 0.15  # true cuts agree up to .12, real motion from .29, flashes .18


def is_cut(first: Tensor, second: Tensor, left: Tensor, agreement: Tensor) -> Tensor:
    """Detects a cut between two frames: they differ, motion explains little of it, and forward and backward flow
    disagree.

    Shapes: first, second (b c h w), `left` (b 1 h w) the residual of motion compensation, `agreement` (b 1 h w) the
    `consistency` of the flows -> (b 1 1 1) bool.
    """
    change = (first - second).abs().mean((1, 2, 3))
    unexplained = left.mean((1, 2, 3)) > CUT_LEFT * change
    cut = (change > CUT_CHANGE) & unexplained & (agreement.mean((1, 2, 3)) < CUT_AGREEMENT)
    return cut[:, None, None, None]


FLASH_BACK = 0.5  # of the change at the flash, that may be left between the frames around it


def is_flash(before: Tensor, frame: Tensor, after: Tensor) -> Tensor:
    """Detects a frame (b c h w) that is lit or replaced for an instant: it differs from both neighbors, which are
    alike.

    Such a frame is not a step of a motion: frames on either side are predicted from its neighbors. -> (b) bool
    """
    here = torch.minimum(_change(before, frame), _change(frame, after))
    return (here > CUT_CHANGE) & (_change(before, after) < FLASH_BACK * here)


def _change(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).abs().mean((1, 2, 3))


REPEATED, MOVING, REACH = 0.1, 0.7, 4  # share of the usual change, 8-bit levels, frames on either side


def repeated_frames(change: Tensor) -> Tensor:
    """Marks frames of a film that repeat the one before, encoded again and so not quite equal.

    Films of another cadence have them: drawn on twos, converted from 24 frames a second, captured unevenly. `change`
    (n) is the mean absolute difference to the frame before in 8-bit levels, 0 for the first; use reduced frames, which
    average out noise. The change of a repeat is a tenth or less of its neighbors', which move. -> (n) bool
    """
    values = change.double().tolist()
    found = []
    for number, value in enumerate(values):
        around = [*values[max(1, number - REACH) : number], *values[number + 1 : number + 1 + REACH]]
        moving = sorted(each for each in around if each > max(MOVING, value))
        usual = moving[len(moving) // 2] if len(moving) * 3 >= len(around) > 0 else 0.0
        found.append(number > 0 and value <= REPEATED * usual)
    return torch.tensor(found, dtype=torch.bool)

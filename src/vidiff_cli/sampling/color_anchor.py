"""Color anchoring: holds the color statistics of generated frames near those of the observed ones.

Legend: b clips, n frames, m generated frames, h and w pixels, c = 3 colors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vidiff_cli.pixels import LEVELS_PER_UNIT, from_uint8

FLAT = 1 / LEVELS_PER_UNIT  # a standard deviation of one level
ROUNDING = FLAT / 1000  # so that the observed frames themselves, in another number format, are within their range


def match_color_statistics(reference: np.ndarray) -> Callable[[Tensor], Tensor]:
    """Makes a function that moves colors of generated frames near those of the observed ones, uint8 (n h w c).

    The function maps (b c m h w) in [-1, 1] to the same, frame by frame: the mean and the standard deviation of every
    color are moved to the nearest value within the range that the observed frames span. A frame inside it is untouched,
    so that real change of that size stays, and equal frames stay equal, so that no seam appears. Against drift that a
    simulation adds to real scenes this is better than moving every frame to the mean of the observed ones, or windows
    as a whole (`python -m benchmarks drift`). A change of scene or light beyond the range is lost with the drift, so it
    is off by default. It depends on no earlier window: a continued run gives the same.
    """
    given = from_uint8(torch.from_numpy(np.ascontiguousarray(reference)).permute(3, 0, 1, 2)[None], torch.float64)
    means, deviations = _means_and_deviations(given)
    lowest, least = (each.amin(dim=2, keepdim=True) - ROUNDING for each in (means, deviations))
    highest, most = (each.amax(dim=2, keepdim=True) + ROUNDING for each in (means, deviations))

    def anchor(generated: Tensor) -> Tensor:
        x = generated.double()
        mean, deviation = _means_and_deviations(x)
        wanted = mean.clamp(lowest.to(x.device), highest.to(x.device))
        # A frame without contrast would only have its noise amplified.
        clamped = deviation.clamp(least.to(x.device), most.to(x.device))
        gain = torch.where(deviation > FLAT, clamped / deviation, 1.0)
        moved = ((x - mean) * gain + wanted).clamp(-1, 1).to(generated.dtype)
        return torch.where((gain == 1) & (wanted == mean), generated, moved)

    return anchor


def _means_and_deviations(x: Tensor) -> tuple[Tensor, Tensor]:
    """(b c n h w) -> of every color of every frame, (b c n 1 1)."""
    return x.mean(dim=(3, 4), keepdim=True), x.std(dim=(3, 4), keepdim=True, correction=0)

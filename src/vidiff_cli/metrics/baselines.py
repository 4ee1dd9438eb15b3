"""Baselines of frame interpolation: blending and nearest frame.

Legend: n given frames, m wanted ones, h and w pixels, c colors; uint8.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np


def interpolation_baselines(
    frames: np.ndarray, times: Sequence[Fraction], wanted: Sequence[Fraction]
) -> Mapping[str, np.ndarray]:
    """The frames shown at the `wanted` times, (m h w c): "blending" (linear in time) and "nearest frame".

    `frames` (n h w c) are shown at `times`, which ascend. Both are exact: a wanted time that is given is that frame,
    one halfway between two takes the earlier as nearest, blended values are rounded to the nearest of 256, halves up.
    Outside of the given times both hold the outermost frame. ValueError for times that do not fit the frames.
    """
    if len(times) != len(frames) or not len(frames) or any(late <= early for early, late in pairwise(times)):
        raise ValueError(f"expected ascending times, one for each of {len(frames)} frames, found {len(times)}")
    blended, nearest = (np.empty((len(wanted), *frames.shape[1:]), np.uint8) for _ in range(2))
    for place, time in enumerate(wanted):
        early = min(max(bisect_right(times, time) - 1, 0), len(frames) - 1)
        late = min(early + 1, len(frames) - 1)
        span = times[late] - times[early]
        share = min(max((Fraction(time) - times[early]) / span, Fraction(0)), Fraction(1)) if span else Fraction(0)
        nearest[place] = frames[late if 2 * share > 1 else early]
        # In whole numbers: a share of a third is not a float.
        above, below = share.numerator, share.denominator
        mixed = (below - above) * frames[early].astype(np.int64) + above * frames[late].astype(np.int64)
        blended[place] = (2 * mixed + below) // (2 * below)
    return {"blending": blended, "nearest frame": nearest}

"""PSNR, SSIM and multi-scale SSIM of frames against true ones.

Legend: n frames, h and w pixels, c colors; frames are uint8 (n h w c). Every function returns one float64 per frame.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

PEAK = 255.0
SIDE, SIGMA = 11, 1.5  # of the Gaussian window of SSIM (Wang et al. 2004)
LUMINANCE, CONTRAST = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2  # C1 and C2 of the same
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, from full size down (Wang et al. 2003)


def psnr(made: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB over all pixels and colors of a frame; infinite for equal frames."""
    _check(made, truth)
    difference = made.astype(np.int32) - truth
    error = np.square(difference, out=difference).mean(axis=(1, 2, 3), dtype=np.float64)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(PEAK**2 / error)


def ssim(made: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity, at most 1: mean over all places where the 11x11 window fits, and over the colors.

    Wang, Bovik, Sheikh, Simoncelli: Image quality assessment: from error visibility to structural similarity, IEEE
    Transactions on Image Processing, 2004. ValueError for frames below 11 pixels.
    """
    _check(made, truth)
    _check_side(made)
    return _each(lambda one, other: _similarity(one, other)[0], made, truth)


def ms_ssim(made: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Multi-scale structural similarity, at most 1, over `scales(h, w)` halvings: contrast and structure at every scale
    and luminance at the coarsest, each to the power of its weight; mean over the colors.

    Fewer than five scales fit frames below 176 pixels: then the weights of those that do are scaled to a sum of 1, so
    that figures of small and of large frames are not comparable. With one scale it is `ssim`. A negative factor counts
    as 0. A scale is halved by the mean of 2x2 pixels; an odd last row or column is left out.
    Wang, Simoncelli, Bovik: Multi-scale structural similarity for image quality assessment, Asilomar, 2003.
    ValueError for frames below 11 pixels.
    """
    _check(made, truth)
    _check_side(made)
    weights = np.array(WEIGHTS[: scales(*made.shape[1:3])])
    if len(weights) < len(WEIGHTS):
        weights /= weights.sum()  # all five are left as published: their sum is 1.0001

    def over_scales(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        value = np.ones(one.shape[0])
        for scale, weight in enumerate(weights):
            if scale:
                one, other = _halved(one), _halved(other)
            whole, structure = _similarity(one, other)
            value *= np.maximum(whole if scale == len(weights) - 1 else structure, 0) ** weight
        return value

    return _each(over_scales, made, truth)


def scales(height: int, width: int) -> int:
    """Number of the five scales of `ms_ssim` that fit a frame: the window has to fit the coarsest."""
    side = min(height, width)
    return sum(side >> halvings >= SIDE for halvings in range(len(WEIGHTS)))


def _each(measure: Callable[[np.ndarray, np.ndarray], np.ndarray], made: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The measure of (c h w) pictures in float64, frame by frame: memory stays small. Mean over the colors."""
    pairs = zip(made, truth, strict=True)
    planes = ((np.moveaxis(each.astype(np.float64), -1, 0) for each in pair) for pair in pairs)
    return np.array([measure(*pair).mean() for pair in planes])


def _similarity(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(c h w) -> means over the picture (c,) of SSIM, and of its factor of contrast and structure alone."""
    mean_one, mean_other = _blurred(one), _blurred(other)
    squares = mean_one**2 + mean_other**2
    variances = _blurred(one * one + other * other) - squares
    product = mean_one * mean_other
    covariance = _blurred(one * other) - product
    structure = (2 * covariance + CONTRAST) / (variances + CONTRAST)
    whole = structure * (2 * product + LUMINANCE) / (squares + LUMINANCE)
    return whole.mean(axis=(1, 2)), structure.mean(axis=(1, 2))


def _blurred(picture: np.ndarray) -> np.ndarray:
    """(c h w) -> (c h-10 w-10): the Gaussian window, where all of it lies in the picture."""
    offsets = np.arange(SIDE) - SIDE // 2
    window = np.exp(-(offsets**2) / (2 * SIGMA**2))
    window /= window.sum()
    height, width = picture.shape[1] - SIDE + 1, picture.shape[2] - SIDE + 1
    rows = np.asarray(sum(share * picture[:, place : place + height] for place, share in enumerate(window)))
    return np.asarray(sum(share * rows[:, :, place : place + width] for place, share in enumerate(window)))


def _halved(picture: np.ndarray) -> np.ndarray:
    """(c h w) -> (c h/2 w/2) by the mean of 2x2 pixels."""
    even = picture[:, : picture.shape[1] // 2 * 2, : picture.shape[2] // 2 * 2]
    return (even[:, ::2, ::2] + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 4


def _check(made: np.ndarray, truth: np.ndarray) -> None:
    if made.shape != truth.shape or made.ndim != 4 or made.dtype != np.uint8 or truth.dtype != np.uint8:
        found = f"{made.dtype} {made.shape} and {truth.dtype} {truth.shape}"
        raise ValueError(f"expected uint8 frames (n, h, w, c) of the same shape, found {found}")


def _check_side(frames: np.ndarray) -> None:
    if min(frames.shape[1:3]) < SIDE:
        raise ValueError(f"SSIM looks through a window of {SIDE} pixels, found frames of {frames.shape[1:3]}")

"""PSNR, SSIM and MS-SSIM against slow implementations written for this test, and against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vidiff_cli.metrics.fidelity import WEIGHTS, _similarity, ms_ssim, psnr, scales, ssim


def frames(*shape: int, seed: int = 0) -> np.ndarray:
    """Noise over a slope, so that means, contrasts and covariances all differ from place to place."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(0, 120, shape[2])[:, None] + np.linspace(0, 60, shape[1])[:, None, None]
    return np.clip(slope + rng.normal(30, 25, shape), 0, 255).astype(np.uint8)


def slow_similarity(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """(h w) -> SSIM, and contrast times structure: the equations of the paper, place by place, with two loops."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    whole, structure = [], []
    for row in range(one.shape[0] - 10):
        for column in range(one.shape[1] - 10):
            x, y = (each[row : row + 11, column : column + 11] for each in (one, other))
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            cov = (window * (x - mx) * (y - my)).sum()
            contrast = (2 * math.sqrt(vx * vy) + c2) / (vx + vy + c2)
            structural = (cov + c2 / 2) / (math.sqrt(vx * vy) + c2 / 2)
            whole.append((2 * mx * my + c1) / (mx**2 + my**2 + c1) * contrast * structural)
            structure.append(contrast * structural)
    return float(np.mean(whole)), float(np.mean(structure))


def slow_ms_ssim(one: np.ndarray, other: np.ndarray, count: int) -> float:
    weights = np.array(WEIGHTS[:count]) / sum(WEIGHTS[:count])
    value = 1.0
    for scale in range(count):
        whole, structure = slow_similarity(one, other)
        value *= max(0.0, whole if scale == count - 1 else structure) ** weights[scale]
        h, w = one.shape[0] // 2, one.shape[1] // 2
        one, other = (e[: 2 * h, : 2 * w].reshape(h, 2, w, 2).mean(axis=(1, 3)) for e in (one, other))
    return value


def test_ssim_and_ms_ssim_are_those_of_the_papers() -> None:
    """Odd sizes, three colors, several frames: every value is the mean over the colors."""
    truth, made = frames(2, 31, 25, 3), frames(2, 31, 25, 3, seed=1)
    made[1] = np.clip(truth[1].astype(int) * 0.8 + 30, 0, 255)
    for frame, (value, multi) in enumerate(zip(ssim(made, truth), ms_ssim(made, truth), strict=True)):
        planes = [(made[frame, ..., c].astype(float), truth[frame, ..., c].astype(float)) for c in range(3)]
        assert value == pytest.approx(np.mean([slow_similarity(*pair)[0] for pair in planes]), abs=1e-10)
        assert multi == pytest.approx(np.mean([slow_ms_ssim(*pair, 2) for pair in planes]), abs=1e-10)


def test_psnr_of_known_errors() -> None:
    truth = frames(3, 12, 14, 3)
    made = truth.copy()
    made[1] = np.where(truth[1] < 128, truth[1] + 5, truth[1] - 5)
    made[2, 0, 0, 0] = 255 - truth[2, 0, 0, 0]
    one = (255.0 - 2 * truth[2, 0, 0, 0]) ** 2 / (12 * 14 * 3)
    assert np.allclose(psnr(made, truth), [np.inf, 20 * math.log10(255 / 5), 10 * math.log10(255**2 / one)], rtol=1e-12)
    black, white = np.zeros((1, 12, 12, 3), np.uint8), np.full((1, 12, 12, 3), 255, np.uint8)
    assert psnr(black, white).tolist() == [0.0] == psnr(white, black).tolist()


@pytest.mark.parametrize("measure", [ssim, ms_ssim])
def test_one_for_equal_frames_and_only_for_them(measure) -> None:
    truth = frames(2, 24, 24, 3)
    other = truth.copy()
    other[1, 12, 12] ^= 1
    assert measure(truth, truth) == pytest.approx([1, 1], abs=1e-12)
    assert measure(other, truth)[0] == pytest.approx(1, abs=1e-12) and measure(other, truth)[1] < 1 - 1e-8
    assert np.array_equal(measure(other, truth), measure(truth, other))


def test_scales_are_as_many_as_fit() -> None:
    """The coarsest picture must hold the window of 11 pixels; below that there is no SSIM at all."""
    sizes = {11: 1, 21: 1, 22: 2, 43: 2, 44: 3, 64: 3, 87: 3, 88: 4, 175: 4, 176: 5, 2160: 5}
    assert {side: scales(side, 3000) for side in sizes} == sizes == {side: scales(3000, side) for side in sizes}
    small = frames(1, 16, 16, 3), frames(1, 16, 16, 3, seed=1)
    assert ms_ssim(*small) == pytest.approx(np.maximum(ssim(*small), 0), abs=1e-12)
    inverted = 255 - small[0]
    assert ssim(small[0], inverted)[0] < 0 and ms_ssim(small[0], inverted)[0] == 0


def test_five_scales_have_the_published_weights() -> None:
    """On large frames; the two finest scales are those of the (tested) fast way, since they have 34,000 places."""
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, 256, (11, 11)), np.ones((16, 16)))
    made = np.clip(truth + rng.normal(0, 20, truth.shape), 0, 255).round()
    pair = [each[None, ..., None].astype(np.uint8) for each in (made, truth)]
    value = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        whole, structure = slow_similarity(made, truth) if scale > 1 else _similarity(made[None], truth[None])
        value *= float(np.mean(structure if scale < 4 else whole)) ** weight
        if scale < 4:
            half = len(made) // 2
            made, truth = (each.reshape(half, 2, half, 2).mean(axis=(1, 3)) for each in (made, truth))
    assert ms_ssim(*pair)[0] == pytest.approx(value, abs=1e-10)


def test_what_cannot_be_compared_is_refused() -> None:
    good = np.zeros((1, 16, 16, 3), np.uint8)
    for other in (good[:, :15], good.astype(np.float32), good[0], np.zeros((2, 16, 16, 3), np.uint8)):
        with pytest.raises(ValueError, match="expected uint8 frames"):
            psnr(good, other)
    for measure in (ssim, ms_ssim):
        with pytest.raises(ValueError, match="window of 11"):
            measure(good[:, :10], good[:, :10])

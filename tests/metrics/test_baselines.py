"""Blending and the nearest frame at exact times."""

from fractions import Fraction as F

import numpy as np
import pytest

from vidiff_cli.metrics.baselines import interpolation_baselines

KEYS = np.array([0, 90, 255, 10], np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
TIMES = [F(0), F(1, 3), F(1, 2), F(2)]


def levels(wanted: list[F]) -> dict[str, list[int]]:
    made = interpolation_baselines(KEYS, TIMES, wanted)
    assert all((frames == frames[:, :1, :1, :1]).all() and frames.shape[1:] == (2, 3, 3) for frames in made.values())
    return {name: frames[:, 0, 0, 0].tolist() for name, frames in made.items()}


def test_given_times_are_the_given_frames_and_the_ends_are_held() -> None:
    made = levels([*TIMES, F(-1), F(9)])
    assert made["blending"] == made["nearest frame"] == [0, 90, 255, 10, 0, 10]


def test_between_is_linear_in_time_and_rounded() -> None:
    made = levels([F(1, 9), F(1, 6), F(2, 9), F(3, 8), F(5, 12), F(5, 4)])
    assert made["blending"] == [30, 45, 60, 131, 173, 133]  # 131.25, 172.5 and 132.5: halves up
    assert made["nearest frame"] == [0, 0, 90, 90, 90, 255]  # halfway: the earlier one


def test_times_that_do_not_fit_are_refused() -> None:
    for times in ([F(0), F(1), F(1), F(2)], [F(0)], []):
        with pytest.raises(ValueError, match="ascending times"):
            interpolation_baselines(KEYS, times, [F(0)])

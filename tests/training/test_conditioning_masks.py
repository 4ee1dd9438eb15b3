"""Random observed frames: every pattern is drawn, and there is always a frame left to make."""

import numpy as np
import pytest

from vidiff_cli.training.conditioning_masks import PATTERNS, draw_observed


def draws(t: int, count: int) -> list[tuple[bool, ...]]:
    rng = np.random.default_rng(t)
    return [tuple(draw_observed(rng, t).tolist()) for _ in range(count)]


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("t", range(2, 9))
def test_every_pattern_leaves_a_frame_and_gives_one(name: str, t: int) -> None:
    rng = np.random.default_rng(t)
    masks = np.stack([PATTERNS[name](rng, t) for _ in range(300)])
    assert masks.dtype == bool and masks.shape == (300, t)
    assert not masks.all(axis=1).any()
    assert name == "scattered" or masks.any(axis=1).all()


@pytest.mark.parametrize("t", [0, 1, 2, 3, 5])
def test_every_set_of_frames_but_all_of_them_occurs(t: int) -> None:
    found = set(draws(t, 6000))
    assert len(found) == max(1, 2**t - 1) and (t == 0 or (True,) * t not in found)


def test_the_cases_of_every_command_occur_often() -> None:
    """Of 8 frames: extension from each length, in both directions, interpolation, loops."""
    seen = draws(8, 8000)
    for stop in range(1, 8):
        assert seen.count(tuple(frame < stop for frame in range(8))) > 100  # extend
        assert seen.count(tuple(frame >= stop for frame in range(8))) > 100  # extend --before
    for k in range(2, 8):
        assert seen.count(tuple(frame % k == 0 for frame in range(8))) > 20  # interpolate
    assert seen.count(tuple(frame in (0, 7) for frame in range(8))) > 20  # loop

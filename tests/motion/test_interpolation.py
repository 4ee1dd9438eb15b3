"""Frames between two given ones: what is known for certain, and what is known because the motion is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from textures import Texture, psnr
from torch import Tensor

from vidiff_cli.motion import consistency, interpolate, is_cut, is_flash, optical_flow, warp
from vidiff_cli.motion.warping import mean_distance

SIZE = (61, 75)  # no multiple of any width of a vector register
TIMES = (0.01, 0.25, 0.5, 0.7, 0.99)


def cut_between(one: Tensor, two: Tensor) -> Tensor:
    forward, backward = optical_flow(one, two)
    return is_cut(one, two, mean_distance(one, warp(two, forward)), consistency(forward, backward))


def accelerating(seed: int, size: tuple[int, int] = (64, 64)) -> Callable[[float], Tensor]:
    """A texture whose way is quadratic in time."""
    return lambda time: Texture(seed).frame(size, (time + time**2, -0.5 * time - 0.6 * time**2))


def test_identical_frames_come_back_bit_for_bit() -> None:
    """Also beside others that move, and whatever the flows around say."""
    still, moved = Texture(0).frame(SIZE), Texture(0).frame(SIZE, (2, 1))
    flows = optical_flow(still, moved)
    for more in ({}, {"before": flows, "after": flows}):
        frames, uncertainty = interpolate(still, still.clone(), TIMES, **more)
        assert all(torch.equal(frames[:, :, number], still) for number in range(len(TIMES)))
        assert not bool(uncertainty.any())
    frames, uncertainty = interpolate(torch.cat([still, still]), torch.cat([still, moved]), [0.4])
    assert torch.equal(frames[:1, :, 0], still) and not bool(uncertainty[0].any()) and bool(uncertainty[1].any())


def test_the_given_frames_are_at_their_times_bit_for_bit() -> None:
    one, two = Texture(0).frame(SIZE), Texture(0).frame(SIZE, (2, 1))
    for first, second in ((one, two), (one, Texture(7).frame(SIZE)), (one.bfloat16(), two.bfloat16())):
        frames, uncertainty = interpolate(first, second, [0, 0.5, 1])
        assert torch.equal(frames[:, :, 0], first) and torch.equal(frames[:, :, 2], second)
        assert not bool(uncertainty[:, :, ::2].any()) and bool(uncertainty[:, :, 1].any())


def test_time_may_run_backwards() -> None:
    """The frame at t from a to b is that at 1 - t from b to a; what was before is after."""
    film = accelerating(0, SIZE)
    zero, one, two, three = (film(number - 1) for number in range(4))
    before, after = optical_flow(zero, one), optical_flow(two, three)
    there = {"before": before, "after": after}
    back = {"before": after[::-1], "after": before[::-1]}
    for onward, backward in (({}, {}), (there, back), ({"before": before}, {"after": before[::-1]})):
        frames = interpolate(one, two, TIMES, **onward)
        mirrored = interpolate(two, one, [1 - time for time in TIMES], **backward)
        for found, other in zip(frames, mirrored, strict=True):
            torch.testing.assert_close(found, other, atol=1e-5, rtol=0)


def test_a_cut_is_one_in_both_directions() -> None:
    """Pictures mixed of two: somewhere on the way from the one to the other a cut begins, the same both ways."""
    one = Texture(0).frame()
    others = torch.cat([torch.lerp(one, Texture(50).frame(), share) for share in torch.linspace(0.72, 0.78, 37)])
    ones = one.expand_as(others)
    there, back = interpolate(ones, others, [0.3])[0], interpolate(others, ones, [0.7])[0]
    cut = (there[:, :, 0] == one).all(3).all(2).all(1)
    assert 0 < int(cut.sum()) < len(cut)
    torch.testing.assert_close(there, back, atol=1e-5, rtol=0)


def square(seed: int, time: float, *, speed: tuple[float, float] = (6.0, 2.5)) -> tuple[Tensor, Tensor]:
    """A textured square of 28 pixels over a textured ground that moves otherwise, and how far it covers the pixels."""
    y, x = torch.meshgrid(torch.arange(80).double(), torch.arange(96).double(), indexing="ij")
    left, top = 34 + speed[0] * (time - 0.5), 26 + speed[1] * (time - 0.5)
    across, down = ((place - start + 0.5, start + 28 - place + 0.5) for place, start in ((x, left), (y, top)))
    cover = torch.stack([side.clamp(0, 1) for side in (*across, *down)]).prod(0).float()
    ground, front = Texture(seed).at(x - 1.5 * time, y + 0.5 * time), Texture(seed + 100).at(x - left, y - top)
    return torch.lerp(ground, 0.8 * front, cover), cover


@pytest.mark.parametrize("seed", range(2))
def test_what_a_moving_square_uncovers_is_made_but_less_certain(seed: int) -> None:
    (one, covered), (two, later), (true, middle) = (square(seed, time) for time in (0, 1, 0.5))
    frames, uncertainty = interpolate(one, two, [0.5])
    frame, uncertainty, blend = frames[:, :, 0], uncertainty[0, 0, 0], (one + two) / 2
    strip = (covered > 0.5) != (later > 0.5)
    far = torch.nn.functional.max_pool2d(torch.maximum(covered, later)[None], 31, 1, 15)[0] == 0
    for region, gain in ((middle == 1, 3), (far, 10), (strip, 0.5), (torch.ones_like(strip), 4)):
        assert psnr(frame[..., region], true[..., region]) > psnr(blend[..., region], true[..., region]) + gain
    assert float(uncertainty[strip].mean()) > 3 * float(uncertainty[~strip].mean())


@pytest.mark.parametrize("speed", [(3.0, 1.0), (6.0, 2.5), (8.0, 3.0)])
def test_uncertainty_is_the_error_that_films_with_grain_have(speed: tuple[float, float]) -> None:
    """Within a factor of two, for a film grain of four levels; what has none is better than it is said to be."""
    said, true = 0.0, 0.0
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        one, two, middle = (
            square(seed, time, speed=speed)[0] + 4 / 127.5 * torch.randn(1, 3, 80, 96, generator=generator)
            for time in (0, 1, 0.5)
        )
        frames, uncertainty = interpolate(one, two, [0.5])
        said, true = said + float(uncertainty.mean()), true + float((frames[:, :, 0] - middle).abs().mean())
    assert true / 2 < said < 2 * true


@pytest.mark.parametrize("seed", range(2))
def test_the_frames_around_tell_how_motion_speeds_up(seed: int) -> None:
    film = accelerating(seed)
    zero, one, two, three = (film(number - 1) for number in range(4))
    before, after = optical_flow(zero, one), optical_flow(two, three)

    def found(**known: Any) -> float:
        return psnr(interpolate(one, two, [0.5], **known)[0][:, :, 0, 8:-8, 8:-8], film(0.5)[..., 8:-8, 8:-8])

    assert found(before=before) > found() + 4 and found(after=after) > found() + 4
    assert found(before=before, after=after) > found() + 8


@pytest.mark.parametrize(("seed", "channels"), [(0, 1), (1, 3)])
def test_across_a_cut_the_nearer_frame_is_repeated(channels: int, seed: int) -> None:
    one, two = Texture(seed, channels).frame(), Texture(seed + 50, channels).frame()
    assert bool(cut_between(one, two)) and bool(cut_between(two, one))
    frames, uncertainty = interpolate(one, two, [0.2, 0.8])
    assert torch.equal(frames[:, :, 0], one) and torch.equal(frames[:, :, 1], two)
    assert float(uncertainty.mean()) == pytest.approx(float((one - two).abs().mean()), rel=0.1)


def test_a_pan_a_light_and_a_still_are_no_cuts() -> None:
    one = Texture(0).frame()
    for two in (one, Texture(0).frame(shift=(6, -3)), (one + 0.2).clamp(-1, 1)):
        assert not bool(cut_between(one, two))


def test_a_flash_differs_from_both_neighbors_which_are_alike() -> None:
    zero, one, two = (Texture(0).frame(shift=(0.7 * number, 0)) for number in range(3))
    bright, other = (one + 0.8).clamp(-1, 1), Texture(9).frame()
    assert not bool(is_flash(zero, one, two))
    assert bool(is_flash(zero, bright, two)) and bool(is_flash(zero, other, two))
    assert not bool(is_flash(zero, other, Texture(10).frame()))  # two cuts
    assert not bool(is_flash(zero, bright, bright))  # the light is switched on
    assert is_flash(*(torch.cat(each) for each in ((zero, zero), (one, bright), (two, two)))).tolist() == [False, True]


def test_frames_of_two_shapes_and_times_outside_are_refused() -> None:
    one = Texture(0).frame((8, 8))
    with pytest.raises(ValueError, match="shapes"):
        interpolate(one, one[..., :-1], [0.5])
    for time in (-0.1, 1.1):
        with pytest.raises(ValueError, match="outside"):
            interpolate(one, one, [time])

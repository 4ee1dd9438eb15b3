"""Optical flow finds again how a texture was moved; warping, splatting and resizing of flows in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from textures import Texture
from torch import Tensor

from vidiff_cli.motion import consistency, full_size_flow, optical_flow, warp
from vidiff_cli.motion.warping import fill_holes, inside, resize_flow, splat

PIXELS = 0.05  # mean absolute error of a flow of a few pixels, away from the border
EDGE = 8
SIZE = (61, 75)  # no multiple of any width of a vector register


def everywhere(x: float, y: float, size: tuple[int, int] = (64, 64)) -> Tensor:
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, *size)


def off(flow: Tensor, true: Tensor) -> float:
    return float((flow - true).abs()[..., EDGE:-EDGE, EDGE:-EDGE].mean())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shift", [(1, 0), (2.3, -1.7), (-4.4, 0.6)])
def test_a_translation_is_found_both_ways(channels: int, shift: tuple[float, float]) -> None:
    picture = Texture(channels, channels)
    forward, backward = optical_flow(picture.frame(), picture.frame(shift=shift))
    assert off(forward, everywhere(*shift)) < PIXELS
    assert off(backward, everywhere(-shift[0], -shift[1])) < PIXELS
    agreement = consistency(forward, backward)[..., EDGE:-EDGE, EDGE:-EDGE]
    assert float(agreement.mean()) > 0.95


@pytest.mark.parametrize(("degrees", "zoom"), [(2.0, 1.0), (-2.0, 1.0), (0.0, 1.03), (0.0, 0.97)])
def test_rotation_and_zoom_are_found_both_ways(degrees: float, zoom: float) -> None:
    angle = math.radians(degrees)
    turn = zoom * torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
    center = torch.tensor([(SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2]).double()[:, None, None]
    y, x = torch.meshgrid(*(torch.arange(side).double() for side in SIZE), indexing="ij")
    places = torch.stack([x, y])

    def mapped(matrix: Tensor) -> Tensor:
        return torch.einsum("ij,jhw->ihw", matrix, places - center) + center

    picture = Texture(0)
    found = optical_flow(picture.frame(SIZE), picture.at(*mapped(torch.linalg.inv(turn))))
    for flow, matrix in zip(found, (turn, torch.linalg.inv(turn)), strict=True):
        assert off(flow, (mapped(matrix) - places)[None]) < PIXELS


def test_what_is_flat_or_the_same_does_not_move() -> None:
    flat, still = torch.full((1, 3, 40, 40), 0.3), Texture(0).frame()
    for one, two in ((flat, flat + 0.1), (still, still)):
        assert all(float(flow.abs().max()) < 1e-4 for flow in optical_flow(one, two))


def test_large_frames_have_their_motion_found_small() -> None:
    """The flow is in pixels of its own size; enlarged, in pixels of the frames."""
    frames = [Texture(0).frame((96, 128), shift) for shift in ((0, 0), (4, -2))]
    flow, _ = optical_flow(*frames, short_side=48)
    assert flow.shape == (1, 2, 48, 64)
    assert off(flow, everywhere(2, -1, (48, 64))) < 2 * PIXELS
    assert off(resize_flow(flow, (96, 128)), everywhere(4, -2, (96, 128))) < 4 * PIXELS
    for full, sign in zip(full_size_flow(*frames), (1, -1), strict=True):
        assert off(full, everywhere(sign * 4, sign * -2, (96, 128))) < PIXELS


def test_no_gradient_flows_and_autocast_changes_nothing() -> None:
    one, two = Texture(0).frame().requires_grad_(True), Texture(0).frame(shift=(1.5, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        flow, _ = optical_flow(one, two)
    assert not flow.requires_grad and torch.equal(flow, optical_flow(one, two)[0])


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shift", [(0, 0), (2, -1), (-3, 0)])
def test_warping_by_whole_pixels_shows_what_is_there(shift: tuple[int, int], mode: str) -> None:
    """What stands at p + F is seen at p; beyond the border its pixels are repeated."""
    size = (9, 14)
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    x, y = (torch.arange(side) + by for side, by in zip(reversed(size), shift, strict=True))
    expected = image[:, :, y.clamp(0, size[0] - 1)][..., x.clamp(0, size[1] - 1)]
    found = warp(image, everywhere(*shift, size).expand(2, -1, -1, -1).float(), mode)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_splatting_keeps_what_stays_inside_and_undoes_a_warp() -> None:
    field = torch.randn(1, 2, 7, 9, generator=torch.Generator().manual_seed(0))
    weight = torch.rand(1, 1, 7, 9, generator=torch.Generator().manual_seed(1))
    total, summed = splat(field, everywhere(2, -1, (7, 9)).float(), weight)
    torch.testing.assert_close(total[..., :-1, 2:], (field * weight)[..., 1:, :-2])
    torch.testing.assert_close(summed[..., :-1, 2:], weight[..., 1:, :-2])
    assert not bool(summed[..., -1, :].any()) and not bool(summed[..., :2].any())
    halfway, _ = splat(field, everywhere(0.5, 0.5, (7, 9)).float(), weight)
    torch.testing.assert_close(halfway[..., 3, 4], (field * weight)[..., 2:4, 3:5].sum((2, 3)) / 4)


def test_holes_take_what_is_around_them() -> None:
    """A field that is the same everywhere is that in its holes too; where weight is enough nothing is mended."""
    weight = (torch.rand(1, 1, 21, 34, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    torch.testing.assert_close(fill_holes(3 * weight, weight), torch.full((1, 1, 21, 34), 3.0))
    field = torch.randn(1, 1, 21, 34, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(fill_holes(field * weight, weight)[weight > 0], field[weight > 0])


def test_flows_agree_where_there_and_back_is_no_way() -> None:
    flow = everywhere(3, -2).float()
    assert torch.equal(consistency(flow, -flow), torch.ones(1, 1, 64, 64))
    assert float(consistency(flow, torch.zeros_like(flow)).max()) < 1e-6
    left = torch.zeros(1, 1, 64, 64)
    left[..., 2:, :-3] = 1
    assert torch.equal(inside(flow), left)

"""Warping by flows: backward (warp), forward (splat), and the consistency of two flows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

ROUND_TRIP = 0.02  # share of the squared way that a round trip may be off (Ruder et al. 2016 have .01, here it fades)
TOLERANCE = 0.5  # squared pixels of a round trip that say nothing
CONSISTENT = 0.5  # of `consistency`, is seen in both frames


def numbers(values: Sequence[float], like: Tensor) -> Tensor:
    """Numbers (n) in the dtype and on the device of `like`: filled in there, because a GPU makes the host wait for a
    copy."""
    return torch.cat([like.new_full((1,), value) for value in values])


def grid(height: int, width: int, like: Tensor) -> Tensor:
    """Pixel coordinates (1 2 h w), x before y, in the dtype and on the device of `like`."""
    y = torch.arange(height, dtype=like.dtype, device=like.device)
    x = torch.arange(width, dtype=like.dtype, device=like.device)
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])[None]


def warp(image: Tensor, flow: Tensor, mode: str = "bilinear") -> Tensor:
    """Samples image(p + flow(p)); the border is repeated beyond it.

    Shapes: image (b c h w), flow (b 2 h w) -> (b c h w). `mode`: bilinear or bicubic.
    """
    height, width = flow.shape[2:]
    scale = numbers([2 / max(width - 1, 1), 2 / max(height - 1, 1)], flow)[:, None, None]
    places = ((grid(height, width, flow) + flow) * scale - 1).permute(0, 2, 3, 1)
    return functional.grid_sample(image, places, mode=mode, padding_mode="border", align_corners=True)


def resize(field: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes a field (b c h w) linearly, antialiased where it shrinks."""
    if field_size(field) == size:
        return field
    return functional.interpolate(field, size, mode="bilinear", antialias=size[0] < field.shape[2])


def resize_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes a flow (b 2 h w) and scales it to pixels of that size."""
    height, width = flow.shape[2:]
    if (height, width) == size:
        return flow
    return resize(flow, size) * numbers([size[1] / width, size[0] / height], flow)[:, None, None]


def inside(flow: Tensor) -> Tensor:
    """1 where p + flow(p) lies in the frame, else 0: (b 2 h w) -> (b 1 h w)."""
    height, width = flow.shape[2:]
    places = grid(height, width, flow) + flow
    x, y = places[:, :1], places[:, 1:]
    return ((x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)).to(flow.dtype)


def consistency(forward: Tensor, backward: Tensor) -> Tensor:
    """Forward-backward consistency of two flows: 1 where the round trip ends at its start, falling to 0.

    Shapes: two flows (b 2 h w) -> (b 1 h w), at the pixels where `forward` starts. Source: Ruder et al. 2016, equation
    5, as a smooth weight instead of a threshold.
    """
    back = warp(backward, forward)
    off = (forward + back).square().sum(1, keepdim=True)
    way = forward.square().sum(1, keepdim=True) + back.square().sum(1, keepdim=True)
    return torch.exp(-off / (ROUND_TRIP * way + TOLERANCE))


def forward_backward_mask(forward: Tensor, backward: Tensor) -> Tensor:
    """1 where the content of the first frame is visible in the second, else 0: it stays inside and the round trip is
    closed.

    Shapes: two flows (b 2 h w) -> (b 1 h w).
    """
    return inside(forward) * (consistency(forward, backward) > CONSISTENT)


def splat(fields: Tensor, flow: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Moves fields along a flow and sums them by weight where they arrive.

    Shapes: fields (b c h w), flow (b 2 h w), weight (b 1 h w) -> weighted sum (b c h w), summed weight (b 1 h w).
    Source: Niklaus and Liu 2020 (softmax splatting, with any weight).
    """
    b, c, height, width = fields.shape
    places = grid(height, width, flow) + flow
    corner = places.floor()
    part = places - corner
    values = torch.cat([fields * weight, weight], 1).flatten(2)
    sums = values.new_zeros(b, c + 1, height * width)
    for right in (0, 1):
        for below in (0, 1):
            x, y = corner[:, 0] + right, corner[:, 1] + below
            share = (part[:, 0] if right else 1 - part[:, 0]) * (part[:, 1] if below else 1 - part[:, 1])
            share = share * ((x >= 0) & (x < width) & (y >= 0) & (y < height))
            index = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).long().flatten(1)
            sums.scatter_add_(2, index[:, None].expand(-1, c + 1, -1), values * share.flatten(1)[:, None])
    sums = sums.view(b, c + 1, height, width)
    return sums[:, :-1], sums[:, -1:]


def pyramid(one: Tensor, other: Tensor, *, smallest: int) -> list[tuple[Tensor, Tensor]]:
    """Two fields (b c h w), halved repeatedly down to a short side of `smallest` or more."""
    levels = [(one, other)]
    while min(field_size(levels[-1][1])) >= 2 * smallest:
        height, width = field_size(levels[-1][1])
        half = (-(-height // 2), -(-width // 2))
        one, other = (functional.interpolate(each, half, mode="area") for each in levels[-1])
        levels.append((one, other))
    return levels


def fill_holes(total: Tensor, weight: Tensor) -> Tensor:
    """total / weight; where the weight is zero, the surrounding values, coarse to fine: (b c h w), (b 1 h w) -> (b c h
    w)."""
    levels = pyramid(total, weight, smallest=2)
    field = levels[-1][0] / levels[-1][1].clamp(min=1e-6)
    for sums, weights in reversed(levels[:-1]):
        around = resize(field, field_size(weights))
        field = torch.lerp(around, sums / weights.clamp(min=1e-6), (20 * weights).clamp(max=1))
    return field


def mean_distance(one: Tensor, other: Tensor) -> Tensor:
    """The mean absolute difference over channels: two (b c h w) -> (b 1 h w)."""
    return (one - other).abs().mean(1, keepdim=True)


def field_size(field: Tensor) -> tuple[int, int]:
    """(h, w) of a field (b c h w)."""
    return field.shape[2], field.shape[3]


def box(field: Tensor, width: int = 3) -> Tensor:
    """Mean of a field over squares of an odd width, at the border over the part inside."""
    return functional.avg_pool2d(field, width, 1, width // 2, count_include_pad=False)

"""Optical flow, and the loss that asks the error of an estimate to move with the picture.

A flow F (n 2 h w) of two images is in pixels, x before y: what is at p in the first is at p + F(p) in the second, x to
the right and y downwards, pixel centres at whole numbers. Shapes: n pairs or clips, c channels, t frames, h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from vidiff_cli.training.weights import read_weights, with_weights

FlowOf = Callable[[Tensor, Tensor], Tensor]
"""(first, second: n c h w in [-1, 1]) -> flow n 2 h w."""

SMALLEST_LEVEL = 16  # pixels: no level of the pyramid has a shorter side
LEVELS = 4
ITERATIONS = 5  # per level; each looks again at what the flow so far does not explain
BLUR = (1, 4, 6, 4, 1)
WINDOW = (1, 6, 15, 20, 15, 6, 1)  # binomial, about Gaussian with a standard deviation of 1.2 pixels
FLAT = 1e-3  # squared contrast per pixel under which a place says nothing of its motion
RAFT_SIDE, RAFT_MULTIPLE = 128, 8  # the correlation pyramid of RAFT needs that much
RAFT_PAIRS = 16  # at a time: its correlations grow with the fourth power of the side


def warp(images: Tensor, flow: Tensor) -> Tensor:
    """The images as seen from where the flow starts: images(p + F(p)), bilinear, the border repeated beyond it.

    Shapes: images (n c h w), flow (n 2 h w) -> (n c h w). Whole-pixel flows are exact. Equals grid_sample with
    align_corners=True and padding_mode="border"; by indexing, because its gradient is summed in a fixed order on a GPU
    too, where that of grid_sample is not.
    """
    height, width = images.shape[2:]
    x = (torch.arange(width, device=flow.device) + flow[:, 0]).clamp(0, width - 1)
    y = (torch.arange(height, device=flow.device)[:, None] + flow[:, 1]).clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    across, down = (x - left)[:, None], (y - top)[:, None]
    columns = left.long(), (left.long() + 1).clamp(max=width - 1)
    rows = top.long(), (top.long() + 1).clamp(max=height - 1)
    number = torch.arange(len(images), device=images.device)[:, None, None]
    pixels = images.permute(0, 2, 3, 1)

    def at(row: Tensor, column: Tensor) -> Tensor:
        return pixels[number, row, column].permute(0, 3, 1, 2)

    upper, lower = (torch.lerp(at(row, columns[0]), at(row, columns[1]), across) for row in rows)
    return torch.lerp(upper, lower, down)


def visible(forward: Tensor, backward: Tensor) -> Tensor:
    """Where what is in the first image is in the second too: inside the frame, and there and back again is no way.

    Shapes: two flows (n 2 h w) -> (n 1 h w), 1 or 0. Source: Ruder et al. 2016, equation 5 (occluded where
    |F + B(p + F)|^2 > 0.01 (|F|^2 + |B(p + F)|^2) + 0.5).
    """
    height, width = forward.shape[2:]
    x = torch.arange(width, device=forward.device) + forward[:, 0]
    y = torch.arange(height, device=forward.device)[:, None] + forward[:, 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    back = warp(backward, forward)
    off = (forward + back).square().sum(1)
    way = forward.square().sum(1) + back.square().sum(1)
    return (inside & (off <= 0.01 * way + 0.5))[:, None].to(forward.dtype)


class ResidualFlow:
    """How much the error of an estimate flickers along the motion of the real clip.

    With e = x_hat - x and F the flow of x from frame i to i + 1: the mean of M (e_i - e_{i+1}(p + F(p)))^2 over the
    pixels of the pairs of frames. It is zero at the truth, which the warped difference of x_hat itself is not: that one
    is smallest where nothing moves or all is blurred.
    """

    def __init__(self, flow_of: FlowOf) -> None:
        self._flow_of = flow_of

    def __call__(self, x_hat: Tensor, video: Tensor, made: Tensor) -> Tensor:
        """x_hat and video (n c t h w), made (n, t) -> (n). Frames that are not made must be equal in both."""
        count = made[:, :-1] | made[:, 1:]
        if not bool(count.any()):  # single images
            return (x_hat - video).sum(dim=(1, 2, 3, 4)) * 0.0
        first, second = (_images(part) for part in (video[:, :, :-1], video[:, :, 1:]))
        with torch.no_grad():
            forward, backward = self._flow_of(first, second), self._flow_of(second, first)
            seen = visible(forward, backward)
        error = x_hat - video
        left, right = _images(error[:, :, :-1]), _images(error[:, :, 1:])
        pairs = (seen * (left - warp(right, forward)).square()).mean(dim=(1, 2, 3)).view(count.shape)
        return (pairs * count).sum(dim=1) / count.sum(dim=1).clamp(min=1)


def _images(video: Tensor) -> Tensor:
    return video.transpose(1, 2).flatten(0, 1)


def lucas_kanade(first: Tensor, second: Tensor) -> Tensor:
    """The flow from `first` to `second` (n c h w) by least squares in a small window, coarse to fine: (n 2 h w).

    Differentiable. Every channel is an equation, so that colours may differ where brightness does not. Where nothing is
    to be seen, nothing moves. Source: Lucas and Kanade 1981; Bouguet 2001 (pyramid).
    """
    pyramid = [(first, second)]
    while len(pyramid) < LEVELS and min(pyramid[-1][0].shape[2:]) >= 2 * SMALLEST_LEVEL:
        one, two = pyramid[-1]
        pyramid.append((_half(one), _half(two)))
    flow = first.new_zeros(len(first), 2, *pyramid[-1][0].shape[2:])
    for level, (one, two) in enumerate(reversed(pyramid)):
        if level:
            flow = 2.0 * functional.interpolate(flow, scale_factor=2.0, mode="bilinear")
            flow = flow[:, :, : one.shape[2], : one.shape[3]]
        one, two = _smooth(one), _smooth(two)
        for _ in range(ITERATIONS):
            flow = _improved(flow, one, warp(two, flow))
    return flow


def _half(image: Tensor) -> Tensor:
    return functional.avg_pool2d(image, 2, ceil_mode=True, count_include_pad=False)


def _improved(flow: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The flow and what it leaves unexplained, at most a pixel, fading where all is flat; `second` is warped by it."""
    padded = functional.pad((first + second) / 2, (1, 1, 1, 1), mode="replicate")
    x = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    y = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
    time = second - first
    products = torch.stack([each.sum(1) for each in (x * x, x * y, y * y, x * time, y * time)], dim=1)
    xx, xy, yy, xt, yt = _filtered(products, WINDOW).unbind(1)
    contrast = (xx + yy).square()
    xx, yy = xx + FLAT, yy + FLAT
    step = torch.stack([xy * yt - yy * xt, xy * xt - xx * yt], dim=1) / (xx * yy - xy * xy)[:, None]
    return (flow + step.clamp(-1.0, 1.0)) * (contrast / (contrast + FLAT**2))[:, None]


def _smooth(image: Tensor) -> Tensor:
    return _filtered(image, BLUR)


def _filtered(fields: Tensor, taps: tuple[int, ...]) -> Tensor:
    """Every plane with a separable kernel, the border repeated."""
    weights = torch.tensor(taps, dtype=fields.dtype, device=fields.device) / sum(taps)
    reach = len(taps) // 2
    planes = functional.pad(fields, (reach,) * 4, mode="replicate")
    planes = planes.reshape(-1, 1, *planes.shape[2:])
    planes = functional.conv2d(planes, weights.view(1, 1, 1, -1))
    return functional.conv2d(planes, weights.view(1, 1, -1, 1)).view_as(fields)


def raft(path: Path, device: torch.device) -> FlowOf:
    """torchvision's raft_small or raft_large with weights of a safetensors file, whichever they fit.

    Pictures are enlarged to the 128 pixels that it needs and to multiples of 8, and the flow is scaled back.
    VidiffError for a file that holds neither. Source: Teed and Deng 2020.
    """
    from vidiff_cli.text.tokenizer import mend_torchvision

    mend_torchvision()
    from torchvision.models import optical_flow

    state = read_weights(path)
    stem = state.get("feature_encoder.convnormrelu.0.weight")
    small = stem is not None and len(stem) == 32
    build = optical_flow.raft_small if small else optical_flow.raft_large
    network = with_weights(lambda: build(weights=None), state, path, what="torchvision's raft_small or raft_large")
    network.to(device)

    @torch.no_grad()
    def flow_of(first: Tensor, second: Tensor) -> Tensor:
        size = first.shape[2:]
        enlarged = max(1.0, RAFT_SIDE / min(size))
        wanted = [-(-round(side * enlarged) // RAFT_MULTIPLE) * RAFT_MULTIPLE for side in size]
        large = [functional.interpolate(image, wanted, mode="bilinear") for image in (first, second)]
        parts = zip(*(image.split(RAFT_PAIRS) for image in large), strict=True)
        flow = torch.cat([network(one.contiguous(), two.contiguous())[-1] for one, two in parts])
        scale = flow.new_tensor([size[1] / wanted[1], size[0] / wanted[0]])
        return functional.interpolate(flow, size, mode="bilinear") * scale[None, :, None, None]

    return flow_of

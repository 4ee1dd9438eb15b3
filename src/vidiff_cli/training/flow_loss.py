"""Loss on the change of an estimate's error along the optical flow of the real clip.

A flow F (n 2 h w) of two images is in pixels, x before y: what is at p in the first is at p + F(p) in the second, x to
the right and y downwards, pixel centers at whole numbers. Shapes: n pairs or clips, c channels, t frames, h w pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidiff_cli.device import send
from vidiff_cli.models.optical_flow import FlowFn
from vidiff_cli.motion import forward_backward_mask


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


class ResidualFlow:
    """Flicker of an estimate's error along the motion of the real clip.

    With e = x_hat - x and F the flow of x from frame i to i + 1: the mean of M (e_i - e_{i+1}(p + F(p)))^2 over the
    pixels of the pairs of frames. It is zero at the truth, which the warped difference of x_hat itself is not: that one
    is smallest where nothing moves or all is blurred.
    """

    def __init__(self, flow: FlowFn) -> None:
        self._flow = flow

    def __call__(self, x_hat: Tensor, video: Tensor, made: Tensor) -> Tensor:
        """x_hat and video (n c t h w), made (n, t) on the host -> (n). Frames that are not made must be equal in
        both."""
        count = made[:, :-1] | made[:, 1:]
        if not bool(count.any()):  # single images
            return (x_hat - video).sum(dim=(1, 2, 3, 4)) * 0.0
        count = send(count, x_hat.device)
        first, second = (_images(part) for part in (video[:, :, :-1], video[:, :, 1:]))
        with torch.no_grad():
            forward, backward = self._flow(first, second)
            seen = forward_backward_mask(forward, backward)
        error = x_hat - video
        left, right = _images(error[:, :, :-1]), _images(error[:, :, 1:])
        pairs = (seen * (left - warp(right, forward)).square()).mean(dim=(1, 2, 3)).view(count.shape)
        return (pairs * count).sum(dim=1) / count.sum(dim=1).clamp(min=1)


def _images(video: Tensor) -> Tensor:
    return video.transpose(1, 2).flatten(0, 1)

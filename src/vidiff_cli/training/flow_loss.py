"""The loss that asks the error of an estimate to move with the picture, by measured optical flow or RAFT's.

A flow F (n 2 h w) of two images is in pixels, x before y: what is at p in the first is at p + F(p) in the second, x to
the right and y downwards, pixel centers at whole numbers. Shapes: n pairs or clips, c channels, t frames, h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from vidiff_cli.models.pretrained import read_weights, with_weights
from vidiff_cli.motion import forward_backward_mask

FlowOf = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(first, second: n c h w in [-1, 1]) -> the flow from first to second and the one back, n 2 h w each."""

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
            forward, backward = self._flow_of(first, second)
            seen = forward_backward_mask(forward, backward)
        error = x_hat - video
        left, right = _images(error[:, :, :-1]), _images(error[:, :, 1:])
        pairs = (seen * (left - warp(right, forward)).square()).mean(dim=(1, 2, 3)).view(count.shape)
        return (pairs * count).sum(dim=1) / count.sum(dim=1).clamp(min=1)


def _images(video: Tensor) -> Tensor:
    return video.transpose(1, 2).flatten(0, 1)


def raft(path: Path, device: torch.device) -> FlowOf:
    """torchvision's raft_small or raft_large with weights of a safetensors file, whichever they fit.

    Pictures are enlarged to the 128 pixels that it needs and to multiples of 8, and the flow is scaled back.
    VidiffError for a file that holds neither. Source: Teed and Deng 2020.
    """
    from vidiff_cli.text.tokenizer import patch_torchvision_nms

    patch_torchvision_nms()
    from torchvision.models import optical_flow

    state = read_weights(path)
    stem = state.get("feature_encoder.convnormrelu.0.weight")
    small = stem is not None and len(stem) == 32
    build = optical_flow.raft_small if small else optical_flow.raft_large
    network = with_weights(lambda: build(weights=None), state, path, what="torchvision's raft_small or raft_large")
    network.to(device)

    @torch.no_grad()
    def one_way(first: Tensor, second: Tensor) -> Tensor:
        size = first.shape[2:]
        enlarged = max(1.0, RAFT_SIDE / min(size))
        wanted = [-(-round(side * enlarged) // RAFT_MULTIPLE) * RAFT_MULTIPLE for side in size]
        large = [functional.interpolate(image, wanted, mode="bilinear") for image in (first, second)]
        parts = zip(*(image.split(RAFT_PAIRS) for image in large), strict=True)
        flow = torch.cat([network(one.contiguous(), two.contiguous())[-1] for one, two in parts])
        scale = flow.new_tensor([size[1] / wanted[1], size[0] / wanted[0]])
        return functional.interpolate(flow, size, mode="bilinear") * scale[None, :, None, None]

    return lambda first, second: (one_way(first, second), one_way(second, first))

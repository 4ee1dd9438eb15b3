"""Optical flow by dense inverse search: small patches of one frame are located in the other.

Coarse to fine, in overlapping patches; each descends from the coarser level's flow and from its neighbors' results.
Source: Kroeger et al. 2016 (dense inverse search, without its variational refinement, which gained nothing here); the
proposals of neighbors are those of Barnes et al. 2009 (PatchMatch).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vidiff_cli.luma import LUMA
from vidiff_cli.motion.warping import field_size, numbers, pyramid, resize, resize_flow
from vidiff_cli.pixels import LEVELS_PER_UNIT

SHORT_SIDE = 160  # pixels, at which motion is found: larger frames are reduced to it
SMALLEST_SIDE = 8  # of the coarsest level
PATCH, STRIDE = 8, 4
DESCENTS = 3  # Gauss-Newton steps of each patch and level
ROUNDS, FURTHER_DESCENTS = 2, 2  # of asking the neighbors, and steps after each
FLAT = 64.0  # squared gradients of a patch (8-bit levels) that say nothing of its motion
NEIGHBORS = ((1, 0), (1, 2), (0, 1), (2, 1))  # places in a padded field, from (1, 1)


def optical_flow(first: Tensor, second: Tensor, *, short_side: int = SHORT_SIDE) -> tuple[Tensor, Tensor]:
    """Flow of each pair of frames (b c h w), forward and backward: (b 2 h' w'), (b 2 h' w').

    h' w' have a short side of `short_side`, or are h w if the frames are smaller. Computed in float32 at least; without
    gradient.
    """
    with torch.no_grad(), torch.autocast(first.device.type, enabled=False):
        size = flow_size(first.shape[2], first.shape[3], short_side)
        grays = [_gray(frames, size) for frames in (first, second)]
        flows = _pyramid_search(torch.cat(grays), torch.cat(grays[::-1]))
        forward, backward = flows.chunk(2)
    return forward, backward


def full_size_flow(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """`optical_flow` of each pair of frames (b c h w) and back, in pixels of the frames: (b 2 h w), (b 2 h w)."""
    forward, backward = (resize_flow(flow, field_size(first)) for flow in optical_flow(first, second))
    return forward, backward


def flow_size(height: int, width: int, short_side: int = SHORT_SIDE) -> tuple[int, int]:
    """(h', w') for frames of h w pixels."""
    scale = min(1.0, short_side / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _gray(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Luma (b 1 h' w') in 8-bit levels; the mean of channels that are not RGB."""
    channels = frames.shape[1]
    shares = LUMA if channels == 3 else (1 / channels,) * channels
    frames = frames if frames.dtype in (torch.float32, torch.float64) else frames.float()
    small = resize(frames, size)
    gray = (small * numbers(shares, small)[:, None, None]).sum(1, keepdim=True)
    return (gray + 1) * LEVELS_PER_UNIT


def _pyramid_search(first: Tensor, second: Tensor) -> Tensor:
    levels = pyramid(first, second, smallest=SMALLEST_SIDE)
    flow = first.new_zeros(len(first), 2, *levels[-1][0].shape[2:])
    for one, two in reversed(levels):
        flow = _search(resize_flow(flow, field_size(one)), one, two)
    return flow


def _gradients(image: Tensor) -> tuple[Tensor, Tensor]:
    padded = functional.pad(image, (1, 1, 1, 1), mode="replicate")
    return (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2, (
        padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    ) / 2


def _search(flow: Tensor, one: Tensor, two: Tensor) -> Tensor:
    """Locates patches of `one` in `two` near the given flow; returns their weighted mean as the new flow."""
    b, _, height, width = one.shape
    half = PATCH // 2
    rows, columns = -(-height // STRIDE) + 1, -(-width // STRIDE) + 1
    pad = (half, (columns - 1) * STRIDE + half - width, half, (rows - 1) * STRIDE + half - height)
    padded_size = (height + pad[2] + pad[3], width + pad[0] + pad[1])

    def patches(x: Tensor) -> Tensor:
        return functional.unfold(functional.pad(x, pad, mode="replicate"), PATCH, stride=STRIDE)

    template = patches(one)
    template = template - template.mean(1, keepdim=True)
    gx, gy = (each - each.mean(1, keepdim=True) for each in map(patches, _gradients(one)))
    xx, xy, yy = ((p * q).sum(1) for p, q in ((gx, gx), (gx, gy), (gy, gy)))
    texture = xx + yy
    damping = 0.001 * texture + 0.1 * PATCH * PATCH
    xx, yy = xx + damping, yy + damping
    determinant = xx * yy - xy * xy
    axis = {"dtype": one.dtype, "device": one.device}
    cx, cy = (torch.arange(count, **axis) * STRIDE - 0.5 for count in (columns, rows))
    center = torch.stack([cx.expand(rows, columns), cy[:, None].expand(rows, columns)]).view(1, 2, -1)
    off = torch.arange(PATCH, **axis) - half + 0.5
    offset = torch.stack([off.expand(PATCH, PATCH), off[:, None].expand(PATCH, PATCH)]).reshape(1, 2, PATCH * PATCH, 1)
    scale = numbers([2 / max(width - 1, 1), 2 / max(height - 1, 1)], one).view(1, 2, 1, 1)
    at_centers = (center * scale[..., 0] - 1).permute(0, 2, 1)[:, None].expand(b, -1, -1, -1)
    start = functional.grid_sample(flow, at_centers, padding_mode="border", align_corners=True)[:, :, 0]
    base = (center[:, :, None] + offset) * scale - 1

    def difference(u: Tensor) -> Tensor:
        places = (base + u[:, :, None] * scale).permute(0, 2, 3, 1)
        found = functional.grid_sample(two, places, padding_mode="border", align_corners=True)[:, 0]
        return found - found.mean(1, keepdim=True) - template

    def descend(u: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """The best displacement of a descent from u (b 2 n), and its squared error (b n)."""
        r = difference(u)
        best, error = u, r.square().sum(1)
        for _ in range(steps):
            bx, by = (gx * r).sum(1), (gy * r).sum(1)
            u = u - torch.stack([yy * bx - xy * by, xx * by - xy * bx], 1) / determinant[:, None]
            u = start + (u - start).clamp(-PATCH, PATCH)
            r = difference(u)
            best, error = _better(best, error, u, r.square().sum(1))
        return best, error

    best, error = descend(start, DESCENTS)
    for _ in range(ROUNDS):
        field = functional.pad(best.view(b, 2, rows, columns), (1, 1, 1, 1), mode="replicate")
        for y, x in NEIGHBORS:
            other = field[:, :, y : y + rows, x : x + columns].reshape(b, 2, -1)
            best, error = _better(best, error, other, difference(other).square().sum(1))
        best, error = descend(best, FURTHER_DESCENTS)
    weight = 1 / difference(best).abs().clamp(min=1.0)
    weight = weight * (texture + 2 * damping + FLAT)[:, None].sqrt()  # where all is flat the neighbors know better
    votes = torch.cat([weight, weight * best[:, :1], weight * best[:, 1:]], 1)
    votes = functional.fold(votes, padded_size, PATCH, stride=STRIDE)
    votes = votes[:, :, pad[2] : pad[2] + height, pad[0] : pad[0] + width]
    return votes[:, 1:] / votes[:, :1]


def _better(best: Tensor, error: Tensor, other: Tensor, its_error: Tensor) -> tuple[Tensor, Tensor]:
    better = its_error < error
    return torch.where(better[:, None], other, best), torch.where(better, its_error, error)

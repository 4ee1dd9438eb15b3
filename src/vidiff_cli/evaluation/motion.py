"""The motion of one video by optical flow, for the measures over time."""

from __future__ import annotations

import numpy as np
import torch

from vidiff_cli.metrics.temporal import ClipMotion, make_motion
from vidiff_cli.motion import forward_backward_mask, optical_flow
from vidiff_cli.motion.warping import resize, resize_flow
from vidiff_cli.pixels import from_uint8_fast

METHOD = "dense inverse search"
PAIRS = 16  # of frames at a time


@torch.no_grad()
def motion(frames: np.ndarray, device: torch.device) -> ClipMotion:
    """The flow between neighboring frames, uint8 (t h w c), and where it can be trusted: forth and back agree."""
    height, width = frames.shape[1:3]
    flows, masks = [], []
    for first in range(0, len(frames) - 1, PAIRS):
        some = torch.from_numpy(np.ascontiguousarray(frames[first : first + PAIRS + 1])).to(device)
        images = from_uint8_fast(some.permute(0, 3, 1, 2))
        forward, backward = optical_flow(images[:-1], images[1:])
        seen = resize(forward_backward_mask(forward, backward), (height, width))  # found where the flow is
        flows.append(resize_flow(forward, (height, width)).cpu().numpy())
        masks.append(seen[:, 0].cpu().numpy() > 0.5)
    if not flows:
        return make_motion(np.zeros((0, 2, height, width)), np.zeros((0, height, width)))
    return make_motion(np.concatenate(flows), np.concatenate(masks))

"""RAFT of torchvision as a flow function, with weights from a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from vidiff_cli.models.pretrained import read_weights, with_weights
from vidiff_cli.motion.warping import numbers
from vidiff_cli.text.patch_torchvision import patch_torchvision_nms

FlowFn = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(first, second: n c h w in [-1, 1]) -> the flow from first to second and the one back, n 2 h w each."""

SMALLEST_SIDE, MULTIPLE = 128, 8  # pixels that the correlation pyramid of RAFT needs
PAIRS_AT_ONCE = 16  # RAFT's correlations grow with the fourth power of the side


def raft(path: Path, device: torch.device) -> FlowFn:
    """torchvision's raft_small or raft_large, whichever the weights of a safetensors file fit.

    Images are enlarged to the 128 pixels that it needs and to multiples of 8, and the flow is scaled back.
    VidiffError for a file that holds neither. Source: Teed and Deng 2020.
    """
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
        scale = max(1.0, SMALLEST_SIDE / min(size))
        large_size = [-(-round(side * scale) // MULTIPLE) * MULTIPLE for side in size]
        large = [functional.interpolate(image, large_size, mode="bilinear") for image in (first, second)]
        large = [image.expand(-1, 3, -1, -1) for image in large]  # of luma too
        parts = zip(*(image.split(PAIRS_AT_ONCE) for image in large), strict=True)
        flow = torch.cat([network(one.contiguous(), two.contiguous())[-1] for one, two in parts])
        back = numbers([size[1] / large_size[1], size[0] / large_size[0]], flow)
        return functional.interpolate(flow, size, mode="bilinear") * back[None, :, None, None]

    return lambda first, second: (one_way(first, second), one_way(second, first))

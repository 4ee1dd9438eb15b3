"""A batch of four clips of four 4x4 frames, with captions of the model that `make_video_model` makes."""

import torch
from torch import Tensor

from vidiff_cli.training.loader import Batch

B, T = 4, 4
CAPTIONS = ("a red square", "a blue circle", "", "green")


def tiny_batch(observed: Tensor, u: Tensor) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        video=torch.rand(B, 3, T, 4, 4, generator=generator) * 2 - 1,
        noise=torch.randn(B, 3, T, 4, 4, generator=generator),
        u=u[:, None].expand(B, T) if u.ndim == 1 else u,
        times=(torch.arange(T) / 8).expand(B, T).contiguous(),
        observed=observed,
        dropped=torch.tensor([False, True, False, True]),
        captions=CAPTIONS,
    )

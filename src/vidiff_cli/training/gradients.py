"""The norm of a gradient, and its limit: a few launches on a GPU for all tensors, and no wait for their numbers."""

# torch._foreach_...: one launch on a GPU for a list of tensors
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vidiff_cli.models.sharding import is_shard, local


@torch.no_grad()
def clip_gradients(gradients: Sequence[Tensor], max_norm: float) -> Tensor:
    """Scales gradients down to a norm, if theirs is larger; returns the norm before it, over all ranks, on the device.

    As `torch.nn.utils.clip_grad_norm_`, whose several launches become single ones on CUDA alone.
    """
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients))))
    norm = norm.full_tensor() if is_shard(norm) else norm
    factor = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
    torch._foreach_mul_([local(gradient) for gradient in gradients], factor)
    return norm

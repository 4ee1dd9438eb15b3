"""Parameters, floating point operations and bytes of one clip's training step, computed without memory for it.

The network goes through one pass on torch's meta device, where tensors have shapes and no memory, so that the cost of
any network can be computed on any machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.models.acceleration import recompute_stages
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.meta import meta_device
from vidiff_cli.models.unet3d import Stage
from vidiff_cli.models.video_model import VideoNetwork

HALF_SHARE = 0.6  # of float32's bytes for activations kept under autocast: norms and softmax stay in float32


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipCost:
    """One training step of one clip: `flops`; bytes of the activations kept for the backward pass (`kept`), and at most
    of one stage that is computed again (`recomputed`; 0 without activation checkpointing), of float32 for a network of
    vidiff's own; of weights that are not trained (`frozen`)."""

    parameters: int
    flops: float
    kept_bytes: int
    recomputed_bytes: int
    frozen_bytes: int = 0


def clip_cost(model: ModelSettings, *, recompute: bool) -> ClipCost:
    """The cost of one clip, with activation checkpointing of the stages where `recompute`."""
    return _clip_cost(model.model_dump_json(), recompute)


def kept_bytes(model: ModelSettings, *, half: bool) -> int:
    """Bytes of the activations that a forward pass of one clip keeps for its gradient."""
    return int(clip_cost(model, recompute=False).kept_bytes * (HALF_SHARE if half else 1.0))


@lru_cache(maxsize=32)
def _clip_cost(model_json: str, recompute: bool) -> ClipCost:
    model = ModelSettings.model_validate_json(model_json)
    with meta_device():
        video_model = VideoNetwork(model)
        parameters = sum(value.numel() for value in video_model.parameters())
        z, level, conditioning = _meta_inputs(model)

        def forward() -> Tensor:
            return video_model.denoiser.predict(z, level, conditioning)

        kept, flops = measure_kept(forward, video_model)
        if not recompute:
            return ClipCost(parameters=parameters, flops=3 * flops, kept_bytes=kept, recomputed_bytes=0)
        network = video_model.denoiser.network
        recompute_stages(network)
        stage_inputs, _ = measure_kept(forward, video_model)
    stages = sum(isinstance(module, Stage) for module in network.modules())
    return ClipCost(
        parameters=parameters, flops=4 * flops, kept_bytes=stage_inputs, recomputed_bytes=2 * kept // stages
    )


def _meta_inputs(model: ModelSettings) -> tuple[Tensor, Tensor, Conditioning]:
    """z, level and conditioning of one clip with everything that the network can be conditioned on."""
    t, width = model.frames, model.network.context_dim
    z = torch.empty(1, model.network.channels, t, *model.z_size)
    conditioning = Conditioning(
        times=torch.empty(1, t),
        observed=torch.empty(1, t, dtype=torch.bool),
        seeds=torch.empty(1, dtype=torch.int64),
    )
    if width:
        length = model.text.max_tokens
        conditioning = replace(
            conditioning,
            tokens=torch.empty(1, length, width),
            token_mask=torch.empty(1, length, dtype=torch.bool),
            pooled=torch.empty(1, width),
        )
    if model.network.motion:
        observed = conditioning.observed
        conditioning = replace(conditioning, estimate=z, uncertainty=z[:, :1], estimated_from=observed)
    if model.network.any_size:
        around = torch.empty(1, 2 * model.network.channels + 1, *z.shape[2:])
        conditioning = replace(conditioning, around=around, augmentation=torch.empty(1))
    return z, torch.empty(1, t), conditioning


class _Fused(torch.autograd.Function):
    """Attention that keeps queries, keys, values and its result, as fused kernels do; without numbers, for counting."""

    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = query.new_empty(*query.shape[:-1], value.shape[-1])
        context.save_for_backward(query, key, value, result)
        return result


class _FusedAttention(TorchFunctionMode):
    """The meta device has no fused attention: its way keeps all scores, ten times what a GPU keeps."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (
            func is torch.nn.functional.scaled_dot_product_attention
            and (args or kwargs)[0 if args else "query"].is_meta
        ):
            given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
            query, key, value = (given[name] for name in ("query", "key", "value"))
            if query.requires_grad or key.requires_grad or value.requires_grad:
                torch.matmul(torch.matmul(query.detach(), key.detach().transpose(-1, -2)), value.detach())  # its FLOPs
                return _Fused.apply(query, key, value)
        return func(*args, **kwargs)


def measure_kept(forward: Callable[[], Tensor], network: nn.Module) -> tuple[int, float]:
    """Bytes that a forward pass keeps for the backward pass besides the network's weights, and its FLOPs."""
    weights, kept = {id(value) for value in network.parameters()}, dict[int, Tensor]()

    def keep(value: Tensor) -> Tensor:
        if id(value) not in weights:
            kept[value.untyped_storage()._cdata] = value
        return value

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value)
    with hooks, FlopCounterMode(display=False) as counter, _FusedAttention():
        result = forward()
    total = sum(value.untyped_storage().nbytes() for value in kept.values())
    del result
    return total, float(counter.get_total_flops())

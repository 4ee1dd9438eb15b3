"""What a training step will ask for, before it is made: parameters, floating point operations and bytes.

The network goes through one pass on torch's meta device, where tensors have shapes and no memory, so that any network
can be asked about on any machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.models.acceleration import recompute_stages
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.training.state import VideoModel

FLOAT = 4  # bytes
HALF = 0.6  # of float32's bytes for what is kept under autocast: norms and softmax stay in float32


@dataclass(frozen=True, kw_only=True, slots=True)
class CostEstimate:
    """Of one training step: `flops` of the whole batch; bytes of weights, gradients, averages and optimizer (`fixed`),
    and of what the forward pass keeps of the clips that go through the network at once (`kept`)."""

    parameters: int
    flops: float
    fixed_bytes: int
    kept_bytes: int

    @property
    def bytes(self) -> int:
        return self.fixed_bytes + self.kept_bytes


def estimate(settings: TrainSettings, model: ModelSettings, *, half: bool, world: int = 1) -> CostEstimate:
    """The step of `settings`, one of `world` processes; "auto" checkpointing counts as off."""
    recompute = settings.gradient_checkpointing == "on"
    parameters, flops, kept, largest = _one_clip(model.model_dump_json(), recompute)
    clips = -(-settings.batch_size // world)
    at_once = -(-clips // settings.grad_accum_steps)
    states = 1 if settings.optimizer.muon_lr else 2  # of the optimizer, in the size of a weight
    copies = 3 + len(settings.optimizer.ema_more) + states
    return CostEstimate(
        parameters=parameters,
        flops=flops * settings.batch_size,
        fixed_bytes=parameters * FLOAT * copies,
        kept_bytes=int(at_once * (kept + largest) * (HALF if half else 1.0)),
    )


def kept_bytes(model: ModelSettings, *, half: bool) -> int:
    """Of what a forward pass of one clip keeps for its gradient."""
    return int(_one_clip(model.model_dump_json(), False)[2] * (HALF if half else 1.0))


@lru_cache(maxsize=32)
def _one_clip(model_json: str, recompute: bool) -> tuple[int, float, int, int]:
    """Parameters; FLOPs of a training step of one clip; float32 bytes kept for its backward pass; of these, what one
    stage computes again at most."""
    model = ModelSettings.model_validate_json(model_json)
    with torch.device("meta"):
        video_model = VideoModel(model)
        network, t, width = video_model.denoiser.network, model.frames, model.network.context_dim
        z = torch.empty(1, model.network.channels, t, model.height, model.width)
        told = Conditioning(times=torch.empty(1, t), observed=torch.empty(1, t, dtype=torch.bool))
        if width:
            length = model.text.max_tokens
            told = replace(
                told,
                tokens=torch.empty(1, length, width),
                token_mask=torch.empty(1, length, dtype=torch.bool),
                pooled=torch.empty(1, width),
            )
        if model.network.motion:
            told = replace(told, estimate=z, uncertainty=z[:, :1], estimated_from=told.observed)
        weights = {id(value) for value in video_model.parameters()}
        plain, flops = _kept(lambda: video_model.denoiser.predict(z, torch.empty(1, t), told), weights)
        if not recompute:
            return _count(video_model), 3 * flops, plain, 0
        recompute_stages(network)
        little, _ = _kept(lambda: video_model.denoiser.predict(z, torch.empty(1, t), told), weights)
    stages = sum(type(part).__name__ == "Stage" for part in network.modules())
    return _count(video_model), 4 * flops, little, 2 * plain // stages


def _kept(forward: Callable[[], Tensor], weights: set[int]) -> tuple[int, float]:
    """Bytes that a forward pass keeps for the backward pass besides weights, and its FLOPs."""
    kept: dict[int, Tensor] = {}

    def keep(value: Tensor) -> Tensor:
        if id(value) not in weights:
            kept[value.untyped_storage()._cdata] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value), FlopCounterMode(display=False) as counter:
        result = forward()
    total = sum(value.untyped_storage().nbytes() for value in kept.values())
    del result
    return total, float(counter.get_total_flops())


def _count(video_model: VideoModel) -> int:
    return sum(value.numel() for value in video_model.parameters())

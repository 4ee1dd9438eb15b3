"""Cost of a training step of a run: parameters, floating point operations and bytes, computed before it is made."""

from __future__ import annotations

from dataclasses import dataclass

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.models.public.cost import public_clip_cost
from vidiff_cli.models.step_cost import HALF_SHARE, clip_cost
from vidiff_cli.training.ema import LENGTHS

FLOAT = 4  # bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class CostEstimate:
    """Cost of one training step: `flops` of the whole batch; bytes of trained weights, gradients, averages and
    optimizer (`fixed`), of weights that are not trained (`frozen`), and of the activations kept of the clips that go
    through the network at once (`kept`)."""

    parameters: int
    flops: float
    fixed_bytes: int
    frozen_bytes: int
    kept_bytes: int

    @property
    def bytes(self) -> int:
        return self.fixed_bytes + self.frozen_bytes + self.kept_bytes


def estimate(settings: TrainSettings, model: ModelSettings, *, half: bool, world: int = 1) -> CostEstimate:
    """The step of `settings` on one of `world` processes; "auto" checkpointing counts as off."""
    recompute, public = settings.gradient_checkpointing == "on", model.base is not None
    clip = public_clip_cost(model, half=half, recompute=recompute) if public else clip_cost(model, recompute=recompute)
    clips = -(-settings.batch_size // world)
    at_once = -(-clips // settings.grad_accum_steps)
    states = 1 if settings.optimizer.muon_lr else 2  # of the optimizer, in the size of a weight
    copies = 2 + len(LENGTHS) + states  # weights, gradients, averages
    return CostEstimate(
        parameters=clip.parameters,
        flops=clip.flops * settings.batch_size,
        fixed_bytes=clip.parameters * FLOAT * copies,
        frozen_bytes=clip.frozen_bytes,
        kept_bytes=int(
            at_once * (clip.kept_bytes + clip.recomputed_bytes) * (HALF_SHARE if half and not public else 1)
        ),
    )

"""Networks of public models as estimates x_hat of a level, whatever they predict.

Shapes: z b c m h w, level b m, states b l d (a prompt as its text encoder left it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vidiff_cli.diffusion.discrete import DiscreteSchedule, read_discrete
from vidiff_cli.diffusion.flow import FlowSpacing, flow_grid, flow_time, level_of_flow, to_flow
from vidiff_cli.diffusion.targets import PredictionType, x_from
from vidiff_cli.models.public.folder import SCHEDULERS_OF_FLOW, is_flow

Predict = Callable[[Any, Tensor, Tensor, Tensor], Tensor]
"""(network, z, timestep, states) -> prediction (b c m h w)."""

PREDICTIONS: dict[str, PredictionType] = {"epsilon": "eps", "v_prediction": "v", "sample": "x"}
FLOW_SPACINGS: dict[str, FlowSpacing] = {
    "UniPCMultistepScheduler": "unipc",
    "DPMSolverMultistepScheduler": "dpmsolver",
}
REPEATED = frozenset(
    {"resnets", "attentions", "temp_convs", "temp_attentions", "motion_modules", "blocks", "transformer_blocks"}
)  # names of a network's lists of layers


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """The noise process of a scheduler_config.json: discrete betas with a kind of prediction, or flow matching.

    `schedule` is None for flow; `shift` is that of the path, `spacing` of its grid. Timesteps stay float: half
    precision cannot hold them.
    """

    schedule: DiscreteSchedule | None
    kind: PredictionType
    shift: float
    timesteps: int
    spacing: FlowSpacing = "euler"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Process:
        """The process of a scheduler's configuration. ValueError for a schedule that is not known."""
        count = int(config.get("num_train_timesteps", 1000))
        if is_flow(config):
            name = "shift" if config.get("_class_name") in SCHEDULERS_OF_FLOW else "flow_shift"
            shift = float(config.get(name) or 1.0)
            spacing = FLOW_SPACINGS.get(str(config.get("_class_name")), "euler")
            return cls(schedule=None, kind="flow", shift=shift, timesteps=count, spacing=spacing)
        kind = PREDICTIONS[str(config.get("prediction_type", "epsilon"))]
        return cls(schedule=read_discrete(config), kind=kind, shift=1.0, timesteps=count)

    def grid(self, steps: int) -> Tensor:
        """Sampling levels (steps + 1) from noise to clean: the model's own."""
        if self.schedule is not None:
            return self.schedule.grid(steps)
        return flow_grid(steps, shift=self.shift, timesteps=self.timesteps, spacing=self.spacing)

    def level_at(self, u: float) -> float:
        """The level at a place of the schedule, from 0 (clean) to 1 (noise)."""
        place = torch.tensor([u], dtype=torch.float64)
        if self.schedule is not None:
            return float(self.schedule.level(place * (len(self.schedule.levels) - 1)))
        return float(level_of_flow(self.shift * place / (1 + (self.shift - 1) * place)))

    def timestep(self, level: Tensor) -> Tensor:
        """The timestep that the network is told at a level, float32. Shapes: any -> the same."""
        if self.schedule is not None:
            return self.schedule.timestep(level).float()
        return (flow_time(level) * self.timesteps).float()

    def training_levels(self, u: Tensor) -> Tensor:
        """Levels (float64) of the model's own timesteps, evenly many for u in [0, 1). Shapes: any -> the same."""
        index = (u.double() * self.timesteps).long().clamp(0, self.timesteps - 1)
        if self.schedule is not None:
            return self.schedule.levels.to(u.device)[index]
        place = (index + 1).double() / self.timesteps
        return level_of_flow(self.shift * place / (1 + (self.shift - 1) * place))

    def predict(
        self, network: Callable[[Tensor, Tensor], Tensor], z: Tensor, level: Tensor, *, by_frame: bool
    ) -> Tensor:
        """The prediction (`kind`) of `network(z, timestep)`, which sees z in its own coordinates.

        Raises ValueError for levels that differ over the values of a clip, unless the network takes them `by_frame`.
        """
        if not by_frame and bool((level != level[:, :1]).any()):
            raise ValueError("this network takes one level for all frames of a clip")
        timestep = self.timestep(level if by_frame else level[:, 0])
        return network(to_flow(z, level) if self.schedule is None else z, timestep)

    def denoise(
        self, network: Callable[[Tensor, Tensor], Tensor], z: Tensor, level: Tensor, *, by_frame: bool
    ) -> Tensor:
        """x_hat of z, in the dtype of z; arguments and errors as `predict`."""
        return x_from(self.kind, self.predict(network, z, level, by_frame=by_frame), z, level)


def _unet3d(network: Any, z: Tensor, timestep: Tensor, states: Tensor) -> Tensor:
    return network(z, timestep, encoder_hidden_states=states).sample


def _motion(network: Any, z: Tensor, timestep: Tensor, states: Tensor) -> Tensor:
    by_frame = states.repeat_interleave(z.shape[2], dim=0)
    return network(z, timestep, encoder_hidden_states=by_frame).sample


def _wan(network: Any, z: Tensor, timestep: Tensor, states: Tensor) -> Tensor:
    return network(hidden_states=z, timestep=timestep, encoder_hidden_states=states, return_dict=False)[0]


def _skyreels(network: Any, z: Tensor, timestep: Tensor, states: Tensor) -> Tensor:
    return network(
        hidden_states=z,
        timestep=timestep,
        encoder_hidden_states=states,
        enable_diffusion_forcing=True,
        fps=torch.ones(len(z), dtype=torch.long, device=z.device) if network.config.inject_sample_info else None,
        return_dict=False,
    )[0]


def _cogvideox(network: Any, z: Tensor, timestep: Tensor, states: Tensor) -> Tensor:
    by_frame = z.transpose(1, 2)
    predicted = network(hidden_states=by_frame, timestep=timestep, encoder_hidden_states=states, return_dict=False)[0]
    return predicted.transpose(1, 2)


PREDICT: dict[str, Predict] = {
    "UNet3DConditionModel": _unet3d,
    "UNetMotionModel": _motion,
    "WanTransformer3DModel": _wan,
    "SkyReelsV2Transformer3DModel": _skyreels,
    "CogVideoXTransformer3DModel": _cogvideox,
}


def recompute_layers(network: nn.Module) -> int:
    """Gradient checkpointing of every layer of every block: each keeps its input alone. Returns the layers wrapped.

    The libraries have none for UNet3DConditionModel and only part of UNetMotionModel. Same gradient, bit for bit.
    Source: Chen et al. 2016.
    """
    layers = [layer for name, module in network.named_modules() if _is_layer_list(name, module) for layer in module]  # type: ignore[attr-defined]
    inner = {child for layer in layers for child in layer.modules() if child is not layer}
    outer = [layer for layer in layers if layer not in inner]
    for layer in outer:
        once = partial(type(layer).forward, layer)
        layer.forward = partial(checkpoint, once, use_reentrant=False, preserve_rng_state=False)  # type: ignore[method-assign]
    return len(outer)


def _is_layer_list(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList) and name.rpartition(".")[2] in REPEATED

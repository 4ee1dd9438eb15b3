"""The exponential moving averages of weights: one that sampling uses, and others beside it where they are asked for."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vidiff_cli.models.sharding import local


class Ema:
    """Averages of all parameters and buffers of a module; a decay warms up as min(decay, (1 + n) / (10 + n)) over n
    updates.

    `shadow` has those of the decay, `more` those of other decays. Of a module in shards (FSDP2), these are shards too.
    """

    def __init__(self, module: nn.Module, decay: float, more: Iterable[float] = ()) -> None:
        self.decay, self.updates = decay, 0
        self.shadow = _copy(module)
        self.more: dict[float, dict[str, Tensor]] = {each: _copy(module) for each in more}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Moves the averages towards the module's present values."""
        self.updates += 1
        reached = (1 + self.updates) / (10 + self.updates)
        present = {name: local(value) for name, value in module.state_dict().items()}
        for decay, averages in ((self.decay, self.shadow), *self.more.items()):
            share = 1 - min(decay, reached)
            for name, average in averages.items():
                if average.is_floating_point():
                    local(average).lerp_(present[name], share)
                else:
                    local(average).copy_(present[name])


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}

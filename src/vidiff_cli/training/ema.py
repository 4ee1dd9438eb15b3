"""The exponential moving average of weights, which is what sampling uses."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Ema:
    """Averages of all parameters and buffers of a module; the decay warms up as min(decay, (1 + n) / (10 + n)) over n
    updates."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.shadow: dict[str, Tensor] = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Moves the averages towards the module's present values."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        present = module.state_dict()
        for name, average in self.shadow.items():
            if average.is_floating_point():
                average.lerp_(present[name], 1 - decay)
            else:
                average.copy_(present[name])

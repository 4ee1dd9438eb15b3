"""The weights of a public network that fine-tuning trains: low-rank adapters, or its temporal layers as they are.

Sources: Hu et al. 2021 (LoRA); Blattmann et al. 2023 (training the temporal layers alone).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vidiff_cli.config.model import BaseModelSettings
from vidiff_cli.diffusion.noise import seeded
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.public.packages import import_package

# names of the modules between the frames, of UNet3DConditionModel and UNetMotionModel
TEMPORAL = frozenset({"temp_convs", "temp_attentions", "transformer_in", "motion_modules"})


def prepare_training(network: nn.Module, base: BaseModelSettings, seed: int) -> dict[str, nn.Parameter]:
    """Freezes a network but for the weights that `base` says are trained, in float32; returns these by name.

    Adapters are added in place; the first values of their weights follow from the seed, and leave every
    prediction as it is. VidiffError for a network without temporal layers, where these alone are asked for.
    """
    network.requires_grad_(False)
    if base.rank:
        _add_adapters(network, base, seed)
        names = [name for name, _ in network.named_parameters() if ".lora_" in name]
    else:
        names = [name for name, _ in network.named_parameters() if is_temporal(name)]
    if not names:
        _refuse_temporal(base)
    parameters = dict(network.named_parameters())
    chosen = {name: parameters[name] for name in names}
    for value in chosen.values():
        value.data = value.data.float()  # an update is too small for half precision
        value.requires_grad_()
    return chosen


def is_temporal(name: str) -> bool:
    """True for a module or weight of the layers between the frames."""
    return not TEMPORAL.isdisjoint(name.split("."))


def _add_adapters(network: nn.Module, base: BaseModelSettings, seed: int) -> None:
    ends = tuple(f".{target}" for target in base.targets)
    chosen = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and f".{name}".endswith(ends) and (base.layers == "all" or is_temporal(name))
    ]
    if not chosen:
        if base.layers == "temporal":
            _refuse_temporal(base)
        raise VidiffError(
            f"{base.family} models have no layers to adapt", found=", ".join(base.targets), expected="ends of names"
        )
    peft: Any = import_package("peft")
    config = peft.LoraConfig(r=base.rank, lora_alpha=base.alpha * base.rank, target_modules=chosen)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(seed).initial_seed())
        peft.inject_adapter_in_model(config, network)


def _refuse_temporal(base: BaseModelSettings) -> None:
    raise VidiffError(
        f"{base.family} models have no temporal layers of their own",
        expected="a 3D U-Net, ModelScope or AnimateDiff",
        fix="leave out --train temporal: --lora adapts all layers",
    )


class WithWeights:
    """A network whose trained weights are given: it is called as the network is, and leaves its own as they are."""

    def __init__(self, network: Any, weights: Mapping[str, Tensor]) -> None:
        self.network, self._weights = network, dict(weights)

    @property
    def config(self) -> Any:
        """The network's configuration."""
        return self.network.config

    @property
    def dtype(self) -> torch.dtype:
        """The number format of its frozen weights."""
        return next(value.dtype for value in self.network.parameters() if not value.requires_grad)

    def to(self, dtype: torch.dtype) -> WithWeights:
        """The same with its weights in a number format."""
        return WithWeights(self.network, {name: value.to(dtype) for name, value in self._weights.items()})

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        return functional_call(self.network, self._weights, inputs, named)


def as_tree(weights: Mapping[str, nn.Parameter]) -> nn.Module:
    """A module that holds weights under their dotted names, and does nothing else."""
    root = nn.Module()
    for name, value in weights.items():
        node = root
        *above, last = name.split(".")
        for part in above:
            if part not in node._modules:
                node.add_module(part, nn.Module())
            node = node.get_submodule(part)
        node.register_parameter(last, value)
    return root

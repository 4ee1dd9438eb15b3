"""What is put around a network from outside to trade time for memory, or a minute of compiling for faster steps.

Neither changes the names of weights: checkpoints are the same with and without.
"""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from vidiff_cli.models.unet3d import Stage, UNet3D


def recompute_stages(network: nn.Module) -> None:
    """Gradient checkpointing: every stage keeps its input alone, and computes the rest again in the backward pass.

    The gradient is the same. Source: Chen et al. 2016.
    """
    for stage in network.modules():
        if isinstance(stage, Stage):
            drops = any(isinstance(each, nn.Dropout) and each.p > 0 for each in stage.modules())
            again = partial(checkpoint, stage.forward, use_reentrant=False, preserve_rng_state=drops)
            stage.forward = again  # type: ignore[method-assign]


def compile_network(network: UNet3D) -> None:
    """torch.compile, in place. The first pass of every shape takes a minute or more."""
    network.compile()

"""Activation checkpointing and torch.compile, applied to a network from outside.

Neither changes the names of weights: checkpoints are the same with and without.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from vidiff_cli.models.unet3d import Stage, UNet3D


def recompute_stages(network: nn.Module) -> None:
    """Gradient checkpointing: every stage keeps its input alone, and computes the rest again in the backward pass.

    The gradient is the same; no global generator is asked, for dropout's noise follows from the clips' seeds. Source:
    Chen et al. 2016.
    """
    for stage in network.modules():
        if isinstance(stage, Stage):
            once = partial(type(stage).forward, stage)  # not stage.forward: asked twice, it would be wrapped twice
            again = partial(checkpoint, once, use_reentrant=False, preserve_rng_state=False)
            stage.forward = again  # type: ignore[method-assign]


def compile_network(network: UNet3D, *, backend: str | Callable[..., Any] = "inductor") -> None:
    """torch.compile, in place, with one of its backends. The first pass of every shape takes a minute or more."""
    network.compile(backend=backend)


def compile_failure(error: BaseException) -> str | None:
    """The message of a torch.compile failure in one line; None for any other error."""
    of = type(error).__module__
    return " ".join(str(error).split())[:200] if of.startswith(("torch._dynamo", "torch._inductor")) else None

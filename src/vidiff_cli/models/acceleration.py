"""Activation checkpointing and torch.compile, applied to a network from outside.

Neither changes the names of weights: checkpoints are the same with and without.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vidiff_cli.models.unet3d import Stage, UNet3D

WORTH_PASSES = 2000  # about a minute of a small network's (not measured)
MOST_SHAPES = 32  # of a network's inputs that are compiled: torch gives up after 8


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


CompileChoice = Literal["auto", "on", "off"]
CompileMode = Literal["default", "reduce-overhead"]
"""torch.compile's mode: `reduce-overhead` records CUDA graphs, which one launch replays."""


def compile_mode(
    choice: CompileChoice, device_type: str, *, works: bool, small: bool, static: bool
) -> CompileMode | None:
    """The mode of a `--compile` choice; None: not compiled.

    Args:
        choice: auto, on or off.
        device_type: cpu, cuda or mps.
        works: A trial has compiled there.
        small: The launches of kernels take longer than the kernels.
        static: Every pass has the same few shapes, and its gradients are used before the next one.

    Returns:
        The mode. `auto` compiles on CUDA alone, where it works.
    """
    if choice == "off" or (choice == "auto" and (device_type != "cuda" or not works)):
        return None
    return "reduce-overhead" if device_type == "cuda" and small and static else "default"


def compile_network(
    network: UNet3D, *, mode: CompileMode = "default", backend: str | Callable[..., Any] = "inductor"
) -> None:
    """torch.compile, in place, in one of its modes or with one of its backends. The first pass of every shape takes a
    minute or more. Another network of the same settings uses what was compiled for this one."""
    keep_kernels()
    from torch._dynamo import config  # slow

    config.recompile_limit = MOST_SHAPES
    network.compile(backend=backend, **({} if mode == "default" else {"mode": mode}))


class LaterCompilation:
    """Compilation of a network that generates: `on` before its first pass; `auto` on CUDA, once all its passes are so
    many that a minute of compiling is little beside them."""

    def __init__(self, choice: CompileChoice) -> None:
        self.choice: CompileChoice = choice
        self.passes = 0

    def before(self, passes: int, network: UNet3D, device: torch.device) -> bool:
        """Counts passes that are about to be made; True where the network was compiled for them."""
        self.passes += passes
        if is_compiled(network) or (self.choice == "auto" and self.passes < WORTH_PASSES):
            return False
        works = self.choice == "auto" and device.type == "cuda" and compile_problem(device) is None
        if compile_mode(self.choice, device.type, works=works, small=False, static=False) is None:
            return False
        compile_network(network)
        return True


def is_compiled(module: nn.Module) -> bool:
    """True for a module with a network that `compile_network` was given."""
    return any(part._compiled_call_impl is not None for part in module.modules())


def keep_kernels() -> None:
    """Lets torch keep compiled kernels where the next process finds them: in TORCHINDUCTOR_CACHE_DIR where that is set,
    else in ~/.cache. torch's own default is a temporary folder."""
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidiff" / "kernels"
        with contextlib.suppress(OSError):  # then in torch's own place
            folder.mkdir(parents=True, exist_ok=True)
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


@cache
def compile_problem(device: torch.device) -> str | None:
    """Compiles one operation on a device: None where that works, else the message in one line."""
    keep_kernels()
    try:
        torch.compile(_double, dynamic=False)(torch.ones(8, device=device))
    except Exception as error:  # of the compiler, the driver, the linker: it works or it does not
        return " ".join(str(error).split())[:200] or type(error).__name__
    return None


def _double(x: Tensor) -> Tensor:
    return 2 * x


def compile_failure(error: BaseException) -> str | None:
    """The message of a torch.compile failure in one line; None for any other error."""
    of = type(error).__module__
    return " ".join(str(error).split())[:200] if of.startswith(("torch._dynamo", "torch._inductor")) else None

"""Choice of how the network of a training is compiled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.events import Note
from vidiff_cli.models.acceleration import CompileMode, compile_mode, compile_problem
from vidiff_cli.models.step_cost import clip_cost

LAUNCH_BOUND = 32_000_000  # parameters: of smaller networks a GPU waits for the launches (not measured)


@dataclass(frozen=True, kw_only=True, slots=True)
class Compilation:
    """`mode` in which a network is compiled, None for not at all; the `problem` for which `auto` leaves it on CUDA."""

    mode: CompileMode | None
    problem: str | None = None

    def notes(self) -> Iterator[Note]:
        """A warning about the problem."""
        if self.problem is not None:
            text = f"torch.compile does not work here, and the network is slower without it: {self.problem}"
            yield Note(text, "warning")


def choose_compilation(
    settings: TrainSettings, model: ModelSettings, device: torch.device, *, world: int = 1
) -> Compilation:
    """Chooses how the network is compiled; `auto` tries the compiler on CUDA. Public models are not compiled."""
    if model.base is not None or settings.compile == "off":
        return Compilation(mode=None)
    on_cuda, sharded = device.type == "cuda", settings.parallel == "fsdp" and world > 1
    if sharded and settings.compile == "auto":  # its hooks would cut the graph at every stage
        return Compilation(mode=None)
    problem = compile_problem(device) if on_cuda and settings.compile == "auto" else None
    mode = compile_mode(
        settings.compile,
        device.type,
        works=problem is None,
        small=on_cuda and clip_cost(model, recompute=False).parameters < LAUNCH_BOUND,
        static=world == 1 and settings.grad_accum_steps == 1 and settings.gradient_checkpointing != "on",
    )
    return Compilation(mode=mode, problem=problem)

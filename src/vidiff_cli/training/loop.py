"""The training loop: a generator of step reports. The caller owns printing, saving, sampling and stopping.

Schedule: a warm-up, a constant trunk, and a decay branch at the end, which is what is sampled from. Going on with more
steps continues the trunk, so that the result does not depend on where one stopped. Source: Hu et al. 2024
(warmup-stable-decay).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

import torch

from vidiff_cli.config.train import OptimiserSettings, TrainSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.training.batches import Batch, Source, Wanted, draw_batches
from vidiff_cli.training.objective import diffusion_loss
from vidiff_cli.training.state import TrainState

STUCK_AFTER = 200  # steps in a row at the clip value before it is called stuck


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """`steps` updates: `trunk` of them at a constant rate after the warm-up, the rest in the decay branch."""

    steps: int
    trunk: int
    warmup: int

    @classmethod
    def of(cls, steps: int, settings: OptimiserSettings) -> Schedule:
        """The schedule of a run of so many steps."""
        return cls(steps=steps, trunk=steps - math.floor(settings.decay * steps), warmup=settings.warmup)

    def factor(self, step: int) -> float:
        """The learning rate of the update after `step` others, of the full rate: linear up, constant, linear down to
        zero."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return rise if step < self.trunk else rise * (self.steps - step) / (self.steps - self.trunk)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """After `step` updates. `free` and `observed`: loss of the clips without and with given frames (nan if there were
    none).

    `stuck` is True once, when the gradient norm has stayed at the clip value for long: most often a forgotten parameter
    or too large a learning rate.
    """

    step: int
    phase: str
    loss: float
    free: float
    observed: float
    gradient_norm: float
    lr: float
    stuck: bool


def train_steps(
    state: TrainState,
    source: Source,
    settings: TrainSettings,
    schedule: Schedule,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Iterator[StepReport]:
    """Updates `state` until `schedule.steps`, one report per update.

    Between two updates the state is consistent and may be saved. Raises VidiffError when the loss is not finite.
    """
    model = state.learner.settings
    wanted = Wanted(
        objective=settings.objective,
        loader=settings.loader,
        size=settings.batch_size,
        window=model.frames,
        frame_steps=model.frame_steps,
        seed=settings.seed,
    )
    with closing(draw_batches(source, wanted, start=state.step, stop=schedule.steps, device=device)) as batches:
        yield from _updates(state, batches, settings, schedule, device=device, dtype=dtype)


def _updates(
    state: TrainState,
    batches: Iterable[Batch],
    settings: TrainSettings,
    schedule: Schedule,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Iterator[StepReport]:
    learner = state.learner
    learner.train()
    clipped = 0
    for batch in batches:
        state.phase = "trunk" if state.step < schedule.trunk else "decay"
        lr = state.set_rate(schedule.factor(state.step))
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = diffusion_loss(learner.denoiser, learner.text, batch)
        learner.zero_grad(set_to_none=True)  # on the module: no optimiser can leave another's gradients standing
        loss.total.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(learner.parameters(), settings.optimiser.clip))
        value = float(loss.total.detach())
        if not math.isfinite(value) or not math.isfinite(norm):
            raise VidiffError(
                f"training diverged at step {state.step + 1}",
                found=f"a loss of {value} and a gradient norm of {norm}",
                fix="continue with a smaller --lr from the last checkpoint",
            )
        for optimiser in state.optimisers.values():
            optimiser.step()
        state.ema.update(learner)
        state.step += 1
        clipped = clipped + 1 if norm >= settings.optimiser.clip else 0
        yield StepReport(
            step=state.step,
            phase=state.phase,
            loss=value,
            free=_mean(loss.per_clip[~loss.observed]),
            observed=_mean(loss.per_clip[loss.observed]),
            gradient_norm=norm,
            lr=lr,
            stuck=clipped == STUCK_AFTER,
        )


def _mean(values: torch.Tensor) -> float:
    return float(values.mean()) if len(values) else math.nan

"""Learning rate over a run: warm-up, stable phase, decay; or half a cosine.

The decay branch at the end is sampled from. Going on with more steps continues the stable phase, so that the result
does not depend on where one stopped. Source: Hu et al. 2024 (warmup-stable-decay). Half a cosine from the warm-up to
the end (Loshchilov and Hutter 2017) has no stable phase: such a run cannot be made longer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vidiff_cli.config.train import OptimizerSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class LRSchedule:
    """`steps` updates: `stable` of them at a constant rate after the warm-up, the rest in the decay branch; 0 stable
    updates mean a cosine."""

    steps: int
    stable: int
    warmup: int

    @classmethod
    def of_run(cls, steps: int, settings: OptimizerSettings) -> LRSchedule:
        """The schedule of a run of `steps` updates."""
        stable = 0 if settings.schedule == "cosine" else steps - math.floor(settings.decay * steps)
        return cls(steps=steps, stable=stable, warmup=settings.warmup)

    def factor(self, step: int) -> float:
        """Share of the full rate for the update after `step` others: linear up, constant, linear down to zero; or
        linear up, and down to zero on a cosine."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if not self.stable:
            passed = max(0, step - self.warmup) / max(1, self.steps - self.warmup)
            return rise * (1 + math.cos(math.pi * passed)) / 2
        return rise if step < self.stable else rise * (self.steps - step) / (self.steps - self.stable)

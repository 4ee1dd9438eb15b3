"""The loop of a rolling window: every step makes all active frames a little cleaner, each at a level of its own.

Frame f at step s, of n steps a slot and A active frames, is at place clamp((s - f n) / (A n), 0, 1) of the
sampling grid: A n steps in all, and M frames take (M + A - 1) n. Source: Ruhe et al. 2024 (Rolling Diffusion); the
levels are the pyramid of Chen et al. 2024 (Diffusion Forcing).

Shapes: b clips, c channels, t frames of the window, a active frames, h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor

from vidiff_cli.diffusion.samplers import Denoise, Noise, PreviousStep, SamplerStep
from vidiff_cli.frames import Window
from vidiff_cli.rolling import RollingPlan
from vidiff_cli.sampling.windows import CONTEXT, Conditioner, read_known, window_noise

START, STEP = 5, 6  # seeded(seed, frame, START): what a frame begins as; seeded(seed, step, STEP): noise of a step


@dataclass(frozen=True, kw_only=True, slots=True)
class RollingState:
    """The active frames after so many `slots`: with the sampler's step before it is all that the rest depends
    on, beside the finished frames. `z` and `estimate` (b c a h w), `rise` (a)."""

    slots: int
    z: Tensor
    estimate: Tensor
    rise: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class RollingNoise:
    """Noise of single frames: `start(f, like)` is what made frame f begins as, `context(rank, like)` that of an
    observed frame (both b c 1 h w), `step(s, like)` what step s adds (b c t h w)."""

    start: Callable[[int, Tensor], Tensor]
    context: Callable[[int, Tensor], Tensor]
    step: Callable[[int, Tensor], Tensor]


def seeded_noise(seeds: Sequence[int], clips: int) -> RollingNoise:
    """Noise that follows from (seed, number of the frame or of the step), wherever a call begins."""

    def draw(purpose: int) -> Callable[[int, Tensor], Tensor]:
        return lambda number, like: window_noise(seeds, [number], clips, purpose)(like, None)

    return RollingNoise(start=draw(START), context=draw(CONTEXT), step=draw(STEP))


def roll(
    plan: RollingPlan,
    read_frames: Callable[[Sequence[int]], Tensor],
    *,
    denoise: Callable[[Window, Tensor, Tensor, Noise], Denoise],
    condition: Conditioner,
    step: SamplerStep,
    levels: Tensor,
    noise: RollingNoise,
    bound: Callable[[Denoise], Denoise] = lambda denoise: denoise,
    context_noise: bool = False,
    state: RollingState | None = None,
) -> Iterator[tuple[Tensor | None, RollingState]]:
    """Sample the frames of a plan in order. Given frames are never taken from the sampler.

    Args:
        plan: The way of the window.
        read_frames: Gives finished frames (b c n h w); the consumer stores what is yielded before the next slot.
        denoise: Gives the denoiser of a window from `known` (b c t h w), `observed` (b t), where `known` counts, and
            the noise of observed frames.
        condition: Applied to the denoiser of windows that observe any frame.
        step: One step of the sampler.
        levels: Levels of a frame from noise to clean (k n + 1), with k active frames.
        noise: All draws.
        bound: Thresholds the estimate, around all else.
        context_noise: Hand the condition noise for observed frames.
        state: Where an interrupted call was.

    Yields:
        After every slot the frame that is done (b c 1 h w), None in the first ones, and the state.
    """
    if len(levels) < 2 or (len(levels) - 1) % plan.active:
        raise ValueError(f"{len(levels) - 1} steps of a frame for {plan.active} active ones: expected a multiple")
    for slot in range(state.slots if state else 0, plan.slots):
        window = plan.at(slot)
        known = read_known(window, read_frames)
        mask = torch.tensor([frame in window.observed for frame in window.frames], device=known.device)
        observed = mask.expand(len(known), -1)

        def context(like: Tensor, generator: Generator | None, window: Window = window) -> Tensor:
            return torch.cat([noise.context(frame, like[:, :, :1]) for frame in window.frames], dim=2)

        denoiser = denoise(window, known, observed, context)
        if window.observed:
            more = {"noise": context} if context_noise else {}
            denoiser = condition(denoiser, known, observed, **more)
        z, before = _begin(plan, slot, window, known, noise, state)
        z, before = _slot(plan, slot, window, bound(denoiser), z, before, step, levels.to(known.device), noise)
        state = _state(plan, slot, window, z, before)
        finished = plan.finished(slot)
        yield None if finished is None else _frames(z, window, [plan.rank(finished)]), state


def _begin(
    plan: RollingPlan, slot: int, window: Window, known: Tensor, noise: RollingNoise, state: RollingState | None
) -> tuple[Tensor, PreviousStep]:
    """z of a window (b c t h w) at the beginning of a slot, and the step before: the active frames as the state
    has them, new ones as noise, observed ones in their places."""
    z, rise = known.clone(), torch.zeros(len(window.frames), dtype=torch.float64, device=known.device)
    estimate = torch.zeros_like(known)
    numbers = {plan.rank(number): number for number in range(plan.active_at(slot).start, plan.made)[: plan.window]}
    started = [number for number in plan.active_at(slot) if number < slot]
    for place, rank in enumerate(window.frames):
        if rank in window.observed:
            continue
        number = numbers[rank]
        if number not in started:
            z[:, :, place] = noise.start(number, known[:, :, :1])[:, :, 0]
            continue
        assert state is not None, "active frames come from the slot before"
        own = started.index(number)
        z[:, :, place], estimate[:, :, place] = state.z[:, :, own], state.estimate[:, :, own]
        rise[place] = state.rise[own]
    return z, PreviousStep(estimate=estimate, rise=rise.expand(len(known), -1))


def _slot(
    plan: RollingPlan,
    slot: int,
    window: Window,
    denoise: Denoise,
    z: Tensor,
    before: PreviousStep,
    step: SamplerStep,
    levels: Tensor,
    noise: RollingNoise,
) -> tuple[Tensor, PreviousStep]:
    """The steps of a slot."""
    last = len(levels) - 1
    each = last // plan.active
    steps = range(slot * each, (slot + 1) * each)
    places = torch.tensor([_places(plan, window, number, each, last) for number in (*steps, steps.stop)])
    places = places.to(levels.device, non_blocking=True)  # of all steps at once
    grid, at_end = levels[places], places == last
    for place, number in enumerate(steps):
        at, to = (each.expand(len(z), -1) for each in (grid[place], grid[place + 1]))
        x = denoise(z, at)
        ends = at_end[place + 1].expand(len(z), -1)
        z = step(z, x, at, to, before=before, last=ends, noise=partial(noise.step, number))
        before = PreviousStep(estimate=x, rise=0.5 * (to - at))
    return z, before


def _places(plan: RollingPlan, window: Window, step: int, each: int, last: int) -> list[int]:
    """The place of every frame of a window on the grid before a step (t), 0 (noise) to `last`; observed ones are at
    the end."""
    way, known = plan.way, plan.known
    numbers = [way.index(rank) - known for rank in window.frames]
    return [last if number < 0 else min(max(step - number * each, 0), last) for number in numbers]


def _state(plan: RollingPlan, slot: int, window: Window, z: Tensor, before: PreviousStep) -> RollingState:
    """State for the next slot: the active frames that are not done."""
    done = plan.finished(slot)
    ranks = [plan.rank(number) for number in plan.active_at(slot) if number != done]
    places = [window.frames.index(rank) for rank in ranks]
    return RollingState(
        slots=slot + 1,
        z=z[:, :, places].clone(),
        estimate=before.estimate[:, :, places].clone(),
        rise=before.rise[0, places].clone(),
    )


def _frames(z: Tensor, window: Window, ranks: Sequence[int]) -> Tensor:
    return z[:, :, [window.frames.index(rank) for rank in ranks]]

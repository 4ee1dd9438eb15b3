"""Resolve how a model is sampled: options become the values and closures that the loop over windows takes.

Shapes: b clips, c channels, t frames of a window, h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

from torch import Tensor

from vidiff_cli.diffusion.guidance import clamp_known, hold_known, reconstruct, snr_weight, threshold
from vidiff_cli.diffusion.levels import levels_from
from vidiff_cli.diffusion.noise import Prior
from vidiff_cli.diffusion.samplers import SAMPLER_STEPS, SAMPLERS, Denoise, Noise, SamplerStep, ddpm
from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import Window
from vidiff_cli.models.families import VideoModel
from vidiff_cli.sampling.initial_noise import (
    FREE_INIT_LEVEL,
    InitNoise,
    SampleFn,
    free_init,
    free_noise,
    fresh,
    previous_frames,
)
from vidiff_cli.sampling.windows import Conditioner

GUIDED_STEPS = 30  # at least, where given frames lead the sampler from outside: fewer were not measured
LANGEVIN = 0.1  # VDM's delta
PREVIOUS = 0.8  # of the schedule from 0 (clean) to 1: where sampling begins with the frames before
WEIGHTS = {"dpmpp-2m": 10.0, "ddim": 20.0, "ddpm": 10.0}  # of reconstruction guidance, for frames of 16 pixels


class SamplingOptions(Protocol):
    """The options of sampling, as the settings of every command that generates have them (described there)."""

    @property
    def condition(self) -> str: ...
    @property
    def sampler(self) -> str: ...
    @property
    def steps(self) -> int | None: ...
    @property
    def guidance_scale(self) -> float | None: ...
    @property
    def negative_prompt(self) -> str | None: ...
    @property
    def reconstruction_weight(self) -> float | None: ...
    @property
    def reconstruction_schedule(self) -> str: ...
    @property
    def gradient_checkpointing(self) -> Literal["auto", "on", "off"]: ...
    @property
    def context_noise(self) -> float: ...
    @property
    def history_guidance(self) -> float | None: ...
    @property
    def history_level(self) -> float: ...
    @property
    def history_parts(self) -> int: ...
    @property
    def langevin(self) -> float | None: ...
    @property
    def shift(self) -> float: ...
    @property
    def start_noise(self) -> str: ...
    @property
    def freeinit(self) -> int: ...
    @property
    def threshold(self) -> float | str: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingSetup:
    """Values and closures to sample windows with one model.

    `conditioner` applies the `condition` (learned, reconstruction or replacement), `sample` is the sampler with its
    levels and threshold closed over; `step` is one step of it, `bound` the threshold, `steps` their number and `levels`
    the grid of a number of them, for a rolling window. `init_noise` gives the noise that the windows of a job with
    these seeds start from. `guidance_scale` is that of classifier-free guidance at sampling: 1 for a model that has its
    own in the weights. `history_guidance` is that of history guidance, `history_level` the level of observed frames in
    the pass that it leads away from, `history_parts` the parts of them that are shown one at a time. `passes` counts
    network passes of one window without a prompt, history guidance and parts, in units of a forward pass. `automatic`:
    the condition was not asked for by name.
    """

    condition: str
    automatic: bool
    conditioner: Conditioner
    sample: SampleFn
    step: SamplerStep
    bound: Callable[[Denoise], Denoise]
    steps: int
    levels: Callable[[int], Tensor]
    init_noise: Callable[[Sequence[Window], Sequence[int]], InitNoise]
    prior: Prior
    guidance_scale: float
    negative_prompt: str | None
    history_guidance: float
    history_level: float
    history_parts: int
    context_noise: bool
    gradient_checkpointing: Literal["auto", "on", "off"]
    passes: int

    def guides_by_text(self, prompts: Sequence[str]) -> bool:
        """True where prompts are guided towards, which takes a second pass."""
        return self.guidance_scale != 1 and (any(prompts) or bool(self.negative_prompt))


def resolve_sampling(
    model: VideoModel, options: SamplingOptions, *, completes: Literal["between", "beyond"] | None = None
) -> SamplingSetup:
    """Resolve options for a model. `completes`: where the frames lie that are made beside given ones; between them one
    step may do, the mean of what is possible, but beyond them that mean fades from window to window.

    Raises VidiffError for a condition, a context noise or a history guidance that the model was not trained for, and
    for one that makes frames between given ones alone.
    """
    if model.only_between and completes != "between":
        raise VidiffError(
            f"{model.name} makes the frames between given ones",
            found="none on one side" if completes else "no frames",
            fix="use it with vidiff interpolate, or as a stage (--then)",
        )
    condition = choose_condition(options, model)
    guided = condition == "reconstruction"
    steps = options.steps or _choose_steps(model, condition, completes)
    grid = partial(model.levels, shift=options.shift)
    return SamplingSetup(
        condition=condition,
        automatic=options.condition == "auto",
        conditioner=_conditioner(condition, options, model),
        sample=_sampler(options, model, grid(steps), langevin=LANGEVIN if guided else 0.0),
        step=SAMPLER_STEPS[options.sampler],
        bound=_bound(options, model),
        steps=steps,
        levels=grid,
        init_noise=partial(_init_noise, options.start_noise, model, float(grid(steps)[0])),
        prior=model.prior,
        guidance_scale=_choose_guidance(options, model),
        negative_prompt=options.negative_prompt,
        history_guidance=_choose_history_guidance(options, model, condition, steps),
        history_level=model.level_at(options.history_level),
        history_parts=_choose_history_parts(options, model, condition),
        context_noise=options.context_noise > 0 and condition == "learned",
        gradient_checkpointing=options.gradient_checkpointing,
        passes=steps * (3 if guided else 1) * (2 if guided and options.sampler == "ddpm" else 1),
    )


def _choose_steps(model: VideoModel, condition: str, completes: Literal["between", "beyond"] | None) -> int:
    """Choose the default number of steps, for a way to condition on given frames where some are given."""
    if completes is None or model.is_distilled:
        return model.steps
    if condition == "learned":
        return 1 if model.one_step and completes == "between" else model.completion_steps
    return max(model.steps, GUIDED_STEPS)


def choose_condition(options: SamplingOptions, model: VideoModel) -> str:
    """Resolve `auto` to the learned condition of a model that was trained with it, else to reconstruction guidance."""
    if options.condition == "learned" and "learned" not in model.conditions:
        raise VidiffError("this model was not trained on observed frames", fix="use --condition reconstruction")
    chosen = model.conditions[0] if options.condition == "auto" else options.condition
    highest = model.context_noise
    if options.context_noise and chosen != "learned":
        found = (
            f"--condition {chosen}" if options.condition == chosen else "a model that was not trained on given frames"
        )
        raise VidiffError("--context-noise is for given frames that the network is shown", found=found)
    if options.context_noise > highest:
        raise VidiffError(
            "this model was trained on given frames of less noise"
            if highest
            else "this model takes given frames clean",
            found=f"--context-noise {options.context_noise:g}",
            expected=f"at most {highest:g}" if highest else None,
            fix=None if highest else "leave it out, or train with --set objective.context_noise=0.5",
        )
    return chosen


def _choose_guidance(options: SamplingOptions, model: VideoModel) -> float:
    """Resolve the scale of classifier-free guidance. VidiffError for one that a distilled model does not have."""
    asked = options.guidance_scale
    if not model.is_distilled:
        return model.guidance_scale if asked is None else asked
    found = None
    if options.negative_prompt is not None:
        found = "--negative-prompt"
    elif asked not in (None, model.guidance_scale):
        found = f"--guidance-scale {asked:g}"
    if found is not None:
        raise VidiffError(
            f"the guidance of {model.name} is in its weights, for {model.guidance_scale:g} and no negative prompt",
            found=found,
            fix="leave it out, or use the model that it was distilled from",
        )
    return 1.0


def _choose_history_guidance(options: SamplingOptions, model: VideoModel, condition: str, steps: int) -> float:
    """Resolve the scale of history guidance: 1 (none) unless the network is shown the given frames, so that it can be
    asked without them; and by default in a single step, whose result is a mean."""
    asked = options.history_guidance
    if condition != "learned":
        if asked not in (None, 1):
            raise _not_shown("--history-guidance", options, model, condition)
        return 1.0
    if options.history_level < 1 and not model.frame_levels:
        raise _without_frame_levels("--history-level", options.history_level)
    if asked is not None:
        return asked
    return 1.0 if steps == 1 else model.history_guidance


def _choose_history_parts(options: SamplingOptions, model: VideoModel, condition: str) -> int:
    """Resolve the parts of the given frames that are shown one at a time: several for a network that knows frames of
    noise beside clean ones."""
    if options.history_parts > 1 and condition != "learned":
        raise _not_shown("--history-parts", options, model, condition)
    if options.history_parts > 1 and not model.frame_levels:
        raise _without_frame_levels("--history-parts", options.history_parts)
    return options.history_parts


def _not_shown(option: str, options: SamplingOptions, model: VideoModel, condition: str) -> VidiffError:
    """The error for an option of given frames that the network is shown, where it is not."""
    if "learned" in model.conditions:
        fix = f"leave out --condition {condition}"
    else:
        fix = "leave it out, or name a model that was trained on given frames"
    found = f"--condition {condition}" if condition == options.condition else f"the condition {condition}"
    return VidiffError(f"{option} is for given frames that the network is shown", found=found, fix=fix)


def _without_frame_levels(option: str, value: float) -> VidiffError:
    """The error for an option of levels by frame, for a model that was trained on none."""
    return VidiffError(
        "this model was not trained with a noise level for every frame",
        found=f"{option} {value:g}",
        expected="1",
        fix="leave it out, or train with --set objective.levels.independent=0.5",
    )


def _conditioner(condition: str, options: SamplingOptions, model: VideoModel) -> Conditioner:
    prior = model.prior

    def reconstruction(denoise: Denoise, known: Tensor, observed: Tensor) -> Denoise:
        constant = options.reconstruction_weight
        if constant is None:  # measured best for the sampler and the short side of frames (docs/decisions/0004)
            constant = WEIGHTS[options.sampler] * (16 / min(known.shape[-2:])) ** (2 / 3)
        weight = snr_weight(constant) if options.reconstruction_schedule == "snr" else constant
        covariance = None if prior.is_white else prior.covariance(known.shape[2])
        return clamp_known(reconstruct(denoise, known, observed, weight, covariance=covariance), known, observed)

    conditioners: dict[str, Conditioner] = {
        "reconstruction": reconstruction,
        "replacement": clamp_known,
        "learned": partial(hold_known, level=model.level_at(options.context_noise)),
    }
    return conditioners[condition]


def _sampler(options: SamplingOptions, model: VideoModel, levels: Tensor, *, langevin: float) -> SampleFn:
    """Close the levels, the threshold and the Langevin correction (`langevin` if none is asked for) over the
    sampler."""
    bound = _bound(options, model)
    correct = langevin if options.langevin is None else options.langevin

    def sample(denoise: Denoise, z: Tensor, noise: Noise, level: float | None = None, /) -> Tensor:
        remaining = levels if level is None else levels_from(levels, level)
        if options.sampler == "ddpm":
            return ddpm(bound(denoise), z, remaining, correct=correct, noise=noise)
        return SAMPLERS[options.sampler](bound(denoise), z, remaining)

    level = max(FREE_INIT_LEVEL, float(levels[0]))  # the grid of a public model may begin above
    return free_init(sample, passes=options.freeinit, level=level, prior=model.prior)


def _bound(options: SamplingOptions, model: VideoModel) -> Callable[[Denoise], Denoise]:
    """The thresholding of the estimate: of pixels, whose range is known; values of a codec have none."""
    if not model.codec.is_identity:
        if options.threshold != "static":
            found = f"--threshold {options.threshold}"
            raise VidiffError("this model works on values without a range", found=found, fix="leave it out")
        return lambda denoise: denoise
    return partial(threshold, percentile=None if options.threshold == "static" else float(options.threshold))


def _init_noise(
    name: str, model: VideoModel, first_level: float, windows: Sequence[Window], seeds: Sequence[int]
) -> InitNoise:
    """The initial noise of the windows of a job, by the name of --start-noise; sampling begins at `first_level`."""
    if name == "freenoise" and model.codec.temporal > 1:
        found = "--start-noise freenoise"
        raise VidiffError(f"{model.name} makes frames in groups, which have no noise of their own", found=found)
    if name == "freenoise" and windows:
        first = windows[0]
        step = abs(windows[1].frames[0] - first.frames[0]) if len(windows) > 1 else len(first.frames)
        length = model.frames
        stride = max(1, min(step, length))
        return free_noise(window=length, stride=stride, first=first.frames[0], seeds=seeds, prior=model.prior)
    return previous_frames(max(model.level_at(PREVIOUS), first_level)) if name == "previous" else fresh

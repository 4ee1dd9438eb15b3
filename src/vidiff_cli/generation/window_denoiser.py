"""The denoiser of windows: a model with times, prompts and observed frames closed over, guided by text and by history.

Shapes: b clips, c channels of z, m values along time, h w its sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vidiff_cli.diffusion.guidance import average, guide_from_each, show_known, split_observed
from vidiff_cli.diffusion.samplers import Denoise, Noise
from vidiff_cli.generation.sampling_setup import SamplingSetup
from vidiff_cli.models.families import VideoModel


def window_denoiser(
    model: VideoModel,
    setup: SamplingSetup,
    *,
    times: Tensor,
    prompts: Sequence[str],
    known: Tensor,
    observed: Tensor,
    noise: Noise,
) -> Denoise:
    """The denoiser of windows that are sampled together, before the way to condition is applied.

    History guidance makes one pass more where windows observe frames, also beside text guidance: the second estimate
    lacks the frames and keeps the prompt, the third lacks the prompt and keeps the frames. With the observed frames in
    parts, each estimate that keeps them is the mean of one for each part, which is shown noise in the place of the
    others.

    Args:
        model: The loaded model.
        setup: How windows are sampled.
        times: Seconds from the first frame of each window (b m).
        prompts: One per clip (b).
        known: Observed values (b c m h w).
        observed: True where `known` counts (b m).
        noise: Draws what is shown in the place of observed frames that an estimate lacks.

    Returns:
        (z: b c m h w, level: b m) -> x_hat.
    """
    parts = split_observed(observed, setup.history_parts)

    def seeing_part(part: Tensor, words: Sequence[str], scale: float) -> Denoise:
        told = part if setup.condition == "learned" else torch.zeros_like(part)
        denoise = model.denoiser(
            times, told, words, scale=scale, negative=setup.negative_prompt, known=known, observed=part
        )
        if len(parts) == 1:
            return denoise
        return show_known(denoise, known, observed & ~part, level=setup.history_level, noise=noise)

    def seeing(words: Sequence[str], scale: float) -> Denoise:
        return average([seeing_part(part, words, scale) for part in parts])

    if setup.history_guidance == 1 or not bool(observed.any()):
        return seeing(prompts, setup.guidance_scale)
    free = model.denoiser(times, torch.zeros_like(observed), prompts, scale=1.0)
    weaker = [(show_known(free, known, observed, level=setup.history_level, noise=noise), setup.history_guidance)]
    if setup.guides_by_text(prompts):
        weaker.append((seeing([setup.negative_prompt or ""] * len(prompts), 1.0), setup.guidance_scale))
    return guide_from_each(seeing(prompts, 1.0), weaker)

"""The denoiser of windows: a model with times, prompts and observed frames closed over, guided by text and by history.

Shapes: b clips, c channels of z, m values along time, h w its sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vidiff_cli.diffusion.guidance import guide_from_each, show_known
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
    lacks the frames and keeps the prompt, the third lacks the prompt and keeps the frames.

    Args:
        model: The loaded model.
        setup: How windows are sampled.
        times: Seconds from the first frame of each window (b m).
        prompts: One per clip (b).
        known: Observed values (b c m h w).
        observed: True where `known` counts (b m).
        noise: Draws what history guidance shows in the place of observed frames.

    Returns:
        (z: b c m h w, level: b m) -> x_hat.
    """
    told = observed if setup.condition == "learned" else torch.zeros_like(observed)

    def seeing(words: Sequence[str], scale: float) -> Denoise:
        return model.denoiser(
            times, told, words, scale=scale, negative=setup.negative_prompt, known=known, observed=observed
        )

    if setup.history_guidance == 1 or not bool(observed.any()):
        return seeing(prompts, setup.guidance_scale)
    free = model.denoiser(times, torch.zeros_like(observed), prompts, scale=1.0)
    weaker = [(show_known(free, known, observed, level=setup.history_level, noise=noise), setup.history_guidance)]
    if setup.guides_by_text(prompts):
        weaker.append((seeing([setup.negative_prompt or ""] * len(prompts), 1.0), setup.guidance_scale))
    return guide_from_each(seeing(prompts, 1.0), weaker)

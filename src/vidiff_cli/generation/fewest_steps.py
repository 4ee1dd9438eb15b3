"""The fewest sampling steps that lose nothing, measured on a few clips without an oracle of what they show.

The sampler is deterministic: samples of n steps and of many from the same noise differ by the error of the steps alone.
Two numbers of n decide, both relative to samples of `REFERENCE` steps:

- distance: mean square of that difference, over the mean square of the difference between two samples of one prompt
  from different noise. For samples of equal variance it is 1 minus their correlation: 0 converged, 1 unrelated.
- spread: the latter mean square at n steps, over that of the reference. Few steps draw samples towards the mean.

n loses nothing where the distance is at most an eighth and the spread at least seven eighths. Both limits come from the
model in the box, where they choose 8 steps, which say as many words right as 30 (docs/decisions/0025).
Shapes: b clips (two for each prompt), c channels, t frames, h w values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidiff_cli.diffusion.guidance import hold_known, threshold
from vidiff_cli.diffusion.noise import seeded
from vidiff_cli.diffusion.samplers import dpmpp_2m
from vidiff_cli.models.codec import Codec
from vidiff_cli.models.families import VideoModel
from vidiff_cli.models.sample_steps import SampleSteps
from vidiff_cli.models.unet_model import model_in_training
from vidiff_cli.models.video_model import VideoNetwork
from vidiff_cli.text.encoder import CaptionReader

COUNTS, REFERENCE = (4, 6, 8, 12, 16, 24), 32
MAX_DISTANCE, MIN_SPREAD = 1 / 8, 7 / 8
INVISIBLE = 1e-4  # mean square of values in [-1, 1]: a grey level
MIN_PROMPTS, MAX_PROMPTS = 2, 4
SEED = 2_211_01095  # of the noise, whatever the run's
SHARE, PASSES_OF_TRAINING = 0.02, 3  # of a clip: forwards, and backwards at twice the cost
PASSES = 3 * (sum(COUNTS) + REFERENCE)  # of a clip at most: with and without the prompt, and beside given frames


@dataclass(frozen=True, kw_only=True, slots=True)
class Clips:
    """Clips to measure with: `video` (n c t h w) in values of the model, `times` in seconds (n t), their captions."""

    video: Tensor
    times: Tensor
    captions: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Closeness:
    """Nearness of samples to those of many steps, relative to the spread of the latter."""

    distance: float
    spread: float

    @property
    def loses_nothing(self) -> bool:
        return self.distance <= MAX_DISTANCE and self.spread >= MIN_SPREAD


def clips_for_steps(clips_trained: int) -> int:
    """Clips to measure with at the end of a training of so many clips: at most a fiftieth of its passes; 0: none."""
    prompts = int(SHARE * PASSES_OF_TRAINING * clips_trained / (2 * PASSES))
    return min(MAX_PROMPTS, prompts) if prompts >= MIN_PROMPTS else 0


def measure_network(
    video_model: VideoNetwork,
    clips: Clips,
    reader: CaptionReader | None,
    *,
    device: torch.device,
    dtype: torch.dtype,
    autoencoder: Codec | None = None,
) -> SampleSteps:
    """Measure the steps of a network in training.

    Args:
        video_model: The network, with the weights that sampling uses.
        clips: Held-out clips.
        reader: Reads their captions for the text encoder; None for a model without one.
        device: Device of the network.
        dtype: Number format of the network.
        autoencoder: Codec of a network that works on latents.

    Returns:
        The steps.
    """
    model = model_in_training(video_model, reader, device=device, dtype=dtype, autoencoder=autoencoder)
    return measure_steps(model, clips)


def measure_steps(model: VideoModel, clips: Clips) -> SampleSteps:
    """Measure the steps of a model: of whole clips, and of their second halves beside the first where it is shown given
    frames. No global random number is drawn."""
    doubled = Clips(
        video=clips.video.repeat_interleave(2, dim=0),
        times=clips.times.repeat_interleave(2, dim=0),
        captions=[caption for caption in clips.captions for _ in range(2)],
    )
    b, t = doubled.times.shape
    observed = torch.zeros(b, t, dtype=torch.bool, device=doubled.times.device)
    free = fewest_steps(lambda steps: sample_clips(model, doubled, observed, steps))
    if "learned" not in model.conditions or t < 2:
        return SampleSteps(free=free, completion=None)
    observed[:, : t // 2] = True
    made = fewest_steps(lambda steps: sample_clips(model, doubled, observed, steps)[:, :, t // 2 :])
    return SampleSteps(free=free, completion=made)


def fewest_steps(sample: Callable[[int], Tensor]) -> int:
    """The smallest of `COUNTS` that loses nothing, else `REFERENCE`.

    `sample` makes samples of so many steps (b c t h w), always from the same noise: two for each prompt, side by side.
    """
    reference = sample(REFERENCE)
    return next((steps for steps in COUNTS if compare(sample(steps), reference).loses_nothing), REFERENCE)


def compare(found: Tensor, reference: Tensor) -> Closeness:
    """Compare samples with those of many steps from the same noise (b c t h w, the two of a prompt side by side)."""
    unit = _spread(reference) + INVISIBLE
    off = float((found - reference).double().square().mean())
    return Closeness(distance=off / unit, spread=(_spread(found) + INVISIBLE) / unit)


def _spread(samples: Tensor) -> float:
    """Mean square of the difference between the two samples of a prompt."""
    return float((samples[::2] - samples[1::2]).double().square().mean())


def sample_clips(model: VideoModel, clips: Clips, observed: Tensor, steps: int) -> Tensor:
    """Samples of the default sampler, beside the observed frames if there are any."""
    video, prompts = clips.video, clips.captions
    white = torch.stack([torch.randn(video.shape[1:], generator=seeded(SEED, place)) for place in range(len(video))])
    noise, known = model.prior.correlate(white).to(video), None
    if observed.any():
        known, prompts = video, [""] * len(video)
    with torch.no_grad():
        denoise = model.denoiser(
            clips.times, observed, prompts, scale=model.guidance_scale, known=known, observed=observed
        )
        if known is not None:
            denoise = hold_known(denoise, known, observed, level=model.level_at(0.0))
        return dpmpp_2m(threshold(denoise) if model.codec.is_identity else denoise, noise, model.levels(steps))

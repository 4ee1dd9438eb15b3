"""Distillation: a student learns to do in one pass what its teacher does with guidance, and in several steps.

A student of N steps goes from a level t to s, 1 / N further on the schedule. Its teacher goes there in k DDIM steps,
with guidance and clamped estimates; the target is the x for which one DDIM step from t leads where the teacher arrives.
With k = 1 that is the teacher's guided estimate itself (Meng et al. 2023), with k = 2 progressive distillation
(Salimans and Ho 2022), which halves the steps. Observed frames keep their values and level throughout.
Shapes: b clips, c channels, t frames, h w pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.diffusion.guidance import classifier_free, threshold
from vidiff_cli.diffusion.levels import alpha_sigma, per_frame
from vidiff_cli.diffusion.samplers import Denoise, ddim
from vidiff_cli.diffusion.targets import error_scale
from vidiff_cli.models.noise_schedule import training_levels
from vidiff_cli.models.video_model import VideoNetwork
from vidiff_cli.training.loader import Batch
from vidiff_cli.training.objective import Loss, batch_levels, make_conditioning, noisy_video

HIGHEST = 6.0  # level of a student's clip: above it z is the video already
MOST_WEIGHT = 4.0  # of the squared error, as in min-SNR


@dataclass(frozen=True, kw_only=True, slots=True)
class Distillation:
    """The loss of a student, as an `Objective`: `teacher` is frozen and in evaluation mode, with a text encoder of its
    own; it takes `substeps` steps with guidance of `guidance_scale` where the student takes one of `steps`."""

    teacher: VideoNetwork
    steps: int
    substeps: int
    guidance_scale: float

    def __call__(self, student: VideoNetwork, batch: Batch) -> Loss:
        """The mean over generated frames of min(1 + SNR, 4) |x_hat - target|^2, then over clips; without images. Around
        an estimate the weight is that of its training, and so is the highest level."""
        batch, settings = batch.without_images(), student.settings
        levels = step_levels(batch, settings, steps=self.steps, substeps=self.substeps)
        level = levels[0].float()
        z, _ = noisy_video(batch, settings.diffusion, level)
        target = one_step_target(self.guided_teacher(batch), z, levels)
        conditioning = make_conditioning(batch, student.text)
        x_hat = student.denoiser(z, level, conditioning)
        if settings.network.any_size:
            weight = student.denoiser.loss_weight(level, conditioning)
            weight = weight / error_scale("v", level)[:, None, :, None, None]
        else:
            weight = (1 + level.double().exp()).clamp(max=MOST_WEIGHT).to(x_hat)[:, None, :, None, None]
        errors = ((x_hat - target.to(x_hat)).square() * weight).mean(dim=(1, 3, 4))  # b t
        made = ~batch.observed
        per_clip = (errors * made).sum(dim=1) / made.to(errors).sum(dim=1)
        return Loss(
            total=per_clip.mean(),
            per_clip=per_clip.detach(),
            per_frame=errors.detach(),
            made=made,
            level=level,
        )

    def guided_teacher(self, batch: Batch) -> Denoise:
        """The teacher's estimate with guidance, inside [-1, 1] where it is of pixels; of clips without their caption
        its estimate without one."""
        plain = make_conditioning(batch, self.teacher.text)

        def conditional(z: Tensor, level: Tensor) -> Tensor:
            return self.teacher.denoiser(z, level, plain)

        def unconditional(z: Tensor, level: Tensor) -> Tensor:
            return self.teacher.denoiser(z, level, replace(plain, dropped=torch.ones_like(batch.dropped)))

        guided = classifier_free(conditional, unconditional, self.guidance_scale)
        return guided if self.teacher.settings.autoencoder is not None else threshold(guided)


def step_levels(batch: Batch, settings: ModelSettings, *, steps: int, substeps: int) -> Tensor:
    """Levels (substeps + 1, b, t), float64, of a student's step: from the batch's places on the schedule, at most
    from `HIGHEST`, to those of 1 / steps less, or the clean end. Those of observed frames stay."""
    start = batch_levels(batch, settings).double()
    highest = HIGHEST + (settings.diffusion.shift if settings.network.any_size else 0.0)
    start = torch.where(batch.observed, start, start.clamp(max=highest))
    places = [(batch.u.double() - part / (steps * substeps)).clamp(min=0) for part in range(1, substeps + 1)]
    later = [training_levels(settings, place).maximum(start) for place in places]
    return torch.stack([start, *(torch.where(batch.observed, start, level) for level in later)])


@torch.no_grad()
def one_step_target(teacher: Denoise, z: Tensor, levels: Tensor) -> Tensor:
    """x~ = (z'' - (sigma_s / sigma_t) z) / (alpha_s (1 - e^-h)), h = (level_s - level_t) / 2, where z'' at s is the end
    of the teacher's DDIM steps from z at t over `levels` (steps + 1, b, t), in float64.

    It is a mean of the teacher's estimates on the way. Of frames whose level stays, zero. Source: Salimans and Ho 2022,
    appendix G.
    """

    def estimate(z: Tensor, level: Tensor) -> Tensor:
        return teacher(z.float(), level.float()).double()

    end = ddim(estimate, z.double(), levels)
    (_, sigma_t), (alpha_s, sigma_s) = (alpha_sigma(per_frame(level, z)) for level in (levels[0], levels[-1]))
    h = per_frame(levels[-1] - levels[0], z) / 2
    moved = -torch.expm1(-h) * alpha_s
    return torch.where(h > 0, (end - sigma_s / sigma_t * z.double()) / moved.where(h > 0, 1.0), 0.0)

"""Targets of distillation against closed forms, and what teacher and student are shown.

Shapes: b clips, c channels, t frames, h w pixels.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from tiny_batch import CAPTIONS, B, T, tiny_batch
from tiny_model import tiny_video_model
from torch import Tensor

from vidiff_cli.config.model import DiffusionSettings
from vidiff_cli.diffusion.guidance import threshold
from vidiff_cli.diffusion.levels import alpha_sigma, cosine, per_frame
from vidiff_cli.diffusion.samplers import Denoise, ddim
from vidiff_cli.models.denoiser import Denoiser
from vidiff_cli.models.noise_schedule import training_levels
from vidiff_cli.models.video_model import VideoNetwork
from vidiff_cli.training.distillation import Distillation, one_step_target, step_levels
from vidiff_cli.training.loader import Batch
from vidiff_cli.training.objective import batch_levels, make_conditioning, noisy_video

VARIANCE = 0.3  # of a Gaussian pixel
HALF = torch.tensor([[True, True, False, False], [False] * 4, [False, True, False, True], [False] * 4])
U = torch.tensor([0.1, 0.35, 0.6, 0.95])


def oracle(z: Tensor, level: Tensor) -> Tensor:
    """E[x | z] of pixels of mean 0 and `VARIANCE`."""
    alpha, sigma = alpha_sigma(per_frame(level.double(), z))
    return alpha * VARIANCE * z.double() / (alpha**2 * VARIANCE + sigma**2)


def levels_between(start: float, stop: float, substeps: int) -> Tensor:
    u = torch.linspace(start, stop, substeps + 1, dtype=torch.float64)
    return cosine(u)[:, None, None].expand(-1, B, T)


def noise(seed: int = 0) -> Tensor:
    return torch.randn(B, 3, T, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("start", "stop"), [(1.0, 0.75), (0.6, 0.35), (0.25, 0.0)])
@pytest.mark.parametrize("substeps", [1, 2, 5])
def test_one_step_to_the_target_is_where_the_teachers_steps_lead(start: float, stop: float, substeps: int) -> None:
    z, levels = noise().double(), levels_between(start, stop, substeps)
    target = one_step_target(oracle, z, levels)
    reached = ddim(lambda z, level: target, z, torch.stack([levels[0], levels[-1]]))
    assert torch.allclose(reached, ddim(oracle, z, levels), atol=1e-6)  # the teacher itself is asked in float32


def test_two_steps_have_the_closed_form_of_one() -> None:
    """x~ = (e^-h2 (1 - e^-h1) x1 + (1 - e^-h2) x2) / (1 - e^-(h1 + h2)): a mean of the estimates, so clamped ones are
    never left."""
    z, levels, seen = 3 * noise(), levels_between(0.7, 0.3, 2), list[Tensor]()

    def clamped(z: Tensor, level: Tensor) -> Tensor:
        seen.append(threshold(lambda z, level: 5 * oracle(z, level))(z, level).double())
        return seen[-1]

    target = one_step_target(clamped, z, levels)
    first, second = (per_frame(levels[number + 1] - levels[number], z) / 2 for number in (0, 1))
    near, far = -torch.expm1(-second), torch.exp(-second) * -torch.expm1(-first)
    assert torch.allclose(target, (far * seen[0] + near * seen[1]) / -torch.expm1(-first - second), atol=1e-10)
    assert float(target.abs().max()) <= 1 + 1e-12 and float((target.abs() > 0.999).double().mean()) > 0.05


def test_more_steps_of_the_teacher_come_to_the_exact_flow() -> None:
    """z_s = z_t sqrt(var_s / var_t) along the probability flow of a Gaussian; DDIM's error halves with its steps."""
    z, errors = noise().double(), list[float]()
    for substeps in (4, 8, 16, 32):
        levels = levels_between(0.9, 0.4, substeps)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = alpha_sigma(levels[0]), alpha_sigma(levels[-1])
        exact = z * per_frame(((alpha_s**2 * VARIANCE + sigma_s**2) / (alpha_t**2 * VARIANCE + sigma_t**2)).sqrt(), z)
        target = one_step_target(oracle, z, levels)
        reached = ddim(lambda z, level, x=target: x, z, torch.stack([levels[0], levels[-1]]))
        errors.append(float((reached - exact).abs().max()))
    ratios = [before / after for before, after in pairwise(errors)]
    assert ratios == pytest.approx([2, 2, 2], rel=0.3)


def test_frames_whose_level_stays_have_no_target() -> None:
    levels = levels_between(0.5, 0.25, 2).clone()
    levels[:, :, 0] = 20.0
    target = one_step_target(oracle, noise(), levels)
    assert bool((target[:, :, 0] == 0).all()) and bool(target.isfinite().all())


def make_batch(observed: Tensor, video_model: VideoNetwork, u: Tensor = U) -> Batch:
    reader = video_model.caption_reader()
    assert reader is not None
    return replace(tiny_batch(observed, u), text=reader(CAPTIONS), seeds=torch.tensor([1, 2, 3, 4]))


def make_teacher(noise: float = 0.2) -> VideoNetwork:
    return tiny_video_model(noise=noise, seed=3).requires_grad_(False).eval()


def distillation(teacher: VideoNetwork, **more: Any) -> Distillation:
    return Distillation(**{"teacher": teacher, "steps": 4, "substeps": 1, "guidance_scale": 2.5} | more)


def test_the_loss_is_the_weighted_distance_from_the_clamped_guided_estimate() -> None:
    """clamp(u + w (c - u)) with the caption, clamp(u) where it is dropped; weights min(1 + SNR, 4); means over the made
    frames, then over clips."""
    teacher, student = make_teacher(noise=0.5), tiny_video_model(noise=0.1)
    batch = make_batch(HALF, student)
    loss = distillation(teacher)(student, batch)
    level = torch.where(HALF, 20.0, cosine(U.double()).clamp(max=6.0).float()[:, None])
    z, _ = noisy_video(batch, student.settings.diffusion, level)
    plain = make_conditioning(batch, teacher.text)
    with torch.no_grad():
        conditional = teacher.denoiser(z, level, plain)
        without = teacher.denoiser(z, level, replace(plain, dropped=torch.ones(B, dtype=torch.bool)))
        x_hat = student.denoiser(z, level, make_conditioning(batch, student.text))
    kept = ~batch.dropped[:, None, None, None, None]
    target = torch.where(kept, without + 2.5 * (conditional - without), without).clamp(-1, 1)
    assert float((target.abs() == 1).double().mean()) > 0.01 and not torch.equal(conditional, without)
    errors = (x_hat - target).square().mean(dim=(1, 3, 4)) * (1 + level.exp()).clamp(max=4.0)
    expected = torch.stack([row[~seen].mean() for row, seen in zip(errors, HALF, strict=True)])
    assert torch.allclose(loss.per_clip, expected, rtol=1e-4)
    assert float(loss.total.detach()) == pytest.approx(float(expected.mean()), rel=1e-4)


def test_a_teacher_without_guidance_teaches_nothing_to_a_student_that_is_its_copy() -> None:
    chosen = DiffusionSettings(target="x", weighting="truncated")  # estimates inside [-1, 1]: nothing is clamped
    teacher, student = (tiny_video_model(noise=0.03, diffusion=chosen).requires_grad_(False).eval() for _ in range(2))
    batch = make_batch(HALF, student)
    same, guided, fewer = (
        float(distillation(teacher, **more)(student, batch).total)
        for more in ({"guidance_scale": 1.0}, {}, {"guidance_scale": 1.0, "substeps": 4})
    )
    assert same < 1e-10 and guided > 100 * same and fewer > 100 * same


@pytest.mark.parametrize("substeps", [1, 3])
@pytest.mark.parametrize("context", [None, torch.tensor([0.0, 0.2, 0.4, 0.0])])
def test_observed_frames_stay_as_they_are_in_every_step_of_the_teacher(
    monkeypatch: pytest.MonkeyPatch, substeps: int, context: Tensor | None
) -> None:
    """And teacher and student are told of them, in the frames and conditions of their training."""
    calls, original = list[tuple[Denoiser, Tensor, Tensor, Any]](), Denoiser.forward

    def forward(self: Denoiser, z: Tensor, level: Tensor, told: Any) -> Tensor:
        calls.append((self, z.detach(), level, told))
        return original(self, z, level, told)

    monkeypatch.setattr(Denoiser, "forward", forward)
    teacher, student = make_teacher(), tiny_video_model(noise=0.1)
    batch = replace(make_batch(HALF, student), context=context)
    distillation(teacher, substeps=substeps)(student, batch)
    assert [who for who, *_ in calls] == [teacher.denoiser] * (2 * substeps) + [student.denoiser]
    shown, known = calls[-1], HALF[:, None, :, None, None].expand_as(batch.video)
    if context is None:
        assert torch.equal(shown[1][known], batch.video[known])
    for _, z, level, told in calls:
        assert torch.equal(z[known], shown[1][known]) and torch.equal(level[HALF], shown[2][HALF])
        assert torch.equal(told.observed, HALF) and torch.equal(told.times, batch.times)
    starts = [level for who, _, level, _ in calls if who is teacher.denoiser][::2]
    assert torch.equal(starts[0], shown[2]) and torch.equal(calls[0][1], shown[1])
    for before, after in pairwise(starts):
        assert bool((after > before)[~HALF].all())


def test_a_step_is_one_part_of_the_schedule_and_begins_at_six_at_most() -> None:
    video_model = tiny_video_model()
    batch, settings = make_batch(torch.zeros_like(HALF), video_model), video_model.settings
    levels = step_levels(batch, settings, steps=4, substeps=2)
    wanted = [U.double(), U.double() - 1 / 8, U.double() - 1 / 4]
    for found, u in zip(levels[:, 1:], wanted, strict=True):
        assert torch.allclose(found[:, 0], training_levels(settings, u)[1:], atol=1e-5)
    late = replace(batch, u=torch.full_like(batch.u, 1e-3))
    assert float(batch_levels(late, settings).min()) > 6
    ends = step_levels(late, settings, steps=4, substeps=2)
    assert ends[0].unique().tolist() == [6.0] and ends[-1].unique().tolist() == [20.0]


def test_the_teacher_reads_captions_with_its_own_text_encoder() -> None:
    teacher, student = make_teacher(), tiny_video_model(noise=0.1)
    batch, target = make_batch(HALF, student), Distillation.guided_teacher
    distill = distillation(teacher)
    levels = step_levels(batch, student.settings, steps=4, substeps=1)
    z, _ = noisy_video(batch, student.settings.diffusion, levels[0].float())
    asked: list[Denoise] = [target(distill, batch)]
    with torch.no_grad():
        for value in student.text.parameters():  # type: ignore[union-attr]
            value.add_(1.0)
        asked.append(target(distill, batch))
        first, second = (one_step_target(each, z, levels) for each in asked)
        assert torch.equal(first, second)
        for value in teacher.text.parameters():  # type: ignore[union-attr]
            value.add_(1.0)
        assert not torch.allclose(one_step_target(target(distill, batch), z, levels), first)

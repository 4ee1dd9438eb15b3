"""Reconstruction guidance through public networks: its gradient, recomputation, half precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from public_models import FAMILIES
from torch import Tensor

from vidiff_cli.diffusion.guidance import clamp_known, hold_known, reconstruct
from vidiff_cli.diffusion.levels import alpha_sigma
from vidiff_cli.diffusion.samplers import SAMPLERS, Denoise
from vidiff_cli.models.public import networks
from vidiff_cli.models.public.model import PublicModel
from vidiff_cli.models.public.open import open_public

PROMPT, SCALE = "a red cat surfing", 7.5
EXACT = {"wan": 5e-3, "skyreels": 5e-3}  # parts of their code are float32 whatever the number format
every_family = pytest.mark.parametrize("family", FAMILIES)


def denoiser(model: PublicModel, values: int) -> Denoise:
    times = torch.zeros(1, values)
    return model.denoiser(times, times > 0, [PROMPT], scale=SCALE, negative="no blur")


def case(model: PublicModel, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """z, known (1 c m h w), observed (1 m) and a level in the middle (1 m): some values of some are observed."""
    values = 4 if model.codec.temporal == 1 else 3
    shape = (1, model.codec.channels, values, 8, 16 if model.fixed_size else 8)
    stream = torch.Generator().manual_seed(3)
    z, known = (torch.randn(shape, generator=stream, dtype=dtype) for _ in range(2))
    observed = torch.zeros(1, values, dtype=torch.bool)
    observed[:, :1] = True
    return z, known, observed, model.levels(8)[4].expand(1, values)


@every_family
def test_the_gradient_is_that_of_central_differences(model_of, family: str) -> None:
    model = model_of(family, torch.float64)
    z, known, observed, level = case(model, torch.float64)
    denoise = denoiser(model, z.shape[2])
    moved = reconstruct(denoise, known, observed, 1.0)(z, level)
    with torch.no_grad():
        x = denoise(z, level)
    step = moved - x  # -alpha / 2 times the gradient, of frames that are not observed
    assert not bool(step[:, :, observed[0]].any())
    assert bool((step[:, :, ~observed[0]].abs().amax(dim=(0, 1, 3, 4)) > 0).all())

    direction = torch.randn(z.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    direction[:, :, observed[0]] = 0

    def loss(at: float) -> float:
        with torch.no_grad():
            error = (known - denoise(z + at * direction, level))[:, :, observed[0]]
        return float(error.square().sum())

    width = 1e-2 if family in EXACT else 1e-4
    slope = (loss(width) - loss(-width)) / (2 * width)
    ours = float((step * direction).sum() / (-0.5 * alpha_sigma(level)[0][0, 0]))
    apart = abs(ours - slope) / abs(slope)
    assert apart < EXACT.get(family, 1e-5)


@every_family
def test_recomputation_changes_nothing(folder_of, model_of, family: str) -> None:
    model = model_of(family)
    z, known, observed, level = case(model)
    plain = reconstruct(denoiser(model, z.shape[2]), known, observed, 1.0)(z, level)
    other = open_public(folder_of(family), model.device, torch.float32, size=(model.width, model.height), frames=5)
    other.recompute()
    again = reconstruct(denoiser(other, z.shape[2]), known, observed, 1.0)(z, level)
    assert torch.equal(plain, again)


@every_family
def test_observed_values_are_the_known_ones(model_of, family: str) -> None:
    """Bit for bit, at the end of every sampler, by each condition that the family takes."""
    model = model_of(family)
    z, known, observed, _ = case(model)
    denoise = denoiser(model, z.shape[2])
    guided = reconstruct(denoise, known, observed, 1.0)
    ways: list[Denoise] = [clamp_known(denoise, known, observed), clamp_known(guided, known, observed)]
    if "learned" in model.conditions:
        ways.append(hold_known(denoise, known, observed, level=model.level_at(0.0)))
    for sampler in ("ddim", "dpmpp-2m"):
        for way in ways:
            with torch.no_grad():
                made = SAMPLERS[sampler](way, z, model.levels(2))
            assert torch.equal(made[:, :, observed[0]], known[:, :, observed[0]]) and bool(made.isfinite().all())


@every_family
def test_a_level_for_each_frame(model_of, family: str) -> None:
    """Refused but by the family that was trained with it; the same level for all gives the same estimate there."""
    model = model_of(family)
    z, known, observed, level = case(model)
    held = hold_known(denoiser(model, z.shape[2]), known, observed, level=model.level_at(0.0))
    if "learned" not in model.conditions:
        with pytest.raises(ValueError, match="one level for all frames"):
            held(z, level)
        return
    with torch.no_grad():
        assert not torch.equal(held(z, level), clamp_known(denoiser(model, z.shape[2]), known, observed)(z, level))


@every_family
def test_half_precision(model_of, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    full, half = model_of(family), model_of(family, torch.bfloat16)
    z, known, observed, level = case(full)
    name, seen = full.family.network, list[tuple[torch.dtype, torch.dtype]]()
    original: Callable[..., Tensor] = networks.PREDICT[name]

    def spy(network: object, values: Tensor, timestep: Tensor, states: Tensor) -> Tensor:
        seen.append((values.dtype, timestep.dtype))
        return original(network, values, timestep, states)

    with torch.no_grad():
        exact = SAMPLERS["ddim"](denoiser(full, z.shape[2]), z, full.levels(20))
        monkeypatch.setitem(networks.PREDICT, name, spy)
        made = SAMPLERS["ddim"](denoiser(half, z.shape[2]), z, half.levels(20))
    assert set(seen) == {(torch.bfloat16, torch.float32)} and made.dtype == torch.float32
    apart = float((made - exact).abs().max() / exact.abs().max())
    steps = [
        (reconstruct(each, known, observed, 1.0)(z, level) - each(z, level)).detach()[:, :, ~observed[0]].flatten()
        for each in (denoiser(full, z.shape[2]), denoiser(half, z.shape[2]))
    ]
    cosine = float(torch.nn.functional.cosine_similarity(steps[0], steps[1], dim=0))
    assert apart < 5e-2 and cosine > 0.95

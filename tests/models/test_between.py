"""A network of the frames between given ones: predictions around the estimate by motion, on frames of any size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.diffusion.guidance import hold_known
from vidiff_cli.diffusion.levels import add_noise, alpha_sigma, grid
from vidiff_cli.diffusion.samplers import ddim
from vidiff_cli.models import unet_model
from vidiff_cli.models.unet_model import UNetModel, model_in_training
from vidiff_cli.models.video_model import new_video_model
from vidiff_cli.motion import estimate_around, estimate_clip
from vidiff_cli.motion.clip import LEAST

NETWORK = {"base_channels": 8, "patch_size": 2, "temporal": "convolution", "attention_max_size": 0, "context_dim": 0}
TIMES = torch.arange(3.0)[None] / 8
OBSERVED = torch.tensor([[True, False, True]])


def settings(**network: object) -> ModelSettings:
    return ModelSettings.model_validate(
        {
            "width": 32,
            "height": 32,
            "frames": 3,
            "network": NETWORK | {"between": True} | network,
            "text": {"kind": "none"},
        }
    )


def opened(*, noisy: bool = True) -> UNetModel:
    """A network at its start, or one whose zero layers are not zero."""
    model, generator = new_video_model(settings(), 0), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters() if noisy else ():
            if not bool(value.any()):
                value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    return model_in_training(model, None, device=torch.device("cpu"), dtype=torch.float32)


def film(height: int = 40, width: int = 56, step: int = 2) -> Tensor:
    """Three frames of a smooth texture that moves to the left: (1 3 3 h w)."""
    coarse = torch.rand(1, 3, height // 4 + 2, width // 4 + 4, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
    canvas = torch.nn.functional.interpolate(coarse, (height, width + 4 * step), mode="bicubic", align_corners=True)
    return torch.stack([canvas[..., k * step : k * step + width] for k in range(3)], dim=2).clamp(-1, 1)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def denoiser(model: UNetModel, video: Tensor):
    free = model.denoiser(TIMES, OBSERVED, [""], scale=1.0, known=video, observed=OBSERVED)
    return hold_known(free, video, OBSERVED, level=model.level_at(0.0))


@pytest.mark.parametrize("level", [-15.0, 2.0, 8.0])
def test_at_its_start_a_network_gives_the_best_mixture_of_the_estimate_and_the_noisy_frame(level: float) -> None:
    model, video = opened(noisy=False), film()
    around = estimate_around(video, OBSERVED, TIMES)
    estimate, spread = around[:, :3, 1], around[:, -1:, 1]
    levels = torch.full((1, 3), level)
    z = add_noise(video, noise(*video.shape), levels)
    alpha, sigma = (each.float() for each in alpha_sigma(torch.tensor(level, dtype=torch.float64)))
    weights = 1 / spread.square(), (alpha / sigma).square()
    expected = (weights[0] * estimate + weights[1] * z[:, :, 1] / alpha) / (weights[0] + weights[1])
    with torch.no_grad():
        made = denoiser(model, video)(z, levels)[:, :, 1]
    assert torch.allclose(made, expected, atol=2e-4)


def test_the_estimate_is_that_of_interpolation_and_its_spread_is_least_for_given_frames() -> None:
    video = film()
    around = estimate_around(video, OBSERVED, TIMES)
    estimate, uncertainty = estimate_clip(video, OBSERVED, TIMES)
    assert torch.equal(around[:, :3], estimate)
    assert torch.allclose(around[:, -1:, OBSERVED[0]], torch.full_like(around[:, -1:, OBSERVED[0]], LEAST))
    assert bool((around[:, -1:, 1] > LEAST).all() | (uncertainty[:, :, 1] > 0).all())
    assert not bool(around[:, 3:6, OBSERVED[0]].any()), "given frames differ from nothing"


def test_the_difference_says_what_both_moved_frames_show() -> None:
    """In time halves the plain mean of both is the estimate where it trusts the motion: h +- d / 2 are the two."""
    still = film(step=0)
    assert not bool(estimate_around(still, OBSERVED, TIMES)[:, 3:6].any()), "nothing differs in a still film"
    moving = estimate_around(film(), OBSERVED, TIMES)[:, 3:6, 1]
    assert bool(moving.any())


@pytest.mark.parametrize("size", [(40, 56), (37, 51), (3, 90), (64, 16)])
def test_tiles_change_nothing(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of any size, in several steps."""
    model, video = opened(), film(*size)
    z = noise(*video.shape)

    def made(tile: int) -> Tensor:
        monkeypatch.setattr(unet_model, "TILE", tile)
        with torch.no_grad():
            return ddim(denoiser(model, video), z, grid(3, shift=5.0))

    whole, parts = made(512), made(16)
    assert whole.shape == video.shape
    assert torch.allclose(whole, parts, atol=2e-4)


def test_a_model_of_the_frames_between_says_what_it_can() -> None:
    model = opened()
    assert model.only_between and model.one_step and model.steps == 1 and model.conditions == ("learned",)
    assert model.windows_at_once == 1 and model.history_guidance == 1.0 and model.scale == 0
    assert model.settings.network.task == "frames"


@pytest.mark.parametrize("wrong", [{"motion": True}, {"upscale": 2}, {"attention_max_size": 16}, {"temporal": "both"}])
def test_a_network_has_one_estimate_and_no_attention(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"estimate|super-resolution"):
        settings(**wrong)

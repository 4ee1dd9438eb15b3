"""A network of super-resolution: predictions around the enlarged clip, and tiles that change nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.diffusion.levels import add_noise, alpha_sigma, grid
from vidiff_cli.diffusion.samplers import ddim
from vidiff_cli.diffusion.targets import target, v_from_x, x_from
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.denoiser import scales_around
from vidiff_cli.models.unet3d import receptive_radius
from vidiff_cli.models.unet_model import UNetModel, model_in_training
from vidiff_cli.models.video_model import VideoNetwork, new_video_model
from vidiff_cli.pixels import quantize_8bit
from vidiff_cli.resize import enlarge, in_part, low_resolution, shrink, with_uncertainty
from vidiff_cli.sampling.tiles import plan_tiles

NETWORK = {"base_channels": 8, "patch_size": 2, "temporal": "convolution", "attention_max_size": 0, "context_dim": 0}


def settings(scale: int = 2, **network: object) -> ModelSettings:
    return ModelSettings.model_validate(
        {
            "width": 32,
            "height": 32,
            "frames": 3,
            "augmentation": 0.3,
            "network": NETWORK | {"upscale": scale} | network,
            "text": {"kind": "none"},
        }
    )


def trained(scale: int = 2, **network: object) -> VideoNetwork:
    """A network whose zero layers are not zero."""
    model = new_video_model(settings(scale, **network), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            if not bool(value.any()):
                value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    return model


def opened(model: VideoNetwork) -> UNetModel:
    return model_in_training(model, None, device=torch.device("cpu"), dtype=torch.float32)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_without_an_estimate_it_is_plain_v_prediction() -> None:
    level = torch.linspace(-18, 18, 7)[None]
    around = scales_around(level, torch.ones(1, 1, 7, 1, 1))
    assert torch.allclose(around.from_z, torch.zeros_like(around.from_z), atol=1e-6)
    assert torch.allclose(around.from_output, torch.ones_like(around.from_output))
    assert torch.allclose(around.to_unit, torch.ones_like(around.to_unit))


@pytest.mark.parametrize("spread", [0.03, 0.1, 0.5])
def test_the_network_starts_from_the_best_linear_estimate_and_learns_what_has_unit_variance(spread: float) -> None:
    level = torch.linspace(-15, 15, 11)[None]
    enlarged = noise(1, 1, 11, 64, 64)
    x = enlarged + spread * noise(1, 1, 11, 64, 64, seed=1)
    eps = noise(1, 1, 11, 64, 64, seed=2)
    z, around = add_noise(x, eps, level), scales_around(level, torch.full((1, 1, 11, 1, 1), spread))
    x_hat = x_from("v", around.from_z * z + around.from_estimate * enlarged, z, level)
    alpha, sigma = (each[:, None, :, None, None] for each in alpha_sigma(level))
    best = (enlarged / spread**2 + z * alpha / sigma**2) / (1 / spread**2 + alpha**2 / sigma**2)
    assert torch.allclose(x_hat, best, atol=2e-4)
    shown = around.to_unit * (z - alpha * enlarged)
    assert torch.allclose(shown.var(dim=(0, 1, 3, 4)), torch.ones(11), rtol=0.1)
    wanted = (target("v", x, eps, level) - v_from_x(x_hat, z, level)) / around.from_output
    assert torch.allclose(wanted.var(dim=(0, 1, 3, 4)), torch.ones(11), rtol=0.1)


def test_the_loss_is_that_of_what_the_network_itself_gives() -> None:
    model = trained()
    level, low = torch.tensor([[-5.0, 2.0, 9.0]]), with_uncertainty(noise(1, 3, 3, 8, 8), 2)
    told = Conditioning(times=level, observed=level > 99, around=low, augmentation=torch.zeros(1))
    weight = model.denoiser.loss_weight(level, told)
    assert weight.shape == (1, 1, 3, 16, 16)
    assert torch.allclose(weight * scales_around(level, low[:, -1:]).from_output ** 2, torch.ones(1), atol=1e-5)


def test_the_uncertainty_is_the_error_of_films_and_follows_their_detail() -> None:
    """Of pictures with a spectrum like that of natural ones."""
    frequency = torch.fft.fftfreq(128)[:, None].hypot(torch.fft.rfftfreq(128)).clamp(min=1 / 128)
    spectrum = torch.fft.rfft2(noise(1, 3, 4, 128, 128)) / frequency**1.3
    picture = torch.fft.irfft2(spectrum)
    for scale in (2, 4):
        for contrast in (0.05, 0.5):
            video = contrast * picture / picture.abs().amax()
            shown = with_uncertainty(shrink(video, scale), scale)
            off = (video - shown[:, :3]).square().mean().sqrt()
            assert 0.6 < float(shown[:, -1:].square().mean().sqrt() / off) < 1.6
    flat = with_uncertainty(torch.zeros(1, 3, 1, 8, 8), 2)
    assert float(flat[:, -1].max()) < 0.004 and not bool(flat[:, :-1].any())
    assert with_uncertainty(torch.zeros(1, 1, 1, 1, 1), 8).shape == (1, 3, 1, 8, 8)


def test_it_is_told_the_noise_of_every_clip_by_its_own_embedding() -> None:
    model = trained()
    z, level = noise(2, 3, 3, 16, 16), torch.zeros(2, 3)
    plain = Conditioning(times=torch.arange(3.0).expand(2, 3), observed=torch.zeros(2, 3, dtype=torch.bool))

    def embedded(*places: float) -> Tensor:
        embedding = model.denoiser.network.embedding
        return embedding(level, torch.zeros(2, 3, 4), plain.observed, None, torch.tensor(places))

    first, second = embedded(0.0, 0.2)
    assert torch.equal(first, embedded(0.0, 0.0)[0])
    assert not torch.allclose(second, embedded(0.0, 0.0)[1])
    assert z.shape[0] == 2


@pytest.mark.parametrize(("patch", "mult"), [(2, (1, 2)), (1, (1, 1)), (4, (1,))])
def test_nothing_outside_of_the_receptive_field_counts(patch: int, mult: tuple[int, ...]) -> None:
    model = opened(trained(patch_size=patch, channel_mult=mult))
    radius = receptive_radius(model.settings.network)
    side = 2 * radius + 16
    side += -side % model.multiple
    low = noise(1, 3, 3, side // 2, side // 2)
    shown = with_uncertainty(low, 2)
    changed = shown.clone()
    changed[..., 0, :] += 1
    times, given = torch.arange(3.0)[None], torch.zeros(1, 3, dtype=torch.bool)
    z, level = noise(1, 3, 3, side, side, seed=1), torch.full((1, 3), 1.0)
    told = Conditioning(times=times, observed=given, augmentation=torch.zeros(1))
    one, other = (model.video_model.denoiser(z, level, replace(told, around=each)) for each in (shown, changed))
    rows = (one - other).abs().amax(dim=(0, 1, 2, 4))
    last = int(rows.nonzero().max())
    assert radius - model.multiple < last <= radius + patch * 2 ** (len(mult) - 1)


def test_tiles_equal_the_whole_frame_in_several_steps() -> None:
    model = opened(trained())
    low = low_resolution(noise(1, 3, 3, 96, 160).clamp(-1, 1), 2)
    times, given = torch.arange(3.0)[None], torch.zeros(1, 3, dtype=torch.bool)
    z = noise(1, 3, 3, 96, 160, seed=1)
    with torch.no_grad():
        whole, tiled = (
            ddim(model.upscaler(low, times, given, augmentation=0.0, tile=tile), z, grid(3, shift=5.0))
            for tile in (512, 32)
        )
    assert torch.allclose(whole, tiled, atol=2e-4)
    assert whole.std() > 0.1


def test_tiles_cover_a_frame_once() -> None:
    covered = torch.zeros(100, 36)
    for part in plan_tiles(100, 36, tile=32, border=8):
        covered[part.rows, part.columns] += 1
        assert part.seen_rows.start <= part.rows.start < part.rows.stop <= part.seen_rows.stop
    assert bool((covered == 1).all())


def test_a_low_resolution_video_is_antialiased_and_8_bit() -> None:
    stripes = torch.ones(1, 3, 1, 16, 16)
    stripes[..., ::2] = -1
    low = low_resolution(stripes, 2)
    assert low[..., 2:-2].abs().max() < 0.05, "stripes of a pixel are gray when made small"
    assert torch.equal(low, quantize_8bit(low))
    ramp = torch.linspace(-0.9, 0.9, 32).expand(1, 3, 1, 32, 32).contiguous()
    assert torch.allclose(enlarge(shrink(ramp, 2), 2)[..., 4:-4], ramp[..., 4:-4], atol=1e-3), "edges stay in place"


@pytest.mark.parametrize(
    "wrong",
    [{"upscale": 1}, {"upscale": 2, "motion": True}, {"upscale": 2, "attention_max_size": 16}, {"upscale": 9}],
)
def test_settings_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"upscale|super-resolution"):
        ModelSettings.model_validate({"network": NETWORK | wrong, "text": {"kind": "none"}})


def test_a_clip_of_another_size_is_refused() -> None:
    model, given = opened(trained()), torch.zeros(1, 3, dtype=torch.bool)
    denoise = model.upscaler(noise(1, 3, 3, 16, 8), torch.arange(3.0)[None], given, augmentation=0.0, tile=16)
    with pytest.raises(ValueError, match="frames are 16x16, expected 16x32"):
        denoise(noise(1, 3, 3, 16, 16), torch.zeros(1, 3))


@pytest.mark.parametrize("scale", [2, 3, 4, 7, 8])
@pytest.mark.parametrize("larger", [enlarge, with_uncertainty])
def test_a_part_of_an_enlarged_picture_is_made_of_what_is_around_it(larger: Callable, scale: int) -> None:
    """In the middle, at every edge, of one pixel: in float64 nothing but what the part depends on is left out. In
    float32 the places of a scale of 3 or 7 are rounded."""
    atol = 1e-6 if scale in (2, 4, 8) else 1e-4
    low = noise(1, 3, 2, 40, 23).double()
    whole = larger(low, scale)
    height, width = whole.shape[-2:]
    middle = slice(17 * scale + 1, 22 * scale - 1)
    for rows in (slice(0, height), slice(0, 5), middle, slice(height // 2, height // 2 + 1), slice(height - 3, height)):
        for columns in (slice(0, width), slice(0, 1), slice(9 * scale, 12 * scale), slice(width - 1, width)):
            part = in_part(larger, low, scale, rows, columns)
            assert part.shape == whole[..., rows, columns].shape
            assert torch.allclose(part, whole[..., rows, columns], rtol=0, atol=1e-9)
            single = in_part(larger, low.float(), scale, rows, columns)
            assert torch.allclose(single, larger(low.float(), scale)[..., rows, columns], rtol=1e-5, atol=atol)

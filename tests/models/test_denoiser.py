"""The denoiser: one estimate whatever the network predicts; and a tiny one learns a clip by heart."""

import pytest
import torch
from draws import randn
from tiny_model import add_noise_to_weights, tiny_network, tiny_settings
from torch import Tensor

from vidiff_cli.config.model import DiffusionSettings
from vidiff_cli.diffusion.levels import add_noise, cosine, grid
from vidiff_cli.diffusion.samplers import ddim
from vidiff_cli.diffusion.targets import PredictionType, loss_weight, target, x_from
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.denoiser import Denoiser

T, SIDE = 4, 8


def tiny(kind: PredictionType) -> Denoiser:
    network = tiny_network(base_channels=16, patch_size=2, embedding=32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Denoiser(tiny_settings(network, SIDE, fps="30000/1001", diffusion=DiffusionSettings(target=kind)))


def conditioning(b: int) -> Conditioning:
    times = (torch.arange(T) * 1001 / 30000).expand(b, T)
    return Conditioning(times=times, observed=torch.zeros(b, T, dtype=torch.bool))


@pytest.mark.parametrize("kind", ["v", "eps", "x"])
def test_the_estimate_is_read_from_the_prediction(kind: PredictionType) -> None:
    denoiser = tiny(kind)
    add_noise_to_weights(denoiser, 0.1)
    with torch.no_grad():
        z, level = randn(2, 3, T, SIDE, SIDE), randn(2, T, seed=1)
        prediction = denoiser.predict(z, level, conditioning(2))
        assert float(prediction.abs().max()) > 0.1
        assert torch.equal(denoiser(z, level, conditioning(2)), x_from(kind, prediction, z, level))
        with torch.autocast("cpu", torch.bfloat16):
            rough = denoiser(z, level, conditioning(2))
    assert denoiser.network.frame_seconds == pytest.approx(1001 / 30000, rel=1e-12), "of the exact rate"
    assert rough.dtype == torch.float32, "the estimate is float32 outside of the network"
    assert float((rough - x_from(kind, prediction, z, level)).abs().mean()) < 0.1


def test_it_learns_one_clip_by_heart_and_samples_it() -> None:
    """The x target: what v asks of almost clean frames is their noise, which is no part of the clip."""
    denoiser, steps = tiny("x"), 100
    clip = torch.full((1, 3, T, SIDE, SIDE), -1.0)
    for frame in range(T):
        clip[0, :, frame, 2:5, frame : frame + 3] = torch.tensor([1.0, 0.2, -0.5])[:, None, None]
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=4e-3, betas=(0.9, 0.99))

    def loss(b: int, seed: int) -> Tensor:
        level = cosine((torch.arange(b) + 0.5) / b, shift=-2.5)[:, None].expand(b, T)
        noise, x = randn(b, 3, T, SIDE, SIDE, seed=seed), clip.expand(b, -1, -1, -1, -1)
        prediction = denoiser.predict(add_noise(x, noise, level), level, conditioning(b))
        errors = (prediction - target("x", x, noise, level)).square().mean(dim=(1, 3, 4))
        return (errors * loss_weight("truncated", "x", level)).mean()

    with torch.no_grad():
        before = float(loss(16, seed=1000))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 4e-3 * min(1.0, 2 * (steps - step) / steps)
        optimizer.zero_grad()
        loss(4, seed=step).backward()
        optimizer.step()
    with torch.no_grad():
        assert float(loss(16, seed=1000)) < before / 20
        made = ddim(lambda z, level: denoiser(z, level.float(), conditioning(1)), randn(1, 3, T, SIDE, SIDE), grid(12))
    assert float((made - clip).abs().mean()) < 0.1

"""Laws of a network that is shown an estimate: where it copies or redraws, and where it is as if there were none.

Shapes: z and estimate (b c t h w), level, times and masks (b, t).
"""

import math
from dataclasses import replace

import pytest
import torch
from draws import randn
from tiny_model import add_noise_to_weights, tiny_network, tiny_settings
from torch import Tensor

from vidiff_cli.config.model import DiffusionSettings, NetworkSettings
from vidiff_cli.diffusion.levels import alpha_sigma
from vidiff_cli.diffusion.targets import x_from
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.denoiser import GROWTH, OPEN, SPREAD, Denoiser, distance, estimate_share, mix_estimate

B, C, T, SIDE, FPS = 3, 3, 5, 8, 8
OBSERVED = torch.tensor([[1, 0, 0, 0, 1], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]).bool()
every_kind = pytest.mark.parametrize("kind", ["x", "v", "eps"])


def denoiser(kind: str = "v", *, motion: bool = True, noise: float = 0.1) -> Denoiser:
    """A small one with noise on every weight, so that all paths are live."""
    network, diffusion = tiny_network(patch_size=2, motion=motion), DiffusionSettings(target=kind)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Denoiser(tiny_settings(network, SIDE, frames=T, fps=str(FPS), diffusion=diffusion))
    add_noise_to_weights(made, noise)
    return made.eval().requires_grad_(False)


def inputs() -> tuple[Tensor, Tensor, Conditioning]:
    conditioning = Conditioning(
        times=(torch.arange(T) / FPS).expand(B, T).contiguous(),
        observed=OBSERVED,
        estimate=randn(B, C, T, SIDE, SIDE, seed=1).clamp(-1, 1),
        uncertainty=randn(B, 1, T, SIDE, SIDE, seed=2).abs(),
        estimated_from=OBSERVED,
    )
    return randn(B, C, T, SIDE, SIDE), 2 * randn(B, T, seed=3), conditioning


def without(conditioning: Conditioning) -> Conditioning:
    return replace(conditioning, estimate=None, uncertainty=None, estimated_from=None)


@every_kind
def test_without_the_estimate_it_is_the_network_that_was_never_shown_one(kind: str) -> None:
    """Bit for bit: with none for any clip, with none for some, and for the clip of which nothing is observed."""
    model = denoiser(kind)
    z, level, conditioning = inputs()
    shown, none = model(z, level, conditioning), model(z, level, without(conditioning))
    assert torch.equal(model(z, level, replace(conditioning, estimated_from=torch.zeros_like(OBSERVED))), none)
    some = torch.tensor([[True], [False], [True]])
    assert torch.equal(model(z, level, replace(conditioning, estimated_from=OBSERVED & some))[1], none[1])
    assert torch.equal(shown[2], none[2]) and not OBSERVED[2].any()
    assert all(float((shown[clip] - none[clip]).abs().amax(dim=(0, 2, 3)).min()) > 1e-4 for clip in (0, 1))


@every_kind
def test_other_weights_start_as_those_of_a_network_without_motion(kind: str) -> None:
    """So that one which is never shown an estimate predicts the same, bit for bit."""
    kept = NetworkSettings().model_dump(mode="json")
    assert kept.pop("motion") is False and NetworkSettings.model_validate(kept) == NetworkSettings(), "of old ones"
    plain, model = denoiser(kind, motion=False, noise=0), denoiser(kind, noise=0)
    more = model.state_dict().keys() - plain.state_dict().keys()
    assert more == {f"network.{name}" for name in ("stem_estimate.conv.weight", "gate.weight", "gate.bias")}
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in plain.state_dict().items())
    assert not any(bool(model.state_dict()[name].any()) for name in more)
    z, level, conditioning = inputs()
    assert torch.equal(plain(z, level, conditioning), model(z, level, without(conditioning)))


@every_kind
def test_an_image_beside_a_clip_has_no_estimate(kind: str) -> None:
    """It is what it is without, whatever stands in its place."""
    model = denoiser(kind)
    z, level, conditioning = inputs()
    images = (torch.arange(T) >= 3).expand(B, T)
    conditioning = replace(
        conditioning, is_image=images, observed=OBSERVED & ~images, estimated_from=OBSERVED & ~images
    )
    shown = model(z, level, conditioning)
    assert torch.equal(shown[:, :, 3:], model(z, level, without(conditioning))[:, :, 3:])
    other = replace(conditioning, estimate=conditioning.estimate + images[:, None, :, None, None])  # type: ignore[operator]
    assert torch.equal(shown, model(z, level, other))
    assert conditioning.estimated[:2].tolist() == [[True] * 3 + [False] * 2] * 2


@every_kind
def test_mixing_predictions_mixes_what_they_say_of_x(kind: str) -> None:
    """x_hat of the mixture is share h + (1 - share) x_hat of the prediction: at all levels, for each pixel."""
    shape = (B, C, T, SIDE, SIDE)
    prediction, h, z = (randn(*shape, seed=seed, dtype=torch.float64) for seed in range(3))
    share = randn(B, 1, T, SIDE, SIDE, seed=4, dtype=torch.float64).sigmoid()
    level = torch.linspace(-9, 9, B * T, dtype=torch.float64).reshape(B, T)
    made = x_from(kind, mix_estimate(kind, prediction, h, share, z, level), z, level)  # type: ignore[arg-type]
    expected = share * h + (1 - share) * x_from(kind, prediction, z, level)  # type: ignore[arg-type]
    torch.testing.assert_close(made, expected, rtol=1e-7, atol=1e-9)


@every_kind
def test_the_gate_decides_how_much_is_copied(kind: str) -> None:
    """Of what motion may say beside z: all with an open gate, none with a closed one, .95 of it at the start."""
    z, level, conditioning = inputs()
    shown = conditioning.estimated[:, None, :, None, None]
    away = distance(conditioning.times * FPS, OBSERVED)
    most = torch.ones(B, T) if kind == "x" else estimate_share(level, away)
    model = denoiser(kind)
    model.network.gate.weight.zero_()  # type: ignore[union-attr]
    own = None
    for bias, opened in ((-1e4, 0.0), (0.0, 1 / (1 + math.exp(-OPEN))), (1e4, 1.0)):
        model.network.gate.bias.fill_(bias)  # type: ignore[union-attr]
        made = model(z, level, conditioning)
        own = made if own is None else own  # nothing is copied
        share = (opened * most)[:, None, :, None, None]
        expected = torch.where(shown, share * conditioning.estimate + (1 - share) * own, own)
        torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)


def test_what_is_known_twice_is_weighed_by_how_well() -> None:
    """The share of the estimate is the one of least squared error beside z / alpha, whose errors are independent."""
    level = torch.linspace(-12, 12, 9, dtype=torch.float64)[None]
    away = torch.tensor([0.3, 0.5, 1, 1, 2, 3, 4, 6, 9], dtype=torch.float64)[None]
    spread = SPREAD * away**GROWTH
    alpha, sigma = alpha_sigma(level)
    shares = torch.linspace(0, 1, 100_001, dtype=torch.float64)[:, None]
    errors = (shares * spread[0]) ** 2 + ((1 - shares) * (sigma / alpha)[0]) ** 2
    torch.testing.assert_close(estimate_share(level, away)[0], shares[errors.argmin(dim=0), 0], rtol=0, atol=1e-5)
    assert bool((estimate_share(level, torch.zeros_like(away)) == 1).all()), "an observed frame is known"


def test_the_distance_is_that_to_observed_frames_on_both_sides() -> None:
    """d1 d2 / (d1 + d2) between two, d beyond the last, 0 where observed, by times and not by places."""
    times = torch.tensor([0.0, 1.0, 1.5, 4.0, 6.0, 6.5]).expand(3, 6)
    observed = torch.tensor([[0, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1], [0] * 6]).bool()
    found = distance(times, observed)
    torch.testing.assert_close(found[0], torch.tensor([1.0, 0.0, 0.5 * 4.5 / 5, 3 * 2 / 5, 0.0, 0.5]))
    torch.testing.assert_close(found[1], torch.tensor([6.5, 5.5, 5.0, 2.5, 0.5, 0.0]))
    assert bool(found[2].isinf().all())


def test_clips_do_not_see_what_is_estimated_of_others() -> None:
    model = denoiser()
    z, level, conditioning = inputs()
    other = conditioning.estimate.clone()  # type: ignore[union-attr]
    other[0] += 1
    one, two = model(z, level, conditioning), model(z, level, replace(conditioning, estimate=other))
    assert torch.equal(one[1:], two[1:]) and not torch.equal(one[0], two[0])

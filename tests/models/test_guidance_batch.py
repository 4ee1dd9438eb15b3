"""Classifier-free guidance by one pass of 2b clips and by two of b: the same estimate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny_model import tiny_video_model
from torch import Tensor

from vidiff_cli.diffusion.guidance import classifier_free
from vidiff_cli.models import unet_model
from vidiff_cli.models.unet_model import UNetModel, model_in_training

MIXED = ("a red square moving left", "", "a blue circle")


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "motion"])
def model(request: pytest.FixtureRequest) -> UNetModel:
    network = tiny_video_model(noise=0.1, motion=request.param)
    return model_in_training(network, network.caption_reader(), device=torch.device("cpu"), dtype=torch.float32)


def inputs(prompts: Sequence[str]) -> tuple[Tensor, Tensor, dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    b = len(prompts)
    z, level = torch.randn(b, 3, 4, 4, 4, generator=generator), torch.randn(b, 4, generator=generator)
    observed = torch.tensor([[True, False, False, False]]).expand(b, -1)
    more = {"times": torch.arange(4.0).expand(b, -1) / 8, "given": observed, "prompts": prompts}
    return z, level, more | {"known": z.clamp(-1, 1), "observed": observed}


@pytest.mark.parametrize("negative", [None, "green"])
@pytest.mark.parametrize("prompts", [MIXED[:1], MIXED, ("", "")], ids=["one", "three", "none"])
def test_one_pass_is_two(model: UNetModel, monkeypatch: pytest.MonkeyPatch, prompts, negative) -> None:
    """Within 1e-5 of the largest value, prompts or none; and each clip has its own prompt."""
    z, level, more = inputs(prompts)
    passes: list[int] = []
    original = UNetModel._denoise

    def counted(self: UNetModel, conditioning: Any, z: Tensor, level: Tensor) -> Tensor:
        passes.append(len(z))
        return original(self, conditioning, z, level)

    monkeypatch.setattr(UNetModel, "_denoise", counted)
    monkeypatch.setattr(unet_model, "GUIDED_TOGETHER", 2 * len(z))
    apart = model.denoiser(**more, scale=1.0)(z, level)
    against = model.denoiser(**more | {"prompts": [negative or ""] * len(z)}, scale=1.0)(z, level)
    wanted = classifier_free(lambda *_: apart, lambda *_: against, 3.0)(z, level)
    passes.clear()
    found = model.denoiser(**more, scale=3.0, negative=negative)(z, level)
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    guided = any(prompts) or negative is not None
    assert passes == [2 * len(z) if guided else len(z)]
    assert not guided or not torch.allclose(found, apart), "guided"
    monkeypatch.setattr(unet_model, "GUIDED_TOGETHER", 1)
    passes.clear()
    assert (model.denoiser(**more, scale=3.0, negative=negative)(z, level) - found).abs().max() <= 1e-5
    assert passes == [len(z)] * (2 if guided else 1), "a large batch is not doubled"


def test_the_gradient_is_the_same(model: UNetModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconstruction guidance goes through it."""
    z, level, more = inputs(MIXED)
    gradients = []
    for at_once in (8, 1):
        monkeypatch.setattr(unet_model, "GUIDED_TOGETHER", at_once)
        leaf = z.clone().requires_grad_()
        model.denoiser(**more, scale=3.0)(leaf, level).square().sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)

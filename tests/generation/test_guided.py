"""A model guided by a worse one: the formula, its passes, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import tiny_video_model
from tiny_sampling import STUDENT, made, model_of

from vidiff_cli.config.generate import SampleSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.guided_model import guide_model
from vidiff_cli.models.unet_model import UNetModel

PROMPTS = ["a red square moving left", ""]


def worse() -> UNetModel:
    return replace(
        model_of(None), video_model=tiny_video_model(noise=0.2, seed=5).requires_grad_(False).eval(), hash="worse"
    )


def test_it_goes_from_the_guide_past_the_model_with_the_same_prompts() -> None:
    model, guide = model_of(None), worse()
    times, given = torch.arange(4).expand(2, 4) / 8, torch.zeros(2, 4, dtype=torch.bool)
    z = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    level = torch.full((2, 4), -1.0)
    both = guide_model(model, guide)
    better, lesser = (each.denoiser(times, given, PROMPTS, scale=1.0)(z, level) for each in (model, guide))
    assert not torch.allclose(better, lesser, atol=1e-3)
    for scale in (0.0, 1.0, 2.5):
        found = both.denoiser(times, given, PROMPTS, scale=scale)(z, level)
        assert torch.allclose(found, lesser + scale * (better - lesser), atol=1e-6)


def test_it_is_another_model_to_a_journal_and_in_a_sidecar() -> None:
    model, guide = model_of(None), worse()
    both, other = guide_model(model, guide), guide_model(model, replace(guide, hash="other"))
    assert len({model.hash, guide.hash, both.hash, other.hash}) == 4
    assert both.record()["guide"] == dict(guide.record()) and both.record()["sha256"] == model.hash
    assert both.history_guidance == 1 and both.steps == model.steps and both.name == model.name
    assert (made(both, steps=2) != made(model, steps=2)).any()


@pytest.mark.parametrize("pair", [(STUDENT, None), (None, STUDENT)])
def test_a_distilled_model_neither_guides_nor_is_guided(pair: tuple[Any, Any]) -> None:
    with pytest.raises(VidiffError, match="the guidance of student is in its weights: found --guide student"):
        guide_model(model_of(pair[0]), model_of(pair[1]))


def test_a_guide_of_other_clips_is_refused() -> None:
    guide = worse()
    for change, what in (({"frames": 8}, "window"), ({"width": 8}, "window")):
        other = replace(guide, settings=guide.settings.model_copy(update=change))
        with pytest.raises(VidiffError, match=f"student cannot guide student: it has another {what}.*found.*expected"):
            guide_model(model_of(None), other)


@pytest.mark.parametrize("more", [{"negative_prompt": "green"}, {"history_guidance": 2}, {"history_parts": 2}])
def test_one_kind_of_guidance_at_a_time(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give only one of them"):
        SampleSettings.model_validate({"guide": Path("early")} | more)

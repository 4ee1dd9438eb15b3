"""A distilled model takes one pass a step, and no other guidance than that in its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_sampling import STUDENT, made, model_of

from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.diffusion.levels import grid
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.models.denoiser import Denoiser


def test_it_takes_one_pass_a_step_where_its_teacher_takes_two(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, original = list[float](), Denoiser.forward

    def forward(self: Denoiser, *inputs: Any) -> torch.Tensor:
        calls.extend(inputs[1][:, 0].tolist())  # clips: guidance doubles a small batch
        return original(self, *inputs)

    monkeypatch.setattr(Denoiser, "forward", forward)
    student, teacher = model_of(STUDENT), model_of(None)
    assert (student.steps, student.guidance_scale) == (3, 2.5) != (teacher.steps, teacher.guidance_scale)
    by_default = made(student)
    assert len(calls) == 3
    assert np.array_equal(by_default, made(student, guidance_scale=2.5))
    calls.clear()
    assert np.array_equal(by_default, made(teacher, steps=3, guidance_scale=1.0)) and len(calls) == 3
    calls.clear()
    made(teacher, steps=3)
    assert len(calls) == 6
    calls.clear()
    made(student, steps=2)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"guidance_scale": 4}, "--guidance-scale 4"),
        ({"guidance_scale": 1}, "--guidance-scale 1"),
        ({"negative_prompt": "green"}, "--negative-prompt"),
        ({"negative_prompt": "", "guidance_scale": 2.5}, "--negative-prompt"),
    ],
)
def test_other_guidance_is_refused_in_a_sentence(options: dict[str, object], found: str) -> None:
    asked = GenerationSettings.model_validate(options)
    with pytest.raises(VidiffError) as error:
        resolve_sampling(model_of(STUDENT), asked)
    assert str(error.value) == (
        f"the guidance of student is in its weights, for 2.5 and no negative prompt: found {found}; "
        "leave it out, or use the model that it was distilled from."
    )
    resolve_sampling(replace(model_of(STUDENT), settings=model_of(None).settings), asked)


def test_its_levels_are_those_of_its_teacher() -> None:
    asked = GenerationSettings(shift=-1)
    with pytest.raises(VidiffError, match=r"student is distilled for the levels of its teacher: found --shift -1"):
        resolve_sampling(model_of(STUDENT), asked)
    teacher = model_of(None)
    setup, plain = resolve_sampling(teacher, asked), resolve_sampling(teacher, GenerationSettings())
    diffusion = teacher.settings.diffusion
    wanted = grid(5, low=diffusion.low, high=diffusion.high, shift=diffusion.shift - 1)
    assert torch.equal(setup.levels(5), wanted) and bool((wanted[1:-1] < plain.levels(5)[1:-1]).all())
    assert not np.array_equal(made(teacher, shift=-1.0), made(teacher))

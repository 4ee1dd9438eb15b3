"""The fewest steps that lose nothing: how they are chosen, what they cost, and the checkpoint that tells them."""

from __future__ import annotations

import pytest
import torch
from tiny_model import tiny_video_model
from torch import Tensor

from vidiff_cli.generation.fewest_steps import (
    COUNTS,
    MAX_DISTANCE,
    MAX_PROMPTS,
    MIN_SPREAD,
    PASSES,
    PASSES_OF_TRAINING,
    REFERENCE,
    SHARE,
    Clips,
    clips_for_steps,
    fewest_steps,
    measure_network,
)
from vidiff_cli.models.sample_steps import SampleSteps, read_sample_steps

CPU = torch.device("cpu")
CONVERGED = torch.randn(4, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
UNRELATED = torch.randn(CONVERGED.shape, generator=torch.Generator().manual_seed(1))


def far(distance: float) -> Tensor:
    """Samples of the same spread at this distance: 1 minus their correlation with the converged ones."""
    return (1 - distance) * CONVERGED + (1 - (1 - distance) ** 2) ** 0.5 * UNRELATED


@pytest.mark.parametrize("enough", [*COUNTS, REFERENCE])
def test_the_first_count_that_is_near_enough_is_chosen(enough: int) -> None:
    """0.8 and 1.2 times the limit; no other count is sampled."""
    asked: list[int] = []

    def sample(steps: int) -> Tensor:
        asked.append(steps)
        return CONVERGED if steps == REFERENCE else far(MAX_DISTANCE * (0.8 if steps >= enough else 1.2))

    assert fewest_steps(sample) == enough
    assert asked == [REFERENCE, *(steps for steps in COUNTS if steps <= enough)]


@pytest.mark.parametrize(("spread", "found"), [(MIN_SPREAD + 0.02, COUNTS[0]), (MIN_SPREAD - 0.02, COUNTS[1])])
def test_samples_that_draw_together_are_refused(spread: float, found: int) -> None:
    """However near they are: towards the mean of the two samples of each prompt."""
    means = CONVERGED.unflatten(0, (2, 2)).mean(dim=1, keepdim=True).expand(2, 2, *CONVERGED.shape[1:]).flatten(0, 1)
    together = means + spread**0.5 * (CONVERGED - means)
    assert fewest_steps(lambda steps: together if steps == COUNTS[0] else CONVERGED) == found


def test_what_nobody_sees_needs_no_steps() -> None:
    """Where all samples of a prompt are the same, as beside given frames that leave nothing open."""
    still = torch.zeros(4, 3, 2, 4, 4)
    assert fewest_steps(lambda steps: still + 1e-3 / steps) == COUNTS[0]


@pytest.mark.parametrize("clips", [0, 100, 20_000, 10**6, 10**9])
def test_the_measurement_is_a_small_part_of_the_training(clips: int) -> None:
    prompts = clips_for_steps(clips)
    assert 2 * prompts * PASSES <= SHARE * PASSES_OF_TRAINING * clips and prompts in (0, *range(2, MAX_PROMPTS + 1))
    assert bool(prompts) is (clips > 20_000)


def test_a_network_is_measured_alike_every_time_and_draws_no_global_number() -> None:
    video_model = tiny_video_model(noise=0.1)
    video = torch.rand(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(2)) * 2 - 1
    clips = Clips(video=video, times=torch.arange(4.0).expand(2, -1) / 8, captions=["a red square", ""])
    before = torch.get_rng_state()
    reader = video_model.caption_reader()
    found = [measure_network(video_model, clips, reader, device=CPU, dtype=torch.float32) for _ in range(2)]
    assert found[0] == found[1] and torch.get_rng_state().equal(before)
    assert found[0].free in (*COUNTS, REFERENCE) and found[0].completion in (*COUNTS, REFERENCE)


def test_a_header_tells_them() -> None:
    for steps in (SampleSteps(free=8, completion=4), SampleSteps(free=32, completion=None)):
        assert read_sample_steps(steps.as_json()) == steps
    assert read_sample_steps(None) is None
    for wrong in (
        8,
        [],
        {},
        {"free": 0, "completion": 4},
        {"free": True, "completion": 4},
        {"free": 8, "completion": "4"},
    ):
        with pytest.raises(ValueError, match="steps = "):
            read_sample_steps(wrong)

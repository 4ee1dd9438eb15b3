"""Levels of public schedules: back and forth, and the timesteps that the libraries' schedulers walk."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from vidiff_cli.diffusion.discrete import read_discrete
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.public.folder import read_folder
from vidiff_cli.models.public.networks import Process
from vidiff_cli.models.public.packages import import_package

BETAS: dict[str, dict[str, Any]] = {
    "stable-diffusion": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "animatediff": {"beta_schedule": "linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "zero-snr": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
    "cogvideox": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    | {"rescale_betas_zero_snr": True, "snr_shift_scale": 3.0, "prediction_type": "v_prediction"},
}
STEPS = (1, 4, 20, 50)
MULTISTEP = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
FLOW = ["FlowMatchEulerDiscreteScheduler", "UniPCMultistepScheduler", "DPMSolverMultistepScheduler"]
every_schedule = pytest.mark.parametrize("betas", BETAS.values(), ids=BETAS)


@every_schedule
def test_a_timestep_comes_back_from_its_level(betas: dict[str, Any]) -> None:
    schedule = read_discrete(betas)
    whole = torch.arange(1000, dtype=torch.float64)
    assert torch.equal(schedule.timestep(schedule.level(whole)), whole)
    between = torch.rand(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 999
    assert float((schedule.timestep(schedule.level(between)) - between).abs().max()) < 1e-9
    assert torch.equal(schedule.timestep(torch.tensor([math.inf, -math.inf])), torch.tensor([0.0, 999.0]).double())


def test_a_time_of_flow_comes_back_from_its_level() -> None:
    process = Process.from_config(MULTISTEP)
    s = torch.linspace(0, 1, 1001, dtype=torch.float64)
    levels = torch.tensor([process.level_at(float(u)) for u in s])
    shifted = 3 * s / (1 + 2 * s)
    assert float((process.timestep(levels).double() - 1000 * shifted).abs().max()) < 1e-4  # float32 of up to 1000
    assert levels[0] == math.inf and levels[-1] == -math.inf


@every_schedule
def test_levels_are_those_of_the_libraries(betas: dict[str, Any]) -> None:
    diffusers = import_package("diffusers")
    theirs = (diffusers.CogVideoXDDIMScheduler if "snr_shift_scale" in betas else diffusers.DDIMScheduler)(**betas)
    ours = torch.sigmoid(read_discrete(betas).levels)
    assert float((ours - theirs.alphas_cumprod.double()).abs().max()) < 2e-6


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_the_grid_is_that_of_the_configured_scheduler(scheduler: str, spacing: str, offset: int, steps: int) -> None:
    config = BETAS["stable-diffusion"] | {"timestep_spacing": spacing, "steps_offset": offset}
    theirs = getattr(import_package("diffusers"), scheduler)(**config)
    theirs.set_timesteps(steps)
    process = Process.from_config(config | {"_class_name": scheduler})
    levels = process.grid(steps)
    assert levels[-1] == math.inf and bool((levels[1:] > levels[:-1]).all())
    if (scheduler, spacing, steps) == (
        "DDIMScheduler",
        "linspace",
        1,
    ):  # theirs starts at 0
        assert theirs.timesteps.tolist() == [0] and process.timestep(levels[:-1]).tolist() == [999]
        return
    assert process.timestep(levels[:-1]).tolist() == theirs.timesteps.tolist()


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("shift", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("scheduler", FLOW)
def test_the_grid_of_flow_is_that_of_the_configured_scheduler(scheduler: str, shift: float, steps: int) -> None:
    config = {"shift": shift} if "Flow" in scheduler else MULTISTEP | {"flow_shift": shift}
    theirs = getattr(import_package("diffusers"), scheduler)(**config)
    theirs.set_timesteps(steps)
    process = Process.from_config(config | {"_class_name": scheduler})
    levels = process.grid(steps)
    assert levels[-1] == math.inf and bool((levels[1:] > levels[:-1]).all())
    assert float((torch.sigmoid(-levels / 2) - theirs.sigmas.double()).abs().max()) < 2e-6  # "unipc" starts at 1 - 1e-6


@pytest.mark.parametrize("kind", ["v_prediction", "sample", "flow_prediction"])
def test_pure_noise_has_a_finite_estimate(kind: str) -> None:
    config = MULTISTEP if kind == "flow_prediction" else BETAS["zero-snr"] | {"timestep_spacing": "trailing"}
    process = Process.from_config(config | {"prediction_type": kind})
    level = process.grid(4)[0]
    assert level == -math.inf
    z = torch.randn(1, 4, 2, 4, 4)
    told = list[float]()

    def predict(z: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        told.extend(timestep.tolist())
        return torch.tanh(z)

    x = process.denoise(predict, z, level.expand(1, 2), by_frame=False)
    assert bool(x.isfinite().all()) and told == ([1000.0] if kind == "flow_prediction" else [999.0])


def test_eps_from_pure_noise_is_refused(folder_of) -> None:
    folder = folder_of("modelscope", rescale_betas_zero_snr=True)
    with pytest.raises(VidiffError, match="cannot be sampled: found prediction_type epsilon"):
        read_folder(folder)
    for fine in ("v_prediction", "sample"):
        read_folder(folder_of("modelscope", rescale_betas_zero_snr=True, prediction_type=fine))


@pytest.mark.parametrize("steps", [0, 1001])
def test_steps_that_no_grid_has(steps: int) -> None:
    with pytest.raises(ValueError, match="steps"):
        read_discrete(BETAS["cosine"]).grid(steps)

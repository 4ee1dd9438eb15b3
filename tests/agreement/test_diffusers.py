"""Our samplers and targets against those of diffusers, another project's code for the same formulas.

How the two are brought together:

- diffusers counts timesteps t of a chain of `betas` and keeps a[t] = prod (1 - beta), which is alpha^2. Our level is
  log(a / (1 - a)); where a step of theirs ends after the last timestep, a = 1 and the level is +infinity, or a[0] with
  set_alpha_to_one=False (DDIM) or final_sigmas_type="sigma_min" (DPM-Solver++).
- Their tables are float32. They are widened to float64 after construction: the same numbers in finer arithmetic.
  DPMSolverMultistepScheduler rounds the sample to float32 in every step whatever it is given.
- `clip_sample=False`, except where clipping itself is compared. The network is one nonlinear function for both; its
  output is read as epsilon, v or sample by each side itself (`prediction_type` there, `x_from` here).
- DDIMScheduler takes t - 1000 // steps for the end of a step whatever its timesteps are. Only where `steps` divides
  1000, with "leading" or "trailing" spacing, is that the next timestep; elsewhere it walks off its own grid, and there
  is nothing to agree with. The other two look up the next timestep.
- DDPMScheduler adds noise after its last timestep unless that is 0, so its grids here end at 0.

Legend: z (b c t h w), level (b, t), a and levels (steps + 1,).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vidiff_cli.diffusion.guidance import threshold
from vidiff_cli.diffusion.levels import add_noise, alpha_sigma, per_frame
from vidiff_cli.diffusion.samplers import Denoise, ddim, ddpm, dpmpp_2m
from vidiff_cli.diffusion.targets import PredictionType, eps_from_x, loss_weight, target, v_from_x, x_from

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # between their numpy and torch
]

NAMES: dict[PredictionType, str] = {"eps": "epsilon", "v": "v_prediction", "x": "sample"}
SCHEDULES = ["linear", "scaled_linear", "squaredcos_cap_v2"]
TOLERANCE = 1e-5
EXACT = 1e-9  # where both sides compute in float64

every_kind = pytest.mark.parametrize("kind", NAMES)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES)


@pytest.fixture(scope="module")
def theirs() -> SimpleNamespace:
    """The three schedulers of diffusers, imported when a test first asks: that takes seconds."""
    reason = "diffusers is not installed (it is in the dev extra): nothing to compare with"
    for name in ("scheduling_ddim", "scheduling_ddpm", "scheduling_dpmsolver_multistep"):
        pytest.importorskip(f"diffusers.schedulers.{name}", reason=reason)
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    return SimpleNamespace(
        ddim=partial(DDIMScheduler, clip_sample=False),
        ddpm=partial(DDPMScheduler, clip_sample=False),
        dpmpp=partial(
            DPMSolverMultistepScheduler, solver_order=2, algorithm_type="dpmsolver++", solver_type="midpoint"
        ),
    )


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


Z = randn(2, 3, 4, 5, 5)


def network(kind: PredictionType, z: Tensor, alpha: Tensor, sigma: Tensor, *, gain: float = 0.8) -> Tensor:
    """A prediction of `kind`: nonlinear, different at every level, with neighboring frames and pixels mixed."""
    v = gain * torch.tanh(z.roll(1, 2) - 0.5 * z.roll(1, 4) + 2 * alpha - sigma)
    return {"v": v, "eps": sigma * z + alpha * v, "x": alpha * z - sigma * v}[kind]


def levels_of(a: Tensor) -> Tensor:
    return torch.logit(a.double())


def our_denoiser(kind: PredictionType, **more: float) -> Denoise:
    def denoise(z: Tensor, level: Tensor) -> Tensor:
        return x_from(kind, network(kind, z, *alpha_sigma(per_frame(level, z)), **more), z, level)

    return denoise


def widened(scheduler: Any) -> Any:
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    if hasattr(scheduler, "final_alpha_cumprod"):
        scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    return scheduler


def scales(scheduler: Any, timestep: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma of a timestep, from the scheduler's own table."""
    a = scheduler.alphas_cumprod[timestep]
    return a.sqrt(), (1 - a).sqrt()


def walk(scheduler: Any, kind: PredictionType, z: Tensor, *, gain: float = 0.8, **more: Any) -> list[Tensor]:
    """z after each of the scheduler's steps."""
    seen = []
    for timestep in scheduler.timesteps:
        output = network(kind, z, *scales(scheduler, timestep), gain=gain)
        z = scheduler.step(output, timestep, z, return_dict=False, **more)[0]
        seen.append(z)
    return seen


def every_state(
    sampler: Callable[..., Tensor], kind: PredictionType, z: Tensor, levels: Tensor, **more: Any
) -> list[Tensor]:
    """z after each of our steps: what the denoiser is shown next, and the result."""
    seen: list[Tensor] = []
    denoise = our_denoiser(kind)

    def spy(z: Tensor, level: Tensor) -> Tensor:
        seen.append(z)
        return denoise(z, level)

    made = sampler(spy, z, levels, **more)
    return [*seen[1:], made]


def agree(ours: list[Tensor], others: list[Tensor], tolerance: float) -> None:
    """After every step, on the maximum; the numbers are of size 1."""
    assert len(ours) == len(others)
    apart = [float((one - other).abs().max()) for one, other in zip(ours, others, strict=True)]
    assert max(apart) <= tolerance, f"{max(apart):.2e} apart after step {apart.index(max(apart)) + 1} of {len(apart)}"
    assert 0.1 < float(others[-1].abs().max()) < 100 and len({float(z.std()) for z in others}) == len(others)


def ddim_levels(scheduler: Any, final: Tensor) -> Tensor:
    return levels_of(torch.cat([scheduler.alphas_cumprod[scheduler.timesteps], final.reshape(1)]))


@every_schedule
@every_kind
@pytest.mark.parametrize("steps", [20, 50])
@pytest.mark.parametrize(("spacing", "to_one"), [("trailing", True), ("leading", True), ("leading", False)])
def test_ddim(theirs, kind: PredictionType, schedule: str, steps: int, spacing: str, to_one: bool) -> None:
    """steps_offset=0, eta=0."""
    scheduler = widened(
        theirs.ddim(
            beta_schedule=schedule, prediction_type=NAMES[kind], timestep_spacing=spacing, set_alpha_to_one=to_one
        )
    )
    scheduler.set_timesteps(steps)
    levels = ddim_levels(scheduler, scheduler.final_alpha_cumprod)
    # "leading" without alpha 1 at the end: the last step stays where it is, and its network is asked for nothing
    others = walk(scheduler, kind, Z)
    ours = every_state(ddim, kind, Z, levels)
    if not to_one:
        assert torch.equal(ours[-1], ours[-2])
        ours, others = ours[:-1], [*others[:-2], others[-1]]
    agree(ours, others, EXACT)


@every_kind
def test_ddim_with_an_offset(theirs, kind: PredictionType) -> None:
    """steps_offset=1, as latent models have it: timesteps 951, 901, ... 1, and from there to a[0] or to 1."""
    for to_one in (True, False):
        scheduler = widened(theirs.ddim(prediction_type=NAMES[kind], steps_offset=1, set_alpha_to_one=to_one))
        scheduler.set_timesteps(20)
        assert scheduler.timesteps[-1] == 1
        ours = every_state(ddim, kind, Z, ddim_levels(scheduler, scheduler.final_alpha_cumprod))
        agree(ours, walk(scheduler, kind, Z), EXACT)


@pytest.mark.parametrize("kind", ["v", "x"])
@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_from_no_signal_at_all(theirs, name: str, kind: PredictionType) -> None:
    """rescale_betas_zero_snr: a is 0 and the level -infinity at the first timestep, where epsilon would say nothing."""
    spacing = {"ddim": "trailing", "ddpm": "linspace"}[name]  # the one ends well, the other at 0: see above
    chain = {"prediction_type": NAMES[kind], "rescale_betas_zero_snr": True, "timestep_spacing": spacing}
    scheduler = widened(getattr(theirs, name)(**chain))
    scheduler.set_timesteps(25)
    levels = ddim_levels(scheduler, torch.ones((), dtype=torch.float64))
    assert levels[0] == -torch.inf and levels[-1] == torch.inf
    seeded = [{"generator": torch.Generator().manual_seed(4)} if name == "ddpm" else {} for _ in range(2)]
    others = walk(scheduler, kind, Z, **seeded[0])
    ours = every_state({"ddim": ddim, "ddpm": ddpm}[name], kind, Z, levels, **seeded[1])
    agree(ours, others, EXACT)


@every_kind
def test_a_clipped_estimate_changes_the_noise_with_it(theirs, kind: PredictionType) -> None:
    """threshold(denoise) is their clip_sample with use_clipped_model_output: epsilon follows from the clipped x_hat.

    Their default keeps the unclipped epsilon beside the clipped x_hat, which together are not z any more.
    """
    scheduler = widened(
        theirs.ddim(prediction_type=NAMES[kind], timestep_spacing="trailing", clip_sample=True, clip_sample_range=1.0)
    )
    scheduler.set_timesteps(20)
    levels = ddim_levels(scheduler, scheduler.final_alpha_cumprod)
    others = walk(scheduler, kind, Z, gain=4.0, use_clipped_model_output=True)
    ours = ddim(threshold(our_denoiser(kind, gain=4.0)), Z, levels)
    assert float((ours - others[-1]).abs().max()) <= EXACT
    free = ddim(our_denoiser(kind, gain=4.0), Z, levels)
    assert float((ours - free).abs().max()) > 0.1, "nothing was clipped"


def test_the_dynamic_threshold(theirs) -> None:
    """The same bound per sample over all of a video. A quantile between two values is theirs by interpolation, ours
    the nearer of the two; the largest value is the same for both."""
    x = 3 * randn(2, 3, 4, 5, 5, seed=1) * torch.tensor([1.0, 0.1])[:, None, None, None, None]
    for ratio in (1.0, 0.995, 0.9):
        scheduler = theirs.ddim(thresholding=True, dynamic_thresholding_ratio=ratio, sample_max_value=1e9)
        other = scheduler._threshold_sample(x)
        ours = threshold(lambda z, level: x, percentile=ratio)(Z, torch.zeros(2, 4))
        ordered = x[0].abs().flatten().sort().values
        near = ordered[round(ratio * len(ordered)) - 2 :][:3]
        allowed = EXACT if ratio == 1.0 else float(near.max() / near.min() - 1)
        assert float((ours - other).abs().max()) <= allowed < 0.2


@every_schedule
@every_kind
@pytest.mark.parametrize(("variance", "gamma"), [("fixed_small", 0.0), ("fixed_large", 1.0)])
@pytest.mark.parametrize("spacing", ["leading", "linspace"])
def test_ddpm(theirs, kind: PredictionType, schedule: str, variance: str, gamma: float, spacing: str) -> None:
    """The same noise: both draw once a step, but for the last, from generators of one seed."""
    scheduler = widened(
        theirs.ddpm(
            beta_schedule=schedule, prediction_type=NAMES[kind], variance_type=variance, timestep_spacing=spacing
        )
    )
    scheduler.set_timesteps(30)
    assert scheduler.timesteps[-1] == 0
    levels = ddim_levels(scheduler, torch.ones((), dtype=torch.float64))
    others = walk(scheduler, kind, Z, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(7)
    agree(every_state(ddpm, kind, Z, levels, generator=generator, gamma=gamma), others, EXACT)


@pytest.mark.parametrize("gamma", [0.1, 0.3, 0.9])
def test_ddpm_between_the_two_variances(theirs, gamma: float) -> None:
    """gamma interpolates the logarithms, as a "learned_range" variance does with (output + 1) / 2."""
    scheduler = widened(theirs.ddpm(prediction_type="v_prediction", variance_type="learned_range"))
    scheduler.set_timesteps(25)
    levels = ddim_levels(scheduler, torch.ones((), dtype=torch.float64))
    z, generator, others = Z, torch.Generator().manual_seed(8), []
    for timestep in scheduler.timesteps:
        v = network("v", z, *scales(scheduler, timestep))
        output = torch.cat([v, torch.full_like(v, 2 * gamma - 1)], dim=1)
        z = scheduler.step(output, timestep, z, generator=generator, return_dict=False)[0]
        others.append(z)
    generator = torch.Generator().manual_seed(8)
    agree(every_state(ddpm, "v", Z, levels, generator=generator, gamma=gamma), others, EXACT)


def test_ddpm_is_ddim_with_eta_1(theirs) -> None:
    scheduler = widened(theirs.ddim(prediction_type="v_prediction", timestep_spacing="trailing"))
    scheduler.set_timesteps(20)
    levels = ddim_levels(scheduler, scheduler.final_alpha_cumprod)
    others = walk(scheduler, "v", Z, eta=1.0, generator=torch.Generator().manual_seed(9))
    agree(every_state(ddpm, "v", Z, levels, generator=torch.Generator().manual_seed(9)), others, EXACT)


@every_schedule
@every_kind
@pytest.mark.parametrize("steps", [14, 15, 40])
@pytest.mark.parametrize(
    ("spacing", "more"),
    [
        ("trailing", {"final_sigmas_type": "zero"}),
        ("linspace", {"final_sigmas_type": "zero"}),
        ("leading", {"final_sigmas_type": "sigma_min", "euler_at_final": True}),
    ],
)
def test_dpmpp_2m(theirs, kind: PredictionType, schedule: str, steps: int, spacing: str, more: dict[str, Any]) -> None:
    """Our last step is always first order. Theirs is with a final sigma of zero; otherwise with euler_at_final, or
    below 15 steps with lower_order_final."""
    scheduler = widened(
        theirs.dpmpp(beta_schedule=schedule, prediction_type=NAMES[kind], timestep_spacing=spacing, **more)
    )
    scheduler.set_timesteps(steps)
    final = scheduler.alphas_cumprod[0] if "euler_at_final" in more else torch.ones((), dtype=torch.float64)
    a = torch.cat([scheduler.alphas_cumprod[scheduler.timesteps], final.reshape(1)])
    scheduler.sigmas = ((1 - a) / a).sqrt()
    agree(every_state(dpmpp_2m, kind, Z, levels_of(a)), walk(scheduler, kind, Z), TOLERANCE)


def test_dpmpp_2m_below_15_steps(theirs) -> None:
    """lower_order_final alone makes the last step first order there."""
    scheduler = widened(
        theirs.dpmpp(prediction_type="v_prediction", lower_order_final=True, final_sigmas_type="sigma_min")
    )
    scheduler.set_timesteps(12)
    a = torch.cat([scheduler.alphas_cumprod[scheduler.timesteps], scheduler.alphas_cumprod[:1]])
    agree(every_state(dpmpp_2m, "v", Z, levels_of(a)), walk(scheduler, "v", Z), TOLERANCE)


@every_kind
def test_single_steps(theirs, kind: PredictionType) -> None:
    """One step from any timestep to any later one, and their estimate of x beside it."""
    for start, stop in ((999, 998), (999, 499), (500, 499), (421, 17), (37, 0), (1, 0)):
        for sampler, scheduler in ((ddpm, theirs.ddpm(prediction_type=NAMES[kind])), (dpmpp_2m, None)):
            if scheduler is None:
                scheduler = theirs.dpmpp(prediction_type=NAMES[kind])
            widened(scheduler).set_timesteps(timesteps=[start, stop])
            a = scheduler.alphas_cumprod[[start, stop]]
            if sampler is dpmpp_2m:
                scheduler.sigmas = torch.cat([((1 - a) / a).sqrt(), torch.zeros(1, dtype=torch.float64)])
            output = network(kind, Z, *scales(scheduler, torch.tensor(start)))
            more = {"generator": torch.Generator().manual_seed(5)} if sampler is ddpm else {}
            stepped = scheduler.step(output, torch.tensor(start), Z, return_dict=False, **more)
            levels = torch.cat([levels_of(a), torch.full((1,), torch.inf, dtype=torch.float64)])
            more = {"generator": torch.Generator().manual_seed(5)} if sampler is ddpm else {}
            ours = every_state(sampler, kind, Z, levels, **more)[0]
            assert float((ours - stepped[0]).abs().max()) <= (EXACT if sampler is ddpm else TOLERANCE)
            if sampler is ddpm:
                x = our_denoiser(kind)(Z, levels[:1].expand(2, 4))
                assert float((x - stepped[1]).abs().max()) <= EXACT


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_any_chain_of_any_length(theirs, data: st.DataObject) -> None:
    """Uneven levels: random betas, and for the two that take them, random timesteps of the chain. (Where neighbors are
    a hundred times apart, the float32 that diffusers casts DPM-Solver++ to is no longer good for 1e-5.)"""
    betas = data.draw(st.lists(st.floats(0.01, 0.3), min_size=2, max_size=24))
    kind = data.draw(st.sampled_from(list(NAMES)))
    chosen = data.draw(st.sets(st.integers(1, len(betas) - 1))) | {0}
    chain = {"num_train_timesteps": len(betas), "trained_betas": betas, "prediction_type": NAMES[kind]}
    one = torch.ones(1, dtype=torch.float64)

    def compare(sampler: Callable[..., Tensor], scheduler: Any, tolerance: float, seed: int | None) -> None:
        a = torch.cat([scheduler.alphas_cumprod[scheduler.timesteps], one])
        if hasattr(scheduler, "sigmas"):
            scheduler.sigmas = ((1 - a) / a).sqrt()
        more = [{"generator": torch.Generator().manual_seed(seed)} if seed is not None else {} for _ in range(2)]
        others = walk(scheduler, kind, Z, **more[0])
        ours = every_state(sampler, kind, Z, levels_of(a), **more[1])
        assert max(float((x - y).abs().max()) for x, y in zip(ours, others, strict=True)) <= tolerance

    scheduler = widened(theirs.ddim(**chain))
    scheduler.set_timesteps(len(betas))
    compare(ddim, scheduler, EXACT, None)
    for sampler, scheduler, tolerance, seed in (
        (ddpm, theirs.ddpm(**chain), EXACT, 3),
        (dpmpp_2m, theirs.dpmpp(final_sigmas_type="zero", **chain), TOLERANCE, None),
    ):
        widened(scheduler).set_timesteps(timesteps=sorted(chosen, reverse=True))
        compare(sampler, scheduler, tolerance, seed)


@every_schedule
def test_noisy_frames_and_velocities(theirs, schedule: str) -> None:
    """add_noise is `diffuse`, get_velocity the v target; each clip at its own timestep."""
    scheduler = widened(theirs.ddpm(beta_schedule=schedule))
    for timesteps in (torch.tensor([0, 999]), torch.tensor([1, 500]), torch.tensor([998, 250])):
        x, noise = randn(2, 3, 4, 5, 5, seed=1), randn(2, 3, 4, 5, 5, seed=2)
        level = levels_of(scheduler.alphas_cumprod[timesteps])[:, None].expand(2, 4)
        z, v = scheduler.add_noise(x, noise, timesteps), scheduler.get_velocity(x, noise, timesteps)
        assert float((add_noise(x, noise, level) - z).abs().max()) <= EXACT
        assert float((target("v", x, noise, level) - v).abs().max()) <= EXACT
        assert float((v_from_x(x, z, level) - v).abs().max()) <= 1e-7  # it divides by sigma, which is small at t = 0
        assert float((eps_from_x(x, z, level) - noise).abs().max()) <= 1e-7


def test_min_snr_weights(theirs) -> None:
    """As diffusers' training scripts weigh the error of the prediction, from a scheduler's table with gamma = 5:
    min(SNR, 5) / SNR for epsilon, min(SNR, 5) / (SNR + 1) for v, min(SNR, 5) for x."""
    scheduler = widened(theirs.ddpm(beta_schedule="squaredcos_cap_v2"))
    a = scheduler.alphas_cumprod
    snr = (a.sqrt() / (1 - a).sqrt()) ** 2
    weights = snr.clamp(max=5.0)
    assert 0.1 < float((snr > 5).double().mean()) < 0.9
    for kind, expected in (("eps", weights / snr), ("v", weights / (snr + 1)), ("x", weights)):
        ours = loss_weight("min-snr", kind, levels_of(a)[None])[0]
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=0)

"""What sampling shows the network is what training showed it, and each way to condition is what its name says.

A model of fresh noisy weights: nothing here needs it to know anything. Shapes: z (b c t h w), level and given (b t).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.config.model import DiffusionSettings, ModelSettings, NetworkSettings, TextSettings
from vidiff_cli.diffusion.guidance import clamp_known, hold_known, reconstruct, split_observed
from vidiff_cli.diffusion.levels import alpha_sigma, cosine, grid
from vidiff_cli.diffusion.noise import Prior, seeded, white
from vidiff_cli.diffusion.samplers import ddpm
from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import plan
from vidiff_cli.generation.budget import count_passes
from vidiff_cli.generation.generate import generate_clips
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.models import unet_model
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.denoiser import Denoiser
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.models.video_model import new_video_model
from vidiff_cli.motion import estimate_clip
from vidiff_cli.pixels import clip_from_uint8
from vidiff_cli.text.learned import collect_vocabulary
from vidiff_cli.timeline import Timeline, extension, interpolation

T, SIDE, STEPS = 4, 8, 3
DIFFUSION = DiffusionSettings(low=-11.0, high=13.0, shift=-1.5)  # nothing of it is a default
CAPTIONS = ["a red square", "a blue circle"]


def network_of(*, motion: bool) -> UNetModel:
    """A small one with noise on every weight, so that all paths are live."""
    network = NetworkSettings(
        base_channels=8, channel_mult=(1, 2), patch_size=1, head_dim=8, embedding=16, context_dim=8, motion=motion
    )
    text = TextSettings(vocabulary=collect_vocabulary(CAPTIONS))
    values = {"width": SIDE, "height": SIDE, "frames": T, "fps": "8", "frame_strides": (1, 2)}
    settings = ModelSettings.model_validate(values | {"network": network, "diffusion": DIFFUSION, "text": text})
    video_model, generator = new_video_model(settings, seed=0), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in video_model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    video_model.requires_grad_(False).eval()
    cpu = torch.device("cpu")
    return UNetModel(
        video_model=video_model,
        reader=video_model.caption_reader(),
        settings=settings,
        path=Path(),
        hash="",
        clips_seen=0,
        device=cpu,
        dtype=torch.float32,
    )


@pytest.fixture(scope="module")
def model() -> UNetModel:
    return network_of(motion=False)


@dataclass(frozen=True)
class Shown:
    """One call of the network."""

    z: Tensor
    level: Tensor
    told: Conditioning


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Shown]:
    """Every call of the network while the test runs."""
    calls: list[Shown] = []
    original = Denoiser.forward

    def forward(self: Denoiser, z: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
        calls.append(Shown(z.detach().clone(), level.clone(), conditioning))
        return original(self, z, level, conditioning)

    monkeypatch.setattr(Denoiser, "forward", forward)
    monkeypatch.setattr(unet_model, "WINDOWS_AT_ONCE", 1)  # windows one by one
    monkeypatch.setattr(unet_model, "GUIDED_TOGETHER", 1)  # and the passes of guidance
    return calls


def settings_of(**more: Any) -> GenerationSettings:
    return GenerationSettings.model_validate({"steps": STEPS, "dtype": "fp32", "history_guidance": 1.0} | more)


def pixels(count: int) -> np.ndarray:
    """Frames (n h w c) that all differ, in all 256 values."""
    return np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def make(
    model: UNetModel, line: Timeline, asked: GenerationSettings, condition: str, prompts: Sequence[str] = ("",)
) -> Tensor:
    """The video of a timeline whose given frames are `pixels`."""
    total, given = len(line.times), sorted(line.given)
    frames = np.zeros((len(prompts), total, SIDE, SIDE, 3), np.uint8)
    frames[:, given] = pixels(len(given))
    job = VideoJob(
        windows=plan(total, given, window=T, overlap=2),
        times=line.times,
        prompts=lambda number: prompts,
        seeds=list(range(len(prompts))),
    )
    setup = resolve_sampling(model, asked.model_copy(update={"condition": condition}))
    return torch.cat([clip_from_uint8(clip) for clip in generate_clips(model, setup, job, frames)])


LINES = {
    "extension": extension(3, Fraction(8), new=4),
    "before": extension(3, Fraction(8), new=4, before=True),
    "uneven": interpolation(4, Fraction(8), fps=Fraction(20)),
    "none given": extension(0, Fraction(8), new=7),
}


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("condition", ["learned", "replacement"])
def test_the_network_is_shown_what_training_showed_it(model, shown, name, condition) -> None:
    """The model's own levels, the same times in seconds, the given frames in place, clean and told of."""
    line = LINES[name]
    video = make(model, line, settings_of(sampler="ddim"), condition)
    windows = plan(len(line.times), sorted(line.given), window=T, overlap=2)
    levels = grid(STEPS, low=DIFFUSION.low, high=DIFFUSION.high, shift=DIFFUSION.shift)[:-1]
    assert len(shown) == STEPS * len(windows)
    for number, call in enumerate(shown):
        window, level = windows[number // STEPS], levels[number % STEPS]
        told = torch.tensor([condition == "learned" and frame in window.observed for frame in window.frames])
        assert torch.equal(call.told.observed[0], told) and call.told.is_image is None
        torch.testing.assert_close(call.level[0][~told].double(), level.expand(int((~told).sum())), rtol=1e-6, atol=0)
        assert (call.level[0][told] == DIFFUSION.high).all(), "as in training: the clean end of the model's levels"
        clean = alpha_sigma(torch.tensor(DIFFUSION.high, dtype=torch.float64))[0]
        there = video[:, :, list(window.frames)][:, :, told]
        torch.testing.assert_close(call.z[:, :, told], float(clean) * there, rtol=0, atol=1e-6)
        seconds = torch.tensor([float(line.times[frame]) for frame in window.frames])
        torch.testing.assert_close(call.told.times[0], seconds - seconds[0], rtol=0, atol=1e-6)
        assert call.told.tokens is None, "no prompt is the null text"
    given = sorted(line.given)
    assert torch.equal(video[:, :, given], clip_from_uint8(pixels(len(given)))[:, :, : len(given)])


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("condition", ["learned", "replacement", "reconstruction"])
def test_the_network_is_shown_what_motion_makes_of_a_window(shown: list[Shown], name: str, condition: str) -> None:
    """Of its given frames alone, by their times, for every way to condition, with a prompt and without; nothing where
    no frame is given."""
    line = LINES[name]
    video = make(network_of(motion=True), line, settings_of(guidance_scale=3.0), condition, (CAPTIONS[0],))
    windows = plan(len(line.times), sorted(line.given), window=T, overlap=2)
    passes = len(shown) // len(windows)
    assert passes == 2 * STEPS
    for number, call in enumerate(shown):
        window, told = windows[number // passes], call.told
        assert (told.tokens is None) == (number % 2 == 0), "first without the prompt"
        if not window.observed:
            assert told.estimate is None and told.uncertainty is None and not told.estimated.any()
            continue
        observed = torch.tensor([[frame in window.observed for frame in window.frames]])
        estimate, uncertainty = estimate_clip(video[:, :, list(window.frames)], observed, told.times)
        assert torch.equal(told.estimated_from, observed) and told.estimated.all()  # type: ignore[arg-type]
        assert torch.equal(told.estimate, estimate) and torch.equal(told.uncertainty, uncertainty)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize(("prompt", "passes"), [("", 2), (CAPTIONS[0], 3)])
def test_history_guidance_asks_once_more_without_the_given_frames(model, shown, name, prompt: str, passes: int) -> None:
    """Of windows that observe frames: noise of the lowest level in their place, the same in every step, no flags, and
    the prompt kept. Text guidance takes the third pass, with the frames and without the prompt."""
    line, low = LINES[name], torch.tensor(DIFFUSION.low)
    asked = settings_of(sampler="ddim", history_guidance=1.5, guidance_scale=2.0)
    make(model, line, asked, "learned", (prompt,))
    windows = plan(len(line.times), sorted(line.given), window=T, overlap=2)
    counts = [passes if window.observed else passes - 1 for window in windows]
    assert len(shown) == STEPS * sum(counts)
    for number, (window, count) in enumerate(zip(windows, counts, strict=True)):
        seen = torch.tensor([frame in window.observed for frame in window.frames])
        own, others = shown[: STEPS * count], shown[STEPS * count :]
        shown[:] = others
        if not window.observed:
            continue
        free = [call for call in own if not call.told.observed.any()]
        kept = [call for call in own if torch.equal(call.told.observed[0], seen)]
        assert len(free) == STEPS and len(kept) == STEPS * (passes - 1)
        worded = [call for call in kept if (call.told.tokens is None) == (not prompt)]
        noise = torch.randn(1, 3, T, SIDE, SIDE, generator=seeded(0, number, 1))
        alpha, sigma = (float(scale) for scale in alpha_sigma(low.double()))
        for call, clean in zip(free, worded, strict=True):
            assert (call.told.tokens is None) == (not prompt) and call.told.estimate is None
            assert (call.level[0][seen] == low).all() and torch.equal(call.level[:, ~seen], clean.level[:, ~seen])
            hidden = sigma * noise[:, :, seen]
            torch.testing.assert_close(call.z[:, :, seen], hidden, rtol=0, atol=2 * alpha)
            assert torch.equal(call.z[:, :, ~seen], clean.z[:, :, ~seen])


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("scale", [1.0, 1.5])
@pytest.mark.parametrize(("prompt", "asked"), [("", 1), (CAPTIONS[0], 2)])
def test_history_parts_show_one_part_of_the_given_frames_at_a_time(
    model, shown, name, scale: float, prompt: str, asked: int
) -> None:
    """The network is told of it alone, and the others are noise of the lowest level; as many passes are counted."""
    line, low, own = LINES[name], DIFFUSION.low, with_settings(model, frame_levels=True)
    options = settings_of(sampler="ddim", history_guidance=scale, history_parts=2, guidance_scale=2.0)
    make(own, line, options, "learned", (prompt,))
    windows = plan(len(line.times), sorted(line.given), window=T, overlap=2)
    for window in windows:
        seen = torch.tensor([frame in window.observed for frame in window.frames])
        parts = [part[0] for part in split_observed(seen[None], 2)]
        count = asked * len(parts) + bool(scale != 1 and window.observed)
        calls, shown[:] = shown[: STEPS * count], shown[STEPS * count :]
        told = [[bool(torch.equal(call.told.observed[0], part)) for call in calls] for part in parts]
        assert [sum(each) for each in told] == [STEPS * asked] * len(parts)
        for call in calls:
            hidden, clean = seen & ~call.told.observed[0], call.told.observed[0]
            assert (call.level[0][hidden] == low).all() and (call.level[0][clean] == DIFFUSION.high).all()
    assert not shown
    job = VideoJob(windows=windows, times=line.times, prompts=lambda number: (prompt,), seeds=[0])
    counted = count_passes(resolve_sampling(own, options), job)
    most = [asked * 2 + (scale != 1) if window.observed else asked for window in windows]
    assert counted == STEPS * sum(most)


def test_history_guidance_of_scale_one_changes_nothing_and_another_does(model: UNetModel) -> None:
    line, one = LINES["extension"], settings_of()
    plain = make(model, line, one, "learned")
    assert torch.equal(plain, make(model, line, settings_of(history_level=1.0), "learned"))
    assert not torch.equal(plain, make(model, line, settings_of(history_guidance=3.0), "learned"))


def test_the_default_scale_of_history_guidance_is_that_of_the_models_kind(model: UNetModel) -> None:
    """1.5 where it was measured to help; none where given frames act otherwise, or one step is enough."""
    default = settings_of(history_guidance=None)
    assert resolve_sampling(model, default).history_guidance == 1.5
    assert resolve_sampling(model, default.model_copy(update={"steps": 1})).history_guidance == 1.0
    for own, asked in (
        (with_settings(model, conditioning="none"), default),
        (model, default.model_copy(update={"condition": "replacement"})),
        (model, settings_of(condition="reconstruction", history_guidance=1.0)),
    ):
        assert resolve_sampling(own, asked).history_guidance == 1.0
    assert resolve_sampling(model, settings_of(history_guidance=2.0, steps=1)).history_guidance == 2.0


def test_history_guidance_of_frames_that_are_not_shown_is_refused(model: UNetModel) -> None:
    sentence = r"--history-guidance is for given frames that the network is shown: found {}; {}"
    for own, condition, found, fix in (
        (model, "replacement", "--condition replacement", "leave out --condition"),
        (with_settings(model, conditioning="none"), "auto", "the condition reconstruction", "leave it out, or name"),
    ):
        with pytest.raises(VidiffError, match=sentence.format(found, fix)):
            resolve_sampling(own, settings_of(history_guidance=1.5, condition=condition))
    with pytest.raises(
        VidiffError, match=r"a noise level for every frame: found --history-level 0\.5, expected 1; leave"
    ):
        resolve_sampling(model, settings_of(history_level=0.5))
    with pytest.raises(VidiffError, match="for every frame: found --history-parts 2, expected 1; leave"):
        resolve_sampling(model, settings_of(history_parts=2))
    with pytest.raises(VidiffError, match="--history-parts is for given frames that the network is shown"):
        resolve_sampling(model, settings_of(history_parts=2, condition="replacement"))


def noisy(z: Tensor, level: Tensor) -> Tensor:
    """A denoiser of frames that hang together, far outside the pixel range."""
    return 3 * torch.tanh(z + z.roll(1, 2)) + 0.1 * level[:, None, :, None, None].to(z.dtype)


def random_clips(count: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, T, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("sampler", "weight"), [("dpmpp-2m", 10.0), ("ddim", 20.0), ("ddpm", 10.0)])
def test_conditions_by_name(model: UNetModel, sampler: str, weight: float) -> None:
    """Reconstruction: a gradient through the denoiser, by default with the weight of its sampler and frame size."""
    weight *= (16 / SIDE) ** (2 / 3)
    z, known = random_clips(2), random_clips(2, seed=1)
    level, observed = torch.full((2, T), -0.5), (torch.arange(T) < 2).expand(2, T)
    expected = {
        ("reconstruction", None): clamp_known(reconstruct(noisy, known, observed, weight), known, observed),
        ("reconstruction", 3.0): clamp_known(reconstruct(noisy, known, observed, 3.0), known, observed),
        ("reconstruction", 0.0): clamp_known(noisy, known, observed),
        ("replacement", None): clamp_known(noisy, known, observed),
        ("learned", None): hold_known(noisy, known, observed, level=DIFFUSION.high),
    }
    for (condition, asked), denoise in expected.items():
        more = {} if asked is None else {"reconstruction_weight": asked}
        setup = resolve_sampling(model, settings_of(sampler=sampler, condition=condition, **more))
        assert torch.equal(setup.conditioner(noisy, known, observed)(z, level), denoise(z, level)), condition


@pytest.mark.parametrize(("condition", "langevin"), [("reconstruction", 0.1), ("replacement", 0.0), ("learned", 0.0)])
def test_ddpm_corrects_where_it_guides(model: UNetModel, condition: str, langevin: float) -> None:
    """By default with reconstruction only, for which it was tuned; by --langevin wherever it is asked for."""
    z = random_clips(2)

    def run(**more: Any) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        sample = resolve_sampling(model, settings_of(sampler="ddpm", condition=condition, **more)).sample
        return sample(noisy, z, lambda like, _: white(like, generator))

    generator = torch.Generator().manual_seed(1)
    levels = grid(STEPS, low=DIFFUSION.low, high=DIFFUSION.high, shift=DIFFUSION.shift)
    clipped = ddpm(lambda z, level: noisy(z, level).clamp(-1, 1), z, levels, generator=generator, correct=langevin)
    assert torch.equal(run(), clipped)
    assert torch.equal(run(langevin=langevin), clipped) and not torch.equal(run(langevin=0.5), clipped)


@pytest.mark.parametrize(("sampler", "asked"), [("ddpm", "static"), ("ddim", 0.9), ("dpmpp-2m", "static")])
def test_every_sampler_is_handed_bounded_estimates(model: UNetModel, sampler: str, asked: str | float) -> None:
    """After the last step nothing but the estimate is left: it lies within the pixel range."""
    sample = resolve_sampling(model, settings_of(sampler=sampler, threshold=asked, condition="replacement")).sample
    z = random_clips(2)
    made = sample(noisy, z, lambda like, _: torch.zeros_like(like))
    assert float(made.abs().max()) <= 1 + 1e-2 and float(noisy(z, torch.zeros(2, T)).abs().max()) > 2


def test_guidance_scale_runs_from_the_null_text_past_the_prompt(model: UNetModel) -> None:
    """Also in one batch: the clip without a prompt has the null text, as clips without a caption have in training."""
    z, level = random_clips(), torch.zeros(2, T)
    times, given = torch.arange(T).expand(2, T) / 8, torch.zeros(2, T, dtype=torch.bool)

    def estimates(prompts: list[str], scale: float) -> Tensor:
        with torch.no_grad():
            return model.denoiser(times, given, prompts, scale=scale)(z.expand(2, -1, -1, -1, -1), level)

    null, words = estimates(["", ""], 1.0), estimates([CAPTIONS[1]] * 2, 1.0)
    assert float((null - words).abs().amax(dim=(1, 2, 3, 4)).min()) > 1e-2
    assert torch.equal(estimates(["", ""], 5.0), null), "nothing to guide towards"
    for scale in (0.0, 0.5, 1.0, 3.0):
        mixed = estimates(["", CAPTIONS[1]], scale)
        torch.testing.assert_close(mixed[0], null[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(mixed[1], (null + scale * (words - null))[1], rtol=0, atol=1e-5)


def test_numbers_that_are_no_pixels_are_an_error_not_a_black_video(model, monkeypatch) -> None:
    """A network can overflow in half precision; a clamp at the end would hide it."""
    original = Denoiser.forward
    monkeypatch.setattr(Denoiser, "forward", lambda *given: original(*given) * math.nan)
    with pytest.raises(VidiffError, match=r"not finite: found NaN in window 1 of \d; use --dtype fp32"):
        make(model, LINES["extension"], settings_of(), "replacement")


@pytest.mark.parametrize("command", ["extend", "before", "interpolate"])
def test_a_task_shows_the_network_the_frames_of_its_input(settings, clip, frames_of, shown, command: str) -> None:
    """At their places and in their order: the result holds copies, which would look right all the same."""
    source = clip(2)
    task, more = {
        "extend": (extend, {"num_frames": 2}),
        "before": (extend, {"num_frames": 2, "before": True}),
        "interpolate": (interpolate, {"factor": 3}),
    }[command]
    report = task(settings(command.replace("before", "extend"), input=source, condition="learned", **more))
    call = shown[-1]
    places = {"extend": [0, 1], "before": [2, 3], "interpolate": [0, 3]}[command]
    assert report.windows == 1 and call.told.observed[0].nonzero().flatten().tolist() == places
    torch.testing.assert_close(call.z[:, :, places], clip_from_uint8(frames_of(source)), rtol=0, atol=1e-4)


def with_settings(model: UNetModel, **more: Any) -> UNetModel:
    """The same weights, of a model that says other things of itself."""
    return replace(model, settings=ModelSettings.model_validate(model.settings.model_dump() | more))


@pytest.mark.parametrize("name", ["mixed", "progressive", "lowpass", "shared"])
def test_sampling_draws_the_noise_that_the_model_was_trained_with(model, shown, name: str) -> None:
    """The first z of every window, by seed and window, with a prompt or without; and the gradient of reconstruction
    guidance, which is multiplied by its covariance."""
    own = with_settings(model, diffusion=DIFFUSION.model_dump() | {"noise": name, "noise_strength": 0.6})
    prior = Prior(name=name, strength=0.6)
    for prompt in ("", CAPTIONS[0]):
        shown.clear()
        make(own, LINES["none given"], settings_of(guidance_scale=1.0), "replacement", (prompt,))
        for number, call in enumerate(shown[::STEPS]):
            noise = torch.randn(1, 3, T, SIDE, SIDE, generator=seeded(0, number))
            torch.testing.assert_close(call.z, prior.correlate(noise), rtol=0, atol=1e-6)
    z, known = random_clips(2), random_clips(2, seed=1)
    level, observed = torch.full((2, T), -0.5), (torch.arange(T) < 2).expand(2, T)
    asked = settings_of(condition="reconstruction", reconstruction_weight=10.0)
    made = resolve_sampling(own, asked).conditioner(noisy, known, observed)(z, level)
    right = reconstruct(noisy, known, observed, 10.0, covariance=prior.covariance(T))
    assert torch.equal(made, clamp_known(right, known, observed)(z, level))
    assert not torch.allclose(made, clamp_known(reconstruct(noisy, known, observed, 10.0), known, observed)(z, level))


def test_context_noise_is_that_of_training(model: UNetModel, shown: list[Shown]) -> None:
    """Given frames at their place on the model's own schedule, with noise of that level, and told as given; the video
    holds them as they are."""
    own = with_settings(model, context_noise=0.5)
    line, asked = LINES["extension"], settings_of(context_noise=0.3)
    assert resolve_sampling(own, asked).condition == "learned"
    video = make(own, line, asked, "learned")
    windows = plan(len(line.times), sorted(line.given), window=T, overlap=2)
    place = torch.tensor(0.3, dtype=torch.float64)
    level = cosine(place, low=DIFFUSION.low, high=DIFFUSION.high, shift=DIFFUSION.shift)
    alpha, sigma = (float(scale) for scale in alpha_sigma(level))
    assert len(windows) > 1 and sigma > 0.1
    for number, call in enumerate(shown):
        window = windows[number // STEPS]
        given = call.told.observed[0]
        assert given.tolist() == [frame in window.observed for frame in window.frames]
        assert (call.level[0][given] == level.float()).all()
        noise = torch.randn(1, 3, T, SIDE, SIDE, generator=seeded(0, number // STEPS, 1))
        there = video[:, :, list(window.frames)]
        torch.testing.assert_close(call.z[:, :, given], (alpha * there + sigma * noise)[:, :, given], rtol=0, atol=1e-5)
    kept = sorted(line.given)
    assert torch.equal(video[:, :, kept], clip_from_uint8(pixels(len(kept))))
    assert not torch.equal(video, make(own, line, settings_of(), "learned"))


def test_context_noise_that_was_not_trained_is_refused(model: UNetModel) -> None:
    for most, condition, message in (
        (0.0, "auto", "this model takes given frames clean: found --context-noise 0.4; leave it out, or train with"),
        (0.3, "learned", "trained on given frames of less noise: found --context-noise 0.4, expected at most 0.3"),
        (0.5, "replacement", "is for given frames that the network is shown: found --condition replacement"),
    ):
        own, asked = with_settings(model, context_noise=most), settings_of(context_noise=0.4, condition=condition)
        with pytest.raises(VidiffError, match=message):
            resolve_sampling(own, asked)

"""Laws of the one loop: given frames stay, made frames are what a file holds, draws follow from their clip and window.

Shapes: b clips, c channels, n frames of the whole video, t frames of a window, h w pixels.
"""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from draws import randn
from in_memory import fill
from torch import Tensor

from vidiff_cli.diffusion.guidance import clamp_known, hold_known, reconstruct
from vidiff_cli.diffusion.levels import alpha_sigma, grid
from vidiff_cli.diffusion.noise import INDEPENDENT, Prior, seeded
from vidiff_cli.diffusion.samplers import Denoise, Noise, ddpm
from vidiff_cli.frames import Scheme, Window, plan
from vidiff_cli.pixels import quantize_8bit
from vidiff_cli.sampling.windows import Conditioner, SampleFn

B, C, N, T, SIDE = 3, 2, 20, 8, 3
GIVEN = [0, 1, 2]


def video(count: int = B) -> Tensor:
    """Given frames at no 8-bit value; the others are nothing that may be looked at."""
    frames = torch.full((count, C, N, SIDE, SIDE), math.nan)
    frames[:, :, GIVEN] = 0.3 * randn(B, C, len(GIVEN), SIDE, SIDE)[:count]
    return frames


def smooth(z: Tensor, level: Tensor) -> Tensor:
    """A denoiser of each clip alone, whose frames hang together."""
    return torch.tanh(z + z.roll(1, dims=2) + 0.05 * level[:, None, :, None, None].to(z.dtype))


def sample(denoise: Denoise, z: Tensor, noise: Noise) -> Tensor:
    return ddpm(denoise, z, grid(5), correct=0.1, noise=noise)


def guided(denoise: Denoise, known: Tensor, observed: Tensor) -> Denoise:
    return clamp_known(reconstruct(denoise, known, observed, 2.0), known, observed)


CONDITIONS: dict[str, Conditioner] = {"replacement": clamp_known, "reconstruction": guided, "learned": hold_known}
WINDOWS = plan(N, GIVEN, window=T, overlap=3)


def run(
    frames: Tensor,
    seeds: list[int],
    *,
    windows: list[Window] = WINDOWS,
    denoise: Callable[[Window, Tensor, Tensor], Denoise] = lambda *_: smooth,
    draw: SampleFn = sample,
    condition: Conditioner = clamp_known,
    start: int = 0,
    prior: Prior = INDEPENDENT,
    context_noise: bool = False,
) -> list[Tensor]:
    more = {"prior": prior, "context_noise": context_noise, "start": start}
    return list(fill(windows, frames, denoise=denoise, sample=draw, condition=condition, seeds=seeds, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["autoregressive", "hierarchical"])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_given_frames_stay_and_all_others_are_made(condition: str, scheme: Scheme) -> None:
    frames = video()
    before = frames.clone()
    windows = plan(N, GIVEN, window=T, overlap=3, scheme=scheme)
    states = run(frames, [1, 2, 3], windows=windows, condition=CONDITIONS[condition])
    assert len(states) == len(windows) > 2
    there, last = set(GIVEN), before
    for state, window in zip(states, windows, strict=True):
        others = [frame for frame in range(N) if frame not in window.makes]
        assert torch.equal(state[:, :, others].nan_to_num(9), last[:, :, others].nan_to_num(9)), "is not made again"
        last = state
        there |= window.makes
        made = state.isfinite().all(dim=1).flatten(2).all(dim=2)
        assert made.tolist() == [[frame in there for frame in range(N)]] * B
    assert torch.equal(frames.nan_to_num(9), before.nan_to_num(9)), "the caller's tensor is left alone"


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("start", [0, 1, len(WINDOWS)])
def test_a_run_from_start_repeats_the_uninterrupted_one(start: int, condition: str) -> None:
    asked: list[Window] = []

    def denoise(window: Window, known: Tensor, observed: Tensor) -> Denoise:
        asked.append(window)
        return smooth

    whole = run(video(), [1, 2, 3], condition=CONDITIONS[condition])
    there = whole[start - 1] if start else video()
    rest = run(there, [1, 2, 3], denoise=denoise, condition=CONDITIONS[condition], start=start)
    assert asked == WINDOWS[start:], "windows before start are not sampled"
    assert len(rest) == len(WINDOWS) - start
    assert all(torch.equal(a.nan_to_num(9), b.nan_to_num(9)) for a, b in zip(rest, whole[start:], strict=True))


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_clip_with_its_own_seed_does_not_depend_on_its_neighbors(condition: str) -> None:
    together = run(video(), [5, 6, 7], condition=CONDITIONS[condition])[-1]
    for clip, seed in enumerate([5, 6, 7]):
        alone = run(video()[clip : clip + 1], [seed], condition=CONDITIONS[condition])[-1]
        assert torch.equal(together[clip : clip + 1], alone)
    swapped = run(video()[[2, 0]], [7, 5], condition=CONDITIONS[condition])[-1]
    assert torch.equal(swapped, together[[2, 0]])


def test_one_seed_serves_a_whole_batch_whose_clips_still_differ() -> None:
    same = video()[:1].expand(B, -1, -1, -1, -1)
    first, again, other = (run(same, [seed])[-1] for seed in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])
    with pytest.raises(ValueError, match="2 seeds for 3 clips"):
        run(video(), [1, 2])


def test_windows_observe_the_rounded_frames_that_were_made() -> None:
    shown: list[tuple[Tensor, Tensor]] = []
    told: list[tuple[Tensor, Tensor]] = []

    def condition(denoise: Denoise, known: Tensor, observed: Tensor) -> Denoise:
        shown.append((known, observed))
        return clamp_known(denoise, known, observed)

    def denoise(window: Window, known: Tensor, observed: Tensor) -> Denoise:
        told.append((known, observed))
        return smooth

    states = [video(), *run(video(), [1, 2, 3], denoise=denoise, condition=condition)]
    assert all(torch.equal(*pair) for one, two in zip(shown, told, strict=True) for pair in zip(one, two, strict=True))
    made = states[-1][:, :, len(GIVEN) :]
    assert torch.equal(made, quantize_8bit(made)), "what is made is at 8-bit values"
    assert made.abs().max() <= 1 and len(made.unique()) > 50
    for (known, observed), window, before in zip(shown, WINDOWS, states, strict=False):
        assert observed.dtype == torch.bool and observed.shape == (B, T)
        assert observed.tolist() == [[frame in window.observed for frame in window.frames]] * B
        there = before[:, :, list(window.frames)]
        assert torch.equal(known, torch.where(observed[:, None, :, None, None], there, torch.zeros_like(there)))


def test_nothing_is_conditioned_where_nothing_is_observed() -> None:
    calls: list[int] = []

    def condition(denoise: Denoise, known: Tensor, observed: Tensor) -> Denoise:
        calls.append(int(observed[0].sum()))
        return clamp_known(denoise, known, observed)

    windows = plan(N, [], window=T, overlap=3)
    run(torch.full((B, C, N, SIDE, SIDE), math.nan), [1, 2, 3], windows=windows, condition=condition)
    assert calls == [len(window.observed) for window in windows[1:]]


def first_draws(prior: Prior, seeds: list[int], *, context: bool = False) -> list[Tensor]:
    """Of every window: its first z and the next two noises."""
    drawn: list[Tensor] = []

    def spy(denoise: Denoise, z: Tensor, noise: Noise) -> Tensor:
        drawn.extend([z, noise(z, None), noise(z, None)])
        return torch.zeros_like(z)

    def condition(denoise: Denoise, known: Tensor, observed: Tensor, noise: Noise | None = None) -> Denoise:
        assert (noise is not None) == context
        return hold_known(denoise, known, observed, level=2.0, noise=noise)

    run(video(), seeds, draw=spy, condition=condition, prior=prior, context_noise=context)
    return drawn


@pytest.mark.parametrize("context", [False, True])
def test_the_streams_of_a_clip_and_a_window(context: bool) -> None:
    """Independent noise is torch's, from the stream of (seed, window), whatever else there is."""
    draws = first_draws(INDEPENDENT, [5, 6, 7], context=context)
    for number in range(len(WINDOWS)):
        for clip, seed in enumerate([5, 6, 7]):
            stream = seeded(seed, number)
            for draw in draws[3 * number : 3 * number + 3]:
                assert torch.equal(draw[clip], torch.randn(C, T, SIDE, SIDE, generator=stream))


@pytest.mark.parametrize("name", ["mixed", "lowpass"])
def test_all_noise_of_a_window_has_the_prior_of_the_model(name: str) -> None:
    """It is the same white noise with the covariance over the places of the window, clip by clip."""
    prior = Prior(name=name, strength=0.7)
    made, plain = first_draws(prior, [5, 6, 7]), first_draws(INDEPENDENT, [5, 6, 7])
    for one, other in zip(made, plain, strict=True):
        torch.testing.assert_close(one, prior.correlate(other), rtol=0, atol=1e-6)
        assert torch.equal(one[:, :, 0], other[:, :, 0]) and not torch.allclose(one, other, atol=0.1)
    alone = run(video()[1:2], [6], prior=prior)[-1]
    assert torch.equal(run(video(), [5, 6, 7], prior=prior)[-1][1:2], alone), "a clip does not depend on its neighbors"


def test_observed_frames_may_be_shown_with_noise_of_their_own() -> None:
    """White noise of another stream than the sampler's, once per window: that of (seed, window, 1)."""
    shown: list[Tensor] = []

    def spy(z: Tensor, level: Tensor) -> Tensor:
        shown.append(z)
        return smooth(z, level)

    def show(seeds: list[int]) -> Tensor:
        condition, prior = partial(hold_known, level=2.0), Prior(name="mixed", strength=0.7)
        frames = video()[: len(seeds)]
        return run(frames, seeds, denoise=lambda *_: spy, condition=condition, prior=prior, context_noise=True)[-1]

    made = show([5, 6, 7])
    alpha, sigma = (float(scale) for scale in alpha_sigma(torch.tensor(2.0, dtype=torch.float64)))
    calls = len(shown) // len(WINDOWS)
    for number, window in enumerate(WINDOWS):
        seen = [place for place, frame in enumerate(window.frames) if frame in window.observed]
        known = made[:, :, [window.frames[place] for place in seen]]
        noise = torch.stack([torch.randn(C, T, SIDE, SIDE, generator=seeded(seed, number, 1)) for seed in (5, 6, 7)])
        for call in shown[number * calls : (number + 1) * calls]:
            torch.testing.assert_close(call[:, :, seen], alpha * known + sigma * noise[:, :, seen], rtol=0, atol=1e-5)
    assert torch.equal(show([5]), made[:1])

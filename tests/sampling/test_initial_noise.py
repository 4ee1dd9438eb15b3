"""How windows begin: the statistics of noise that is used again, of previous frames under noise, and of renewed noise.

Shapes: b clips, c channels, t frames of a window, h w pixels.
"""

import math
from fractions import Fraction

import pytest
import torch
from in_memory import fill
from torch import Tensor

from vidiff_cli.diffusion.guidance import clamp_known
from vidiff_cli.diffusion.levels import alpha_sigma, grid, levels_from
from vidiff_cli.diffusion.noise import INDEPENDENT, Prior, freenoise_index, low_pass, seeded, white
from vidiff_cli.diffusion.samplers import Denoise, Noise, ddim
from vidiff_cli.frames import Scheme, Window
from vidiff_cli.sampling.initial_noise import FREE_INIT_LEVEL, free_init, free_noise, fresh, previous_frames
from vidiff_cli.timeline import extension, plans

WINDOW, OVERLAP, SIDE = 8, 3, 40
LEVELS = grid(12)


def windows_of(given: int, new: int, *, before: bool = False, scheme: Scheme = "autoregressive") -> list[Window]:
    return plans(extension(given, Fraction(8), new=new, before=before), window=WINDOW, overlap=OVERLAP, scheme=scheme)


def noises(windows: list[Window], seeds: list[int], prior: Prior = INDEPENDENT) -> list[Tensor]:
    """Of every window, (b 3 t h w)."""
    start = free_noise(window=WINDOW, stride=WINDOW - OVERLAP, first=windows[0].frames[0], seeds=seeds, prior=prior)
    begun = []
    for number, window in enumerate(windows):
        like = white(torch.empty(2, 3, len(window.frames), SIDE, SIDE), seeded(9, number))
        z, level = start(window, number, torch.zeros_like(like), like)
        assert level is None and z.shape == like.shape and z.dtype == like.dtype
        begun.append(z)
    return begun


PLANS = {
    "extension": windows_of(7, 36),
    "few given": windows_of(2, 35),
    "before": windows_of(8, 35, before=True),
    "nothing given": windows_of(0, 33),
    "hierarchical": windows_of(4, 60, scheme="hierarchical"),
}


@pytest.mark.parametrize("name", PLANS)
def test_every_window_of_any_plan_begins_with_white_noise(name: str) -> None:
    """Unit variance, and nothing in common between frames, clips, or channels."""
    for z in noises(PLANS[name], [5, 6]):
        rows = z.flatten(3).flatten(0, 2)  # every clip, channel and frame
        found, error = rows @ rows.T / rows.shape[1], 5.5 * math.sqrt(2 / rows.shape[1])
        torch.testing.assert_close(found, torch.eye(len(rows)), rtol=0, atol=error)
    if name == "extension":
        prior = Prior(name="mixed", strength=0.6)
        for z in noises(PLANS[name], [5, 6], prior):
            for clip in z.transpose(1, 2).flatten(2):
                error = 5.5 * math.sqrt(2 / clip.shape[1])
                torch.testing.assert_close(torch.cov(clip).double(), prior.covariance(WINDOW), rtol=0, atol=error)


@pytest.mark.parametrize("name", PLANS)
def test_what_a_window_makes_has_noise_of_the_first_window_while_any_is_left(name: str) -> None:
    """The frames that it makes come before those that it observes."""
    windows = PLANS[name]
    bank, first = torch.randn(2, 3, WINDOW, SIDE, SIDE, generator=seeded(5, 0, 3)), windows[0].frames[0]
    for window, z in zip(windows, noises(windows, [5]), strict=True):
        wanted, found = [], []
        for frames in (window.makes, window.observed):
            at = {freenoise_index(frame - first, window=WINDOW, stride=WINDOW - OVERLAP, seed=5) for frame in frames}
            wanted.append(at)
            places = [place for place, frame in enumerate(window.frames) if frame in frames]
            same = [(slot, torch.equal(z[:, :, place], bank[:, :, slot])) for place in places for slot in range(WINDOW)]
            found.append({slot for slot, equal in same if equal})
        assert found == [wanted[0], wanted[1] - wanted[0]]


def test_clips_follow_their_own_seeds() -> None:
    both = noises(PLANS["extension"], [5, 6])
    for clip, seed in enumerate([5, 6]):
        like = torch.empty(1, 3, WINDOW, SIDE, SIDE)
        start = free_noise(window=WINDOW, stride=WINDOW - OVERLAP, first=PLANS["extension"][0].frames[0], seeds=[seed])
        for number, window in enumerate(PLANS["extension"]):
            assert torch.equal(start(window, number, like, like)[0], both[number][clip : clip + 1])


def test_a_long_video_by_noise_used_again_is_filled_like_any_other() -> None:
    """Through `fill`: the start is what was said, and what is drawn later is the same as with fresh noise."""
    windows, seen = PLANS["extension"], dict[str, list[Tensor]]()
    total = 7 + 36

    def run(name: str, begin) -> None:
        seen[name] = []

        def spy(denoise: Denoise, z: Tensor, noise: Noise, level: float | None = None, /) -> Tensor:
            seen[name].extend([z, noise(z, None)])
            return torch.zeros_like(z)

        frames = torch.zeros(2, 3, total, 2, 2)
        options = {"sample": spy, "condition": clamp_known, "seeds": [5, 6], "init_noise": begin}
        list(fill(windows, frames, denoise=lambda *_: lambda z, level: z, **options))

    start = free_noise(window=WINDOW, stride=WINDOW - OVERLAP, first=windows[0].frames[0], seeds=[5, 6])
    run("fresh", fresh)
    run("again", start)
    for number, window in enumerate(windows):
        like = torch.empty(2, 3, len(window.frames), 2, 2)
        assert torch.equal(seen["again"][2 * number], start(window, number, like, like)[0])
        assert torch.equal(seen["again"][2 * number + 1], seen["fresh"][2 * number + 1])


def test_previous_frames_are_the_nearest_ones_under_noise() -> None:
    window = Window(frames=(2, 3, 4, 7, 9, 10), observed=frozenset({3, 9}), makes=frozenset({2, 4, 7, 10}))
    known = torch.zeros(2, 3, 6, 4, 4)
    known[:, :, 1], known[:, :, 4] = 0.5, -0.25
    noise = white(known, seeded(0))
    z, level = previous_frames(-1.0)(window, 0, known, noise)
    alpha, sigma = (float(scale) for scale in alpha_sigma(torch.tensor(-1.0, dtype=torch.float64)))
    assert level == -1.0
    for place, value in enumerate([0.5, 0.5, 0.5, -0.25, -0.25, -0.25]):
        torch.testing.assert_close(z[:, :, place], alpha * value + sigma * noise[:, :, place], rtol=0, atol=1e-6)


def test_without_previous_frames_a_window_begins_with_noise() -> None:
    window = PLANS["nothing given"][0]
    known = torch.zeros(1, 3, len(window.frames), 4, 4)
    noise = white(known, seeded(0))
    z, level = previous_frames(-1.0)(window, 0, known, noise)
    assert z is noise and level is None
    start = free_noise(window=WINDOW, stride=5, seeds=[4])
    assert torch.equal(previous_frames(-1.0, start)(window, 0, known, noise)[0], start(window, 0, known, noise)[0])


class Walk:
    """A sampler that notes what it is called with."""

    def __init__(self, result: Tensor | None = None) -> None:
        self.calls: list[tuple[Tensor, float | None]] = []
        self.result = result

    def __call__(self, denoise: Denoise, z: Tensor, noise: Noise, level: float | None = None, /) -> Tensor:
        self.calls.append((z, level))
        if self.result is not None:
            return self.result.expand(z.shape)
        return ddim(denoise, z, LEVELS if level is None else levels_from(LEVELS, level))


def from_stream(seed: int, prior: Prior = INDEPENDENT) -> Noise:
    stream = seeded(seed)
    return lambda like, generator: prior.correlate(white(like, stream))


def test_one_pass_of_free_init_is_the_sampler() -> None:
    walk, noise = Walk(), from_stream(0)
    z = white(torch.empty(1, 2, 8, 6, 6), seeded(1))
    made = free_init(walk, passes=1)(lambda z, level: z.tanh(), z, noise)
    assert [(each is z, level) for each, level in walk.calls] == [(True, None)]
    assert torch.equal(made, ddim(lambda z, level: z.tanh(), z, LEVELS))
    assert torch.equal(noise(z, None), white(z, seeded(0))), "nothing was drawn"
    with pytest.raises(ValueError, match="expected at least 1"):
        free_init(walk, passes=0)


def test_every_pass_goes_on_from_the_low_frequencies_of_the_last() -> None:
    """Calls, levels, network calls; what is kept of the result, and what of it is new."""
    calls: list[float] = []

    def denoise(z: Tensor, level: Tensor) -> Tensor:
        calls.append(float(level[0, 0]))
        return z.tanh()

    shape = (8, 6, 6)
    walk, z = Walk(), white(torch.empty(1, 2, *shape, dtype=torch.float64), seeded(1))
    made = free_init(walk, passes=3, level=-3.0)(denoise, z, from_stream(0))
    assert [level for _, level in walk.calls] == [None, -3.0, -3.0]
    later = len(levels_from(LEVELS, -3.0)) - 1
    assert len(calls) == 12 + 2 * later and 0 < later < 12 and calls[12] == -3.0
    assert torch.equal(free_init(Walk(), passes=3, level=-3.0)(denoise, z, from_stream(0)), made), "by its noise alone"
    free_init(walk := Walk(), passes=2)(denoise, z, from_stream(0), 1.5)
    assert [level for _, level in walk.calls] == [1.5, FREE_INIT_LEVEL], "after previous frames"

    steady = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    alpha = float(alpha_sigma(torch.tensor(-3.0, dtype=torch.float64))[0])
    walks = []
    for result in (steady, 0 * steady):
        walk = Walk(result)
        free_init(walk, passes=2, level=-3.0)(denoise, z, from_stream(0))
        walks.append(walk.calls[-1][0])
    torch.testing.assert_close(walks[0] - walks[1], alpha * steady.expand(z.shape), rtol=0, atol=1e-9)


@pytest.mark.parametrize("prior", [INDEPENDENT, Prior(name="mixed", strength=0.6)], ids=["independent", "mixed"])
def test_free_init_begins_its_passes_with_noise_of_the_prior(prior: Prior) -> None:
    """Where the result is nothing: sigma^2 of it at low frequencies, 1 at high ones, and the prior's covariance."""
    frames, side = 6, 120
    walk, z = Walk(torch.zeros(1, 1, 1, 1, 1)), torch.zeros(1, 2, frames, side, side)
    free_init(walk, passes=2, prior=prior)(lambda z, level: z, z, from_stream(0, prior))
    begun = walk.calls[-1][0]
    rows = begun.transpose(1, 2).flatten(2)[0]
    error = 6 * math.sqrt(2 / rows.shape[1])
    torch.testing.assert_close(torch.cov(rows).double(), prior.covariance(frames), rtol=0, atol=error + 0.02)
    waves = torch.fft.fftn(prior.whiten(begun), dim=(-3, -2, -1))
    spectrum = waves.abs().square().mean(dim=(0, 1)) / begun[0, 0].numel()
    low = low_pass((frames, side, side)) > 0.99
    assert float(spectrum[low].mean()) == pytest.approx(1 / (1 + math.exp(FREE_INIT_LEVEL)), abs=0.06)
    assert float(spectrum[~low].mean()) == pytest.approx(1.0, abs=0.02)

"""Every plan with every way to condition, on Gaussian videos whose ideal denoiser is a matrix, without any draw.

A video is a stationary Gaussian process over time, one pixel wide. Samplers, conditions and `fill` are then linear in
the given frames and in all noise: filling the unit vectors of both in place of clips (and in place of noise) gives the
covariance of what a plan makes, without a statistical error. It is compared with the law that frames have in truth,
given those that are given: by the Frechet distance over all frames, and by the seam jump, the mean square change from
frame to frame where windows meet, over the true one. Shapes: videos (r 1 n 1 1) of r unit vectors and n frames,
float64.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch
from gaussian import PROCESSES, covariance, frechet, guided, root_of
from in_memory import fill
from torch import Tensor

from vidiff_cli.diffusion.guidance import clamp_known, hold_known, snr_weight
from vidiff_cli.diffusion.levels import alpha_sigma, grid, levels_from
from vidiff_cli.diffusion.noise import freenoise_index, seeded, white
from vidiff_cli.diffusion.samplers import SAMPLERS, Denoise, Noise, ddpm
from vidiff_cli.frames import Scheme, Window
from vidiff_cli.sampling.initial_noise import FREE_INIT_LEVEL, InitNoise, SampleFn, free_init, fresh, previous_frames
from vidiff_cli.sampling.windows import Conditioner, take_made
from vidiff_cli.timeline import Timeline, extension, interpolation, join, loop, plans

WINDOW, OVERLAP = 16, 8

BOTH = pytest.mark.parametrize("process", PROCESSES)


@dataclass(frozen=True)
class Plan:
    """What is given and made. `apart`: so many given frames are of one video, the others of another."""

    line: Timeline
    scheme: Scheme = "autoregressive"
    apart: int = 0

    def windows(self, window: int = WINDOW) -> list[Window]:
        return plans(self.line, window=window, overlap=OVERLAP, scheme=self.scheme)


FPS = Fraction(8)
PLANS = {
    "autoregressive": Plan(extension(8, FPS, new=32)),
    "hierarchical": Plan(extension(8, FPS, new=40), "hierarchical"),
    "before": Plan(extension(8, FPS, new=32, before=True)),
    "two-sided": Plan(join(8, 8, FPS, gap=24)),
    "loop": Plan(loop(16, FPS, new=24, shown=8)),
    "join": Plan(join(8, 8, FPS, gap=24), apart=8),
    "two photos": Plan(join(1, 1, FPS, gap=14), apart=1),
    "in-betweens": Plan(interpolation(8, FPS, factor=4, hold=False)),
}
ALL = pytest.mark.parametrize("name", PLANS)
GIVEN = {f"{count} given": Plan(extension(count, FPS, new=WINDOW - count)) for count in (1, 2, 4, 15)}  # one window


def truth(process: str, plan: Plan) -> Tensor:
    """Covariance (n, n) of the frames given and of the others as they are given these."""
    line, k = plan.line, covariance(process, range(len(plan.line.times)))
    sources = sorted(set(line.given.values()))
    of_sources = covariance(process, sources)
    if plan.apart:
        other = torch.arange(len(sources)) >= plan.apart
        of_sources = of_sources * (other[:, None] == other)
    elif plan is PLANS["two-sided"]:
        of_sources = k[sorted(line.given)][:, sorted(line.given)]  # two parts of one video, the gap between them
    given, rest = sorted(line.given), [rank for rank in range(len(k)) if rank not in line.given]
    pick = torch.eye(len(sources), dtype=torch.float64)[[sources.index(line.given[rank]) for rank in given]]
    gain = torch.linalg.solve(k[given][:, given], k[given][:, rest])
    carry = torch.zeros(len(k), len(sources), dtype=torch.float64)  # from source frames to the mean of all
    carry[given], carry[rest] = pick, gain.T @ pick
    law = carry @ of_sources @ carry.T
    law[torch.tensor(rest)[:, None], rest] += k[rest][:, rest] - gain.T @ k[given][:, rest]
    return law


def ideal(process: str, frames: Sequence[int]) -> Denoise:
    """E[x | z] = K A (A K A + D^2)^-1 z, with A and D the scales of signal and noise of the frames."""
    k, gains = covariance(process, frames), dict[bytes, Tensor]()

    def denoise(z: Tensor, level: Tensor) -> Tensor:
        key = level[0].double().numpy().tobytes()
        if key not in gains:
            alpha, sigma = alpha_sigma(level[0].double())
            gains[key] = torch.linalg.solve(alpha[:, None] * k * alpha + torch.diag(sigma**2), alpha[:, None] * k)
        return (z.flatten(1) @ gains[key]).reshape(z.shape)

    return denoise


def by_count(weight: float) -> Conditioner:
    """A weight that is as said for 8 observed frames, more for fewer, by clip."""

    def condition(denoise: Denoise, known: Tensor, observed: Tensor) -> Denoise:
        weights = weight * (8 / observed.sum(dim=1, keepdim=True)) ** (1 / 3)
        return guided(lambda level: weights.to(level))(denoise, known, observed)

    return condition


class Units:
    """Hands out rows of unit vectors: each piece of noise is another part of a space of `rows` dimensions."""

    def __init__(self, rows: int, used: int) -> None:
        self.rows, self.used = rows, used

    def take(self, like: Tensor, generator: object = None) -> Tensor:
        frames = like.shape[2]
        part = torch.zeros(self.rows, frames, dtype=like.dtype)
        part[self.used : self.used + frames] = torch.eye(frames, dtype=like.dtype)
        self.used += frames
        assert self.used <= self.rows
        return part.reshape(like.shape)


CONDITIONS: dict[str, Callable[[float], Conditioner]] = {
    "exact": lambda weight: hold_known,
    "replacement": lambda weight: clamp_known,
    "reconstruction": guided,
    "reconstruction by level": lambda weight: guided(snr_weight(weight)),
    "reconstruction by count": by_count,
}


@functools.cache
def made(
    process: str, name: str, condition: str, weight: float = 0.0, sampler: str = "dpmpp-2m", window: int = WINDOW
) -> Tensor:
    """Covariance (n, n) of all frames of a plan: the given ones as in truth, the others made."""
    steps, draws = (24, 47) if sampler == "ddpm" else (48, 1)
    plan = (PLANS | GIVEN)[name]
    law, given, windows = truth(process, plan), sorted(plan.line.given), plan.windows(window)
    units = Units(len(given) + draws * sum(len(each.frames) for each in windows), len(given))
    video = torch.full((units.rows, 1, len(law), 1, 1), math.nan, dtype=torch.float64)
    video[:, 0, given, 0, 0] = 0.0
    video[: len(given), 0, given, 0, 0] = root_of(law[given][:, given])

    def sample(denoise: Denoise, z: Tensor, noise: Noise, level: float | None = None, /) -> Tensor:
        z = units.take(z)
        if sampler == "ddpm":
            return ddpm(denoise, z, grid(steps), correct=0.1, noise=units.take)
        return SAMPLERS[sampler](denoise, z, grid(steps))

    return gram(filled(process, windows, video, CONDITIONS[condition](weight), sample))


def filled(
    process: str,
    windows: list[Window],
    video: Tensor,
    condition: Conditioner,
    sample: SampleFn,
    begin: InitNoise = fresh,
) -> Tensor:
    def denoise(window: Window, known: Tensor, observed: Tensor) -> Denoise:
        return ideal(process, window.frames)

    with torch.no_grad():
        for state in fill(
            windows,
            video,
            denoise=denoise,
            sample=sample,
            condition=condition,
            init_noise=begin,
            seeds=[0],
            finish=take_made,
        ):
            video = state
    return video


def gram(video: Tensor) -> Tensor:
    rows = video.flatten(1)
    return rows.T @ rows


def seams(name: str) -> list[int]:
    """Frames that are made in another window than the one before, or that meet a given one."""
    maker = {frame: number for number, window in enumerate(PLANS[name].windows()) for frame in window.makes}
    return [k for k in range(1, len(PLANS[name].line.times)) if maker.get(k) != maker.get(k - 1)]


def change(law: Tensor, frames: list[int]) -> Tensor:
    """Mean square change from the frame before."""
    return torch.stack([law[k, k] + law[k - 1, k - 1] - 2 * law[k, k - 1] for k in frames])


def jump(process: str, name: str, law: Tensor) -> float:
    return float((change(law, seams(name)) / change(truth(process, PLANS[name]), seams(name))).mean())


@dataclass(frozen=True)
class Gain:
    """How many times better than replacement: in |seam jump - 1|, and in Frechet distance."""

    jump: float
    distance: float


def gain(process: str, name: str, condition: str, weight: float, sampler: str = "dpmpp-2m") -> Gain:
    law = truth(process, PLANS[name])
    plain, better = made(process, name, "replacement", 0.0, sampler), made(process, name, condition, weight, sampler)
    apart = [abs(jump(process, name, each) - 1) for each in (plain, better)]
    return Gain(jump=apart[0] / apart[1], distance=frechet(plain, law) / frechet(better, law))


def test_unit_vectors_give_the_covariance_of_clips() -> None:
    """2,000 clips with drawn noise have it within their statistical error."""
    process, plan, clips = "AR(1)", PLANS["join"], 2000
    law, given = truth(process, plan), sorted(plan.line.given)
    video = torch.full((clips, 1, len(law), 1, 1), math.nan, dtype=torch.float64)
    drawn = torch.randn(clips, len(given), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    video[:, 0, given, 0, 0] = drawn @ root_of(law[given][:, given])

    def sample(denoise: Denoise, z: Tensor, noise: Noise, level: float | None = None, /) -> Tensor:
        return SAMPLERS["dpmpp-2m"](denoise, z, grid(48))

    found = torch.cov(filled(process, plan.windows(), video, guided(5.0), sample).flatten(1).T)
    expected = made(process, "join", "reconstruction", 5.0)
    error = ((expected.diag()[:, None] * expected.diag() + expected.square()) / clips).sqrt()
    assert float(((found - expected).abs() / error).max()) < 5.0


@ALL
@BOTH
def test_guidance_is_twice_as_good_as_replacement_in_every_plan(process: str, name: str) -> None:
    """At the seams and in all frames; what a network learns is better still. (48 steps of dpmpp-2m, weight 5.)"""
    better = gain(process, name, "reconstruction", 5.0)
    assert better.jump >= 2.0 and better.distance >= 2.0
    law, exact = truth(process, PLANS[name]), made(process, name, "exact")
    guided_law = made(process, name, "reconstruction", 5.0)
    assert frechet(exact, law) < 0.7 * frechet(guided_law, law) and frechet(exact, law) < 0.12
    apart, of_guided = (abs(jump(process, name, each) - 1) for each in (exact, guided_law))
    assert apart < max(of_guided, 0.012), "as near to 1 as the steps allow"
    given = sorted(PLANS[name].line.given)
    for each in (exact, guided_law):
        torch.testing.assert_close(each[given][:, given], law[given][:, given], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["autoregressive", "join"])
def test_so_it_is_with_ancestral_sampling(name: str) -> None:
    """24 steps of ddpm with Langevin correction, the weight 1 + sigma^2 / alpha^2 up to 5. So few steps leave too
    little change between any two frames: what is learned has seams like every other place."""
    better = gain("AR(1)", name, "reconstruction by level", 5.0, "ddpm")
    assert better.jump >= 2.0 and better.distance >= 2.0
    law, exact = truth("AR(1)", PLANS[name]), made("AR(1)", name, "exact", 0.0, "ddpm")
    assert frechet(exact, law) < frechet(made("AR(1)", name, "reconstruction by level", 5.0, "ddpm"), law)
    maker = {frame: number for number, window in enumerate(PLANS[name].windows()) for frame in window.makes}
    inside = [k for k in maker if maker[k] == maker.get(k - 1)]
    assert float(change(exact, seams(name)).mean() / change(exact, inside).mean()) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("process", "name", "condition", "weight"),
    [
        ("AR(1)", "autoregressive", "reconstruction", 1.0),  # too weak: equation 7 takes x^a for less known than it is
        ("Matern-5/2", "autoregressive", "reconstruction", 2.0),
        ("AR(1)", "two photos", "reconstruction", 2.0),  # one frame on either side has to guide alone
        ("AR(1)", "autoregressive", "reconstruction", 10.0),  # too strong: what is too much grows with every window
        ("AR(1)", "join", "reconstruction", 10.0),
        ("AR(1)", "autoregressive", "reconstruction by level", 15.0),
    ],
)
def test_where_the_weight_is_wrong_guidance_is_not_twice_as_good(
    process: str, name: str, condition: str, weight: float
) -> None:
    """In Frechet distance. At the seams it still is."""
    found = gain(process, name, condition, weight)
    assert found.distance < 2.0 and found.jump > 1.9


@pytest.mark.parametrize("name", GIVEN)
def test_few_frames_need_more_weight_to_guide(name: str) -> None:
    """The best weight falls with the number of observed frames: here with its third root, from 5 for 8 of them."""
    law, constant = truth("AR(1)", GIVEN[name]), made("AR(1)", name, "reconstruction", 5.0)
    fitted = made("AR(1)", name, "reconstruction by count", 5.0)
    assert frechet(fitted, law) < 0.8 * frechet(constant, law)
    first = [len(GIVEN[name].line.given)]
    assert 0.85 < float(change(fitted, first) / change(law, first)) < 1.2


@pytest.mark.parametrize("name", [name for name in PLANS if len(PLANS[name].windows()) > 1])
def test_what_is_learned_makes_what_one_large_window_would(name: str) -> None:
    """A process without memory beyond its last frame: windows that see their neighbors lack nothing. The rest is the
    error of 48 steps, which is not the same for windows of other lengths."""
    windows, one = made("AR(1)", name, "exact"), made("AR(1)", name, "exact", window=64)
    assert len(PLANS[name].windows(64)) == 1
    assert float((windows - one).abs().max()) < 0.03 and frechet(windows, one) < 0.01


@pytest.mark.parametrize("condition", ["exact", "replacement", "reconstruction"])
@pytest.mark.parametrize("scheme", ["autoregressive", "hierarchical"])
def test_what_fits_one_window_is_one_sampling(scheme: Scheme, condition: str) -> None:
    """Bit for bit: no plan, no loop, only the sampler with the window's own noise."""
    lines = [extension(6, FPS, new=10), extension(6, FPS, new=9, before=True), loop(6, FPS, new=6, shown=4)]
    lines += [join(4, 4, FPS, gap=8), join(1, 1, FPS, gap=14), interpolation(4, FPS, factor=5, hold=False)]
    for line in lines:
        (window,) = plans(line, window=WINDOW, overlap=OVERLAP, scheme=scheme)
        total, way = len(line.times), CONDITIONS[condition](5.0)
        video = torch.randn(4, 1, total, 1, 1, generator=seeded(3), dtype=torch.float64)

        def sample(denoise: Denoise, z: Tensor, noise: Noise, level: float | None = None, /) -> Tensor:
            return ddpm(denoise, z, grid(12), correct=0.1, noise=noise)

        found = filled("AR(1)", [window], video, way, sample)
        stream = seeded(0, 0)
        mask = torch.tensor([rank in line.given for rank in range(total)]).expand(4, -1)
        denoise = way(ideal("AR(1)", range(total)), video * mask[:, None, :, None, None], mask)
        with torch.no_grad():
            alone = ddpm(denoise, white(video, stream), grid(12), generator=stream, correct=0.1)
        assert torch.equal(found, torch.where(mask[:, None, :, None, None], video, alone))


@pytest.mark.parametrize("condition", ["exact", "replacement", "reconstruction"])
def test_before_is_after_in_a_mirror(condition: str) -> None:
    after, before = (made("Matern-5/2", name, condition, 5.0) for name in ("autoregressive", "before"))
    torch.testing.assert_close(before.flip(0, 1), after, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["loop", "join"])
def test_a_gap_is_joined_at_both_ends(name: str) -> None:
    """A loop closes as well as it opens. (Where it closes, a last window makes little and observes much, for which a
    weight of 5 is a little more than it takes.)"""
    line = PLANS[name].line
    new = sorted(set(range(len(line.times))) - set(line.given))
    ends, law = [new[0], new[-1] + 1], truth("AR(1)", PLANS[name])
    guided_ends = change(made("AR(1)", name, "reconstruction", 5.0), ends) / change(law, ends)
    plain_ends = change(made("AR(1)", name, "replacement"), ends) / change(law, ends)
    assert float((guided_ends - 1).abs().max()) < 0.3 and float(plain_ends.min()) > 2.5


LONG = extension(8, FPS, new=56)


def begun(process: str, condition: Conditioner, begin: Callable[[Callable[[Tensor], Tensor]], InitNoise]) -> Tensor:
    """Covariance of a long extension whose windows begin as said; `begin` is handed what makes unit vectors."""
    windows = plans(LONG, window=WINDOW, overlap=OVERLAP)
    given, total = sorted(LONG.given), len(LONG.times)
    units = Units(len(given) + WINDOW * (len(windows) + 1), len(given))
    video = torch.zeros(units.rows, 1, total, 1, 1, dtype=torch.float64)
    video[: len(given), 0, given, 0, 0] = root_of(covariance(process, given))

    def sample(denoise: Denoise, z: Tensor, noise: Noise, level: float | None = None, /) -> Tensor:
        return SAMPLERS["dpmpp-2m"](denoise, z, grid(48) if level is None else levels_from(grid(48), level))

    return gram(filled(process, windows, video, condition, sample, begin(units.take)))


def correlation(law: Tensor, apart: int) -> float:
    """Of frames so far apart that were made."""
    places = range(24 + apart, 64)
    return sum(float(law[k, k - apart] / (law[k, k] * law[k - apart, k - apart]).sqrt()) for k in places) / len(places)


def moved(law: Tensor) -> float:
    """Mean square distance of the frames of the first window from the last given one."""
    return sum(float(law[k, k] + law[7, 7] - 2 * law[k, 7]) for k in range(8, 16))


def from_fresh(take: Callable[[Tensor], Tensor]) -> InitNoise:
    return lambda window, number, known, noise: (take(noise), None)


@BOTH
def test_previous_frames_hold_the_motion_back(process: str) -> None:
    """The more, the higher the level they are given at; nearly not at all at -8. Windows that are only replaced come
    nearer to the truth by it, those that know what they observe do not."""
    law = covariance(process, range(64))

    def at(level: float, condition: Conditioner) -> Tensor:
        def begin(take: Callable[[Tensor], Tensor]) -> InitNoise:
            start = previous_frames(level)
            return lambda window, number, known, noise: start(window, number, known, take(noise))

        return begun(process, condition, begin)

    exact = [at(level, hold_known) for level in (-8.0, -3.0, 0.0, 3.0)]
    assert [moved(each) for each in exact] == sorted([moved(each) for each in exact], reverse=True)
    assert moved(exact[0]) > 0.95 * moved(law) and moved(exact[2]) < 0.5 * moved(law)
    assert frechet(begun(process, hold_known, from_fresh), law) < frechet(exact[1], law)
    assert frechet(at(-3.0, clamp_known), law) < 0.6 * frechet(begun(process, clamp_known, from_fresh), law)


@BOTH
def test_noise_used_again_keeps_a_long_video_to_what_it_shows(process: str) -> None:
    """Frames a window apart come out much more alike than in truth, those within a window as they are: no jump."""
    law = covariance(process, range(64))
    windows = plans(LONG, window=WINDOW, overlap=OVERLAP)

    def bank(take: Callable[[Tensor], Tensor]) -> InitNoise:
        rows = take(torch.zeros(8 + WINDOW * (len(windows) + 1), 1, WINDOW, 1, 1, dtype=torch.float64))

        def start(window: Window, number: int, known: Tensor, noise: Tensor) -> tuple[Tensor, None]:
            slots = [freenoise_index(frame, window=WINDOW, stride=WINDOW - OVERLAP, seed=1) for frame in window.frames]
            assert sorted(slots) == list(range(WINDOW))
            return rows[:, :, slots], None

        return start

    plain, again = begun(process, hold_known, from_fresh), begun(process, hold_known, bank)
    assert correlation(plain, WINDOW) == pytest.approx(correlation(law, WINDOW), abs=0.02)
    assert correlation(again, WINDOW) > correlation(law, WINDOW) + 0.3
    torch.testing.assert_close(again[:16, :16], plain[:16, :16], rtol=0, atol=1e-9)
    where = list(range(16, 64, 8))
    assert float((change(again, where) / change(law, where)).mean()) == pytest.approx(1.0, abs=0.2)


@BOTH
def test_free_init_leaves_the_law_alone(process: str) -> None:
    """Of a model that is right there is nothing to mend. With the noise of the first pass, as published, and at higher
    levels the law is another."""
    passes, law = 3, covariance(process, range(WINDOW))

    def sample(denoise: Denoise, z: Tensor, noise: Noise, level: float | None = None, /) -> Tensor:
        return SAMPLERS["dpmpp-2m"](denoise, z, grid(48) if level is None else levels_from(grid(48), level))

    def after(level: float, *, published: bool = False) -> Tensor:
        units = Units(WINDOW * 2 * passes, 0)
        z = units.take(torch.zeros(units.rows, 1, WINDOW, 1, 1, dtype=torch.float64))
        draws = iter(range(2 * passes))

        def noise(like: Tensor, generator: object) -> Tensor:
            return z if published and next(draws) % 2 == 0 else units.take(like)

        return gram(free_init(sample, passes=passes, level=level)(ideal(process, range(WINDOW)), z, noise))

    inside = list(range(1, WINDOW))
    kept = after(FREE_INIT_LEVEL)
    assert frechet(kept, law) < 0.005 and float((change(kept, inside) / change(law, inside)).mean()) < 1.03
    assert float(after(-5.4, published=True).diag().mean()) > 1.3 and frechet(after(-5.4, published=True), law) > 0.4
    assert frechet(after(0.0), law) > 0.1

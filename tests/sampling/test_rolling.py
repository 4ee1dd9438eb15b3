"""The rolling window on exact Gaussian videos, where every sampled frame is a linear map of given frames and noise.

A batch holds one unit vector for each given frame and for each noise, so that what comes out is the matrix of that map,
and its law is known without a draw. Shapes: videos (b 1 n 1 1), float64; b inputs, n frames.
"""

from __future__ import annotations

import pytest
import torch
from gaussian import covariance, frechet, ideal
from torch import Tensor

from vidiff_cli.diffusion.guidance import classifier_free, hold_known, show_known
from vidiff_cli.diffusion.levels import grid
from vidiff_cli.diffusion.samplers import SAMPLER_STEPS, SAMPLERS, Denoise, Noise
from vidiff_cli.frames import Window
from vidiff_cli.rolling import RollingPlan
from vidiff_cli.sampling.rolling import RollingNoise, RollingState, roll

PROCESS = "AR(1)"  # of the last frame alone, so that a window that observes it misses nothing


def unit(inputs: int, row: int) -> Tensor:
    """A frame (b 1 1 1 1) that is input number `row`."""
    return torch.nn.functional.one_hot(torch.tensor(row), inputs).double().reshape(inputs, 1, 1, 1, 1)


class Rolled:
    """A rolling window over a video of `total` frames, `given` of them there, as a matrix of its inputs."""

    def __init__(self, total: int, given: int, *, window: int = 6, overlap: int = 3, before: bool = False) -> None:
        way = range(total)
        self.plan = RollingPlan(way=way[::-1] if before else way, known=given, window=window, overlap=overlap)
        self.inputs, self.total = total, total
        self.video = torch.zeros(total, 1, total, 1, 1, dtype=torch.float64)
        for place in range(given):
            self.video[:, :, self.plan.way[place]] = unit(total, place)[:, :, 0]

    def start(self, number: int, like: Tensor) -> Tensor:
        return unit(self.inputs, self.plan.known + number)

    def run(
        self, each: int, *, sampler: str = "dpmpp-2m", state: RollingState | None = None, scale: float = 1.0
    ) -> list[RollingState]:
        """The states after every slot; `video` then holds the frames."""

        def denoise(window: Window, known: Tensor, observed: Tensor, noise: Noise) -> Denoise:
            own = ideal(PROCESS, window.frames)
            if not window.observed:
                return own
            return classifier_free(own, show_known(own, known, observed, level=-20.0), scale)

        def none(_: int, like: Tensor) -> Tensor:
            return torch.zeros_like(like)

        states = []
        rolled = roll(
            self.plan,
            lambda ranks: self.video[:, :, list(ranks)],
            denoise=denoise,
            condition=hold_known,
            step=SAMPLER_STEPS[sampler],
            levels=grid(each * self.plan.active),
            noise=RollingNoise(start=self.start, context=none, step=none),
            state=state,
        )
        for frame, after in rolled:
            if (number := self.plan.finished(after.slots - 1)) is not None:
                assert frame is not None
                self.video[:, :, self.plan.rank(number)] = frame[:, :, 0]
            states.append(after)
        return states

    def law(self) -> Tensor:
        """Covariance of all frames, where given ones are of the process and noise is white."""
        matrix = self.video.reshape(self.inputs, self.total)
        inputs = torch.eye(self.inputs, dtype=torch.float64)
        known = [self.plan.way[place] for place in range(self.plan.known)]
        inputs[: len(known), : len(known)] = covariance(PROCESS, known)
        return matrix.T @ inputs @ matrix


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("given", [0, 1, 5])
def test_a_rolling_window_has_the_law_of_the_process(given: int, before: bool) -> None:
    """Mean and covariance of all frames, the nearer the more steps a slot has; from none, one or several given."""
    truth = covariance(PROCESS, range(16))
    distances = []
    for each in (2, 8, 32):
        rolled = Rolled(16, given, before=before)
        rolled.run(each)
        distances.append(frechet(rolled.law(), truth))
    assert distances[0] > 3 * distances[1] > 9 * distances[2] and distances[2] < 2e-3, distances


def test_the_second_order_is_kept_over_the_slots() -> None:
    """The estimate of the step before goes with its frame, here in slots of one step: without it dpmpp-2m would be
    ddim, whose error halves with twice the steps."""

    def distance(sampler: str, active: int) -> float:
        rolled = Rolled(12, 3, window=3 + active, overlap=3)
        rolled.run(1, sampler=sampler)
        return frechet(rolled.law(), covariance(PROCESS, range(12)))

    first_order = distance("ddim", 12), distance("ddim", 24)
    assert first_order[0] / first_order[1] == pytest.approx(4, rel=0.3), "of squares"
    assert distance("dpmpp-2m", 24) < first_order[1] / 15


def assert_alike(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=1e-14)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_one_frame_that_rolls_is_one_window(sampler: str) -> None:
    """The grid and all numbers are those of the sampler with a single window, but for the rounding of tensors of other
    shapes, which differs between processors."""
    rolled, each = Rolled(6, 5, window=6, overlap=5), 12
    rolled.run(each, sampler=sampler)
    known = torch.cat([rolled.video[:, :, :5], unit(6, 5)], dim=2)
    observed = (torch.arange(6) < 5).expand(6, -1)
    held = hold_known(ideal(PROCESS, range(6)), known, observed)
    more = {"noise": lambda like, _: torch.zeros_like(like)} if sampler == "ddpm" else {}
    levels = torch.where(observed, 20.0, grid(each)[:, None, None].double())
    made = SAMPLERS[sampler](held, known, levels, **more)
    assert_alike(made[:, :, 5], rolled.video[:, :, 5])


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_where_everything_fits_a_rolling_window_is_a_sampler_with_a_slope_of_levels(sampler: str) -> None:
    """But for rounding, until the first frame is done; later that one is shown at the clean end, where it is then."""
    rolled, each, active = Rolled(6, 3), 4, 3
    states = rolled.run(each, sampler=sampler)
    step = torch.arange(each * rolled.plan.slots + 1)[:, None]
    places = (step - each * torch.arange(active)).clamp(0, each * active)
    slope = torch.cat([torch.full((len(step), 3), 20.0).double(), grid(each * active)[places]], dim=1)
    levels = slope[:, None].expand(-1, 6, -1)
    z = torch.cat([rolled.video[:, :, :3], *(unit(6, number) for number in (3, 4, 5))], dim=2)
    held = hold_known(ideal(PROCESS, range(6)), z, (torch.arange(6) < 3).expand(6, -1))
    more = {"noise": lambda like, _: torch.zeros_like(like)} if sampler == "ddpm" else {}
    whole = SAMPLERS[sampler](held, z, levels, **more)
    torch.testing.assert_close(rolled.video, whole, rtol=0, atol=1e-4)
    assert_alike(rolled.video[:, :, 3], whole[:, :, 3])
    first = SAMPLERS[sampler](held, z, levels[: each + 1], **more) if sampler == "ddim" else None
    if first is not None:
        assert_alike(states[0].z[:, :, 0], first[:, :, 3])


def test_frames_that_have_not_begun_keep_their_noise_and_given_ones_their_values() -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    rolled = Rolled(12, 2, window=6, overlap=3)
    given = rolled.video.clone()

    def spy(window: Window, known: Tensor, observed: Tensor, noise: Noise) -> Denoise:
        def denoise(z: Tensor, level: Tensor) -> Tensor:
            seen.append((z.clone(), level.clone()))
            return ideal(PROCESS, window.frames)(z, level)

        return denoise

    list(
        roll(
            rolled.plan,
            lambda ranks: rolled.video[:, :, list(ranks)],
            denoise=spy,
            condition=hold_known,
            step=SAMPLER_STEPS["dpmpp-2m"],
            levels=grid(12),
            noise=RollingNoise(start=rolled.start, context=rolled.start, step=rolled.start),
        )
    )
    levels = grid(12)
    for number, (z, level) in enumerate(seen[:4]):  # the first slot: frame 2 alone is active
        torch.testing.assert_close(z[:, :, :2], given[:, :, :2], rtol=0, atol=1e-8)
        assert torch.equal(
            level[0], torch.tensor([20.0, 20.0, float(levels[number]), -20.0, -20.0, -20.0], dtype=torch.float64)
        )
        for place in (3, 4, 5):
            assert torch.equal(z[:, :, place], unit(12, place)[:, :, 0])


@pytest.mark.parametrize("at", [1, 3, 6])
def test_a_rolling_window_goes_on_from_its_state(at: int) -> None:
    """Bit for bit, from what a state holds and the finished frames."""
    whole, part = Rolled(12, 3), Rolled(12, 3)
    states = whole.run(3)
    state = states[at]
    done = [part.plan.rank(number) for number in range(part.plan.made) if number + part.plan.active <= state.slots]
    part.video[:, :, done] = whole.video[:, :, done]
    rest = part.run(3, state=state)
    assert len(rest) == len(states) - at - 1 and torch.equal(part.video, whole.video)


def test_history_guidance_goes_along() -> None:
    """Its scale 1 changes nothing; a larger one draws the first frame nearer to what the given ones say of it."""
    laws = {}
    for scale in (1.0, 1.5):
        rolled = Rolled(10, 3)
        rolled.run(16, scale=scale)
        laws[scale] = rolled.law()
    last, first = 2, 3
    assert float(laws[1.0][last, first]) == pytest.approx(float(covariance(PROCESS, [0, 1])[0, 1]), abs=0.01)
    spread = {scale: float(law[first, first] - law[last, first] ** 2) for scale, law in laws.items()}
    assert spread[1.5] < spread[1.0]


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(("total", "known"), [(20, 8), (9, 8), (12, 1), (5, 1), (7, 0), (3, 0), (30, 29)])
def test_the_plan_of_a_rolling_window(total: int, known: int, before: bool) -> None:
    """Every frame is sampled in `active` slots, one after the other; a window observes those that are there and done,
    the nearest ones, and has its full length where the video has."""
    way = range(total)[::-1] if before else range(total)
    plan = RollingPlan(way=way, known=known, window=6, overlap=3)
    sampled: dict[int, list[int]] = {}
    done = set(way[:known])
    for slot in range(plan.slots):
        window = plan.at(slot)
        making = [plan.rank(number) for number in plan.active_at(slot)]
        assert making and set(making) <= window.makes and window.observed <= done
        assert len(window.frames) == min(6, total) and list(window.frames) == sorted(window.frames)
        assert window.frames[-1] - window.frames[0] == len(window.frames) - 1
        assert len(window.observed) >= min(3, len(done)) and not window.makes & done
        for rank in making:
            sampled.setdefault(rank, []).append(slot)
        if (finished := plan.finished(slot)) is not None:
            done.add(plan.rank(finished))
    assert done == set(way)
    assert [sampled[plan.rank(f)] for f in range(plan.made)] == [list(range(f, f + 3)) for f in range(plan.made)]
    assert [sorted(window.makes) for window in plan.windows()] == [[plan.rank(f)] for f in range(plan.made)]

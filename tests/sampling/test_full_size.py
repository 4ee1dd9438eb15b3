"""Frames at the film's own size: given ones byte for byte, made ones by motion, read once and forgotten soon."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from vidiff_cli.errors import VidiffError
from vidiff_cli.motion import interpolate, optical_flow
from vidiff_cli.sampling.full_size import PAST, FullFrame, full_frames, plan_steps, to_bytes
from vidiff_cli.timeline import Timeline, extension, interpolation, join, loop, split_at_cuts

SIZE = (48, 64)
FPS = Fraction(12)


def picture(time: float, seed: int = 0, speed: tuple[float, float] = (1.3, -0.7)) -> np.ndarray:
    """A texture of waves (h w 3), that has moved for `time` frames."""
    rng = np.random.default_rng(seed)
    length, angle, phase = rng.uniform(8, 40, 16), rng.uniform(0, 2 * np.pi, 16), rng.uniform(0, 2 * np.pi, (3, 16))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    x, y = x - speed[0] * time, y - speed[1] * time
    along = x[..., None] * np.cos(angle) + y[..., None] * np.sin(angle)
    waves = np.sin(2 * np.pi * along[..., None, :] / length + 0.4 * phase).mean(-1)
    return (127.5 + 220 * waves).clip(0, 255).round().astype(np.uint8)


def film(count: int, seed: int = 0) -> list[np.ndarray]:
    return [picture(number, seed) for number in range(count)]


class Reader:
    """Hands out frames and counts them."""

    def __init__(self, frames: Sequence[np.ndarray]) -> None:
        self.frames, self.read = frames, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        if self.read == len(self.frames):
            raise StopIteration
        self.read += 1
        return self.frames[self.read - 1]


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return -10 * math.log10(float(np.square(one.astype(float) - other).mean()) / 255**2 + 1e-12)


def tensor(frame: np.ndarray) -> Tensor:
    return torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 127.5 - 1


UNEVEN = tuple(Fraction(number, 24) for number in (0, 1, 4, 5, 7, 10, 11, 14))
TIMELINES = {
    "twice the rate": (8, interpolation(8, FPS, factor=2)),
    "three times the rate": (5, interpolation(5, FPS, factor=3)),
    "24 to 60": (7, interpolation(7, Fraction(24), fps=Fraction(60))),
    "24 to 25": (7, interpolation(7, Fraction(24), fps=Fraction(25))),
    "half the rate": (7, interpolation(7, FPS, fps=FPS / 2)),
    "a variable rate": (8, interpolation(8, FPS, times=UNEVEN, fps=Fraction(48))),
    "copies at a cut": (8, split_at_cuts(interpolation(8, FPS, factor=3), starts={4}, same={2})),
    "after": (9, extension(9, FPS, new=3)),
    "after one frame": (1, extension(1, FPS, new=2)),
    "before": (6, extension(6, FPS, new=3, before=True)),
    "a loop": (6, loop(6, FPS, new=3, shown=2)),
    "a join": (6, join(3, 3, FPS, gap=3)),
}


@pytest.mark.parametrize("name", TIMELINES)
def test_every_written_frame_once_in_order_and_given_ones_byte_for_byte(name: str) -> None:
    """Also copies are their frame; only what is made has an uncertainty. A generator is as good as any iterator."""
    count, timeline = TIMELINES[name]
    frames = film(count)
    found = list(full_frames(timeline, Reader(frames)))
    assert [each.rank for each in found] == list(dict.fromkeys(timeline.written))
    for each in found:
        assert each.frame.shape == (*SIZE, 3) and each.frame.dtype == np.uint8
        shown = timeline.repeats.get(each.rank, each.rank)
        if shown in timeline.given:
            assert np.array_equal(each.frame, frames[timeline.given[shown]]) and each.uncertainty is None
        else:
            assert each.uncertainty is not None and each.uncertainty.shape == SIZE and each.uncertainty.min() >= 0
        assert len(frames) > 1 or np.array_equal(each.frame, frames[0]), "one frame is held"
    again = list(full_frames(timeline, (frame for frame in frames)))
    assert all(np.array_equal(one.frame, two.frame) for one, two in zip(found, again, strict=True))


@pytest.mark.parametrize("name", ["twice the rate", "three times the rate", "24 to 60", "a variable rate"])
def test_what_is_made_between_is_what_a_camera_had_seen(name: str) -> None:
    """At its own time: the film moves evenly."""
    count, timeline = TIMELINES[name]
    rate = {"24 to 60": 24, "a variable rate": 12}.get(name, 12)
    frames = [picture(float(timeline.times[rank] * rate)) for rank in sorted(timeline.given)]
    made = [each for each in full_frames(timeline, iter(frames)) if each.rank not in timeline.given]
    assert len(frames) == count and made
    for each in made:
        assert psnr(each.frame, picture(float(timeline.times[each.rank] * rate))) > 33


def test_between_it_is_interpolation_with_the_motion_around() -> None:
    frames = film(4)
    timeline = interpolation(4, FPS, factor=2)
    made = {each.rank: each for each in full_frames(timeline, iter(frames))}
    zero, one, two, three = map(tensor, frames)
    wanted, doubt = interpolate(one, two, [0.5], before=optical_flow(zero, one), after=optical_flow(two, three))
    assert np.array_equal(made[3].frame, to_bytes(wanted[:, :, 0]))
    assert np.allclose(made[3].uncertainty, 127.5 * doubt[0, 0, 0].numpy())


def test_beyond_the_end_motion_goes_on_and_backwards_before_the_beginning() -> None:
    frames = film(PAST + 2)
    after = [each.frame for each in full_frames(extension(PAST, FPS, new=2), iter(frames[:PAST]))]
    before = [each.frame for each in full_frames(extension(PAST, FPS, new=2, before=True), iter(frames[2:]))]
    assert psnr(after[PAST], frames[PAST]) > psnr(frames[PAST - 1], frames[PAST]) + 6
    assert psnr(before[1], frames[1]) > psnr(frames[2], frames[1]) + 6


def test_a_cut_is_not_crossed() -> None:
    """Neither where the timeline has scenes nor where it does not say so: two pictures are never mixed."""
    frames = [*film(3), *film(3, seed=9)]
    plain = interpolation(6, FPS, factor=2)
    for timeline in (plain, split_at_cuts(plain, starts={3})):
        found = {each.rank: each.frame for each in full_frames(timeline, iter(frames))}
        assert np.array_equal(found[5], frames[2])
    steps = plan_steps(split_at_cuts(plain, starts={3}))
    assert all(max(step.needs) <= 4 or min(step.needs) >= 6 for step in steps)


@pytest.mark.parametrize("flash", [2, 3])
def test_beside_a_flash_a_frame_follows_from_those_around(flash: int) -> None:
    """The flash itself stays as it is given; where it is lit nothing of it is on either side."""
    dark = film(6)
    frames = [np.full_like(each, 255) if number == flash else each for number, each in enumerate(dark)]
    found = {each.rank: each.frame for each in full_frames(interpolation(6, FPS, factor=2), iter(frames))}
    assert np.array_equal(found[2 * flash], frames[flash])
    for rank in (2 * flash - 1, 2 * flash + 1):
        true = picture(rank / 2)
        assert psnr(found[rank], true) > psnr(dark[rank // 2], true) + 5


@pytest.mark.parametrize(
    ("timeline", "ahead"),
    [
        (interpolation(40, FPS, factor=2), 3),
        (interpolation(40, Fraction(24), fps=Fraction(60)), 3),
        (split_at_cuts(interpolation(40, FPS, factor=2), starts={20}), 3),
        (extension(40, FPS, new=1), 1),
        (join(38, 2, FPS, gap=1), 3),
    ],
)
def test_the_source_is_read_a_few_frames_ahead_of_what_is_shown(timeline: Timeline, ahead: int) -> None:
    """And no more is kept than what later frames need."""
    reader, frames = Reader([picture(0)] * 40), 0
    for each in full_frames(timeline, reader):
        behind = sum(timeline.times[rank] <= timeline.times[each.rank] for rank in timeline.given)
        assert reader.read <= behind + ahead
        frames += 1
    assert frames == len(set(timeline.written))


def test_a_long_film_is_forgotten_as_it_goes() -> None:
    """Of the frames handed out few are alive at any time."""
    handed_out: list[weakref.ref[np.ndarray]] = []

    def source() -> Iterator[np.ndarray]:
        for _ in range(60):
            frame = np.zeros((*SIZE, 3), np.uint8)
            handed_out.append(weakref.ref(frame))
            yield frame
            del frame

    most = 0
    for each in full_frames(interpolation(60, FPS, factor=2), source()):
        del each
        most = max(most, sum(frame() is not None for frame in handed_out))
    assert len(handed_out) == 60 and most <= 6


def test_a_source_that_ends_early_is_told() -> None:
    with pytest.raises(VidiffError, match=r"the input ends early.*3 frames.*4 or more"):
        list(full_frames(interpolation(5, FPS, factor=2), iter(film(3))))


def test_corrections_are_asked_for_what_is_made_and_only_that() -> None:
    frames, timeline = film(3), interpolation(3, FPS, factor=2)
    asked: list[int] = []

    def correct(rank: int, frame: Tensor, uncertainty: Tensor) -> Tensor:
        asked.append(rank)
        assert frame.shape == (1, 3, *SIZE) and uncertainty.shape == (1, 1, *SIZE)
        return torch.full_like(frame, 0.2)

    found: list[FullFrame] = list(full_frames(timeline, iter(frames), correct=correct))
    assert asked == [1, 3]
    assert all((each.frame == 153).all() for each in found if each.rank in asked)
    assert all(np.array_equal(each.frame, frames[each.rank // 2]) for each in found if each.rank not in asked)
